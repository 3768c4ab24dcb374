"""How many rows of a network call fit into memory: planned from the network itself, halved where that was too many."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from slf_store.diffusion.config import UnetConfig
from slf_store.diffusion.unet import Condition, SlfUnet
from slf_store.errors import ConfigError

MOST_ROWS = {"cpu": 32, "cuda": 256}
"""More rows at once make nothing faster: 32 fill a CPU's caches, 256 a GPU's units."""
SHARE = 0.5
"""Share of the free memory that is planned with; the rest is for what libraries take beside tensors, and for others."""
CGROUP = Path("/sys/fs/cgroup")


class RowLimit:
    """How many rows one network call may hold. A row is one noisy image in one branch.

    >>> limit = RowLimit(4)
    >>> torch.cat(limit.calls(lambda part: torch.arange(10)[part], 10)).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    def __init__(self, rows: int) -> None:
        self.rows = max(1, rows)

    def calls(self, call: Callable[[slice], Tensor], n: int) -> list[Tensor]:
        """`call(part)` for parts of n rows. Where a GPU runs out of memory the limit is halved, for good, and the part
        is computed again.

        Raises:
            ConfigError: a single row does not fit.
        """
        done: list[Tensor] = []
        at = 0
        while at < n:
            part = slice(at, min(at + self.rows, n))
            try:
                done.append(call(part))
                at = part.stop
                continue
            except torch.OutOfMemoryError:  # what it holds is let go of at the end of this block
                if self.rows == 1:
                    raise ConfigError(
                        "not even one image fits into the GPU's memory", hint="use --device cpu, or free the GPU"
                    ) from None
            self.rows = max(1, min(self.rows, part.stop - part.start) // 2)
            torch.cuda.empty_cache()
        return done


def plan_rows(configs: tuple[UnetConfig, ...], device: torch.device | str) -> RowLimit:
    """As many rows as fit into half of the free memory of the device, for the largest of the networks."""
    kind = torch.device(device).type
    room = SHARE * free_bytes(device)
    fit = min(int(room // row_bytes(config)) for config in configs)
    return RowLimit(min(fit, MOST_ROWS.get(kind, MOST_ROWS["cuda"])))


def row_bytes(config: UnetConfig) -> int:
    """Bytes that one more row takes at the peak of a call, weights not counted; nothing is computed.

    The call is followed on torch's `meta` device, whose tensors have shapes and no memory.
    """
    with torch.device("meta"):
        unet = SlfUnet(config).eval()
        peaks = [_peak(unet, rows) for rows in (1, 2)]
    return peaks[1] - peaks[0]


def free_bytes(device: torch.device | str) -> int:
    """Memory a process can still have: of a GPU, or of this machine within its control group."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    available: int = psutil.virtual_memory().available
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return available
    return available if limit == "max" else max(0, min(available, int(limit) - used))


@torch.inference_mode()
def _peak(unet: SlfUnet, rows: int) -> int:
    config = unet.config
    tokens = torch.empty(rows, 1 + config.latents, config.cond_dim)
    condition = Condition(tokens, torch.empty(rows, config.vector_dim))
    noisy, low = torch.empty(rows, 3, config.size, config.size), torch.empty(rows, 3, config.low_size, config.low_size)
    grid = torch.empty(rows, 3, config.grid, config.grid)
    with _LiveBytes() as live:
        unet.denoise(noisy, torch.zeros(rows), condition, low, augment=torch.zeros(rows), augment_noise=grid)
    peak: int = live.peak
    return peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors made inside, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, storage.nbytes())

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
