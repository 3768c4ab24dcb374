"""From packed rows to the conditioning matrix, on whatever device the batch lives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.diffusion.batch import Batch
from slf_store.query.background import in_parallel
from slf_store.query.dense import DenseBuffers
from slf_store.query.encode import ENCODERS, encode_values
from slf_store.query.layout import COLUMNS, ROWS, Block
from slf_store.query.manifest import Manifest
from slf_store.query.packed import PackedBatch
from slf_store.query.scaling import LIMIT, standardisation, unit_factor
from slf_store.query.systems import System

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT_ONCE = 1 << 19
"""Numbers worked on at a time on a CPU: smaller parts cost more in calls than they win by staying in the cache."""


class Scatter:
    """Places a system's inputs into (B, 256, 768) and says which rows are visible.

    Every number is made by the same float32 operations in the same order on every device, so that a CPU, a GPU and
    :func:`slf_store.query.plain.assemble_plain` give the same bits.

    Args:
        manifest: opened snapshot.
        system: inputs it is given; the others stay zero and masked.
        device: where batches are made.
        dtype: of the conditioning matrix.
        writable: whether those who get a batch may write into it. If not, what is zero in every batch is written once.
    """

    def __init__(
        self,
        manifest: Manifest,
        system: System,
        *,
        device: torch.device,
        dtype: torch.dtype,
        writable: bool = False,
    ) -> None:
        import torch

        self.manifest, self.system, self.device, self.dtype = manifest, system, device, dtype
        seen = [block for block in manifest.layout.blocks if block.name in system.inputs]
        self.arrays = [block for block in seen if block.name in manifest.constituents]
        self.attributes = [block for block in seen if block.name in ENCODERS]
        self.names = (
            tuple(block.name for block in self.arrays) + ("target",) + (("image_guide",) if system.guide else ())
        )
        self._codes: dict[str, NDArray[np.intp]] = {}
        self._encoded: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
        for block in self.attributes:
            self._codes[block.name], values = manifest.attributes.coded(block.name)
            self._encoded[block.name] = encode_values(block.name, values, block.scaling)
        self._statistics = {
            block.name: self._load_statistics(block) for block in self.arrays if block.scaling == "standard"
        }
        self._blank = _blank(self.arrays) if writable else []
        self._dense = DenseBuffers((ROWS, COLUMNS), dtype)
        self._images = {
            name: DenseBuffers(manifest.constituents[name].shape, torch.float32)
            for name in self.names
            if name in ("target", "image_guide")
        }
        self._copied: Any = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def _load_statistics(self, block: Block) -> tuple[Tensor, Tensor]:
        import torch

        mean, inverse = (part[: block.columns] for part in standardisation(self.manifest.normalisation[block.name]))
        return torch.from_numpy(mean).to(self.device), torch.from_numpy(inverse).to(self.device)

    def __call__(self, packed: PackedBatch) -> Batch:
        """The batch on the device. Until :meth:`wait` returns, the packed values must stay as they are."""
        import torch

        samples = packed.samples
        moved = {name: self._move(values) for name, values in packed.values.items()}
        if self._copied is not None:
            self._copied.record()
        matrix = self._dense.take(len(samples), self.device)
        for rows, columns in self._blank:
            matrix[:, rows, columns] = 0
        mask = np.zeros((len(samples), ROWS), bool)
        for block in self.attributes:
            encoded, visible = self._encoded[block.name]
            codes = self._codes[block.name][samples]
            matrix[:, *block.area] = torch.from_numpy(encoded[codes, None]).to(self.device, self.dtype)
            mask[:, block.area[0]] = visible[codes, None]
        images = {name: buffers.take(len(samples), self.device) for name, buffers in self._images.items()}

        def fill(some: slice) -> None:
            for block in self.arrays:
                self._write(block, block.cut(moved[block.name][some]), matrix[some, *block.area])
            for name, image in images.items():
                to_image(moved[name][some], image[some])

        if self.device.type == "cpu":
            in_parallel(fill, len(samples))
        else:
            fill(slice(None))
        for block in self.arrays:
            present = self.manifest.constituents[block.name].shard[samples] >= 0
            mask[:, block.area[0]] = present[:, None]
            if not present.all():
                matrix[torch.from_numpy(~present).to(self.device), block.area[0]] = 0
        return Batch(
            conditioning=matrix,
            mask=torch.from_numpy(mask).to(self.device),
            guide=_channels_first(images["image_guide"]) if self.system.guide else None,
            target=_channels_first(images["target"]),
            clip_ids=self.manifest.clip_ids[samples],
            position=packed.position,
        )

    def wait(self) -> None:
        """Wait until a GPU has copied the packed values of the last batch; not for what it computes with them."""
        if self._copied is not None:
            self._copied.synchronize()

    def _move(self, values: NDArray[Any]) -> Tensor:
        import torch

        tensor = torch.from_numpy(values)
        return tensor.to(self.device, non_blocking=True) if self.device.type != "cpu" else tensor

    def _write(self, block: Block, values: Tensor, out: Tensor) -> None:
        """Scaled rows into their place (B, rows, columns)."""
        import torch

        for some in _parts(values):
            rows = values[some].to(torch.float32, copy=True)
            if block.scaling == "unit":
                rows = rows.mul_(unit_factor(rows, square_root))
            elif block.scaling == "factor":
                rows = rows.mul_(block.factor).clamp_(-LIMIT, LIMIT)
            else:
                mean, inverse = self._statistics[block.name]
                rows = rows.sub_(mean).mul_(inverse).clamp_(-LIMIT, LIMIT)
            out[some] = rows


def _blank(blocks: list[Block]) -> list[tuple[slice, slice]]:
    """The places of (rows, columns) that no array is written to."""
    places, row = [], 0
    for block in sorted(blocks, key=lambda block: block.first):
        rows, columns = block.area
        places += [
            (slice(row, rows.start), slice(None)),
            (rows, slice(columns.start)),
            (rows, slice(columns.stop, None)),
        ]
        row = rows.stop
    places.append((slice(row, ROWS), slice(None)))
    return [
        (rows, columns)
        for rows, columns in places
        if rows.start < rows.stop and columns.start != COLUMNS and columns.stop != 0
    ]


def square_root(values: Tensor) -> Tensor:
    """Correctly rounded square roots of float32."""
    return values.double().sqrt().float()


def to_image(values: Tensor, out: Tensor) -> None:
    """uint8 (B, h, w, 3) to float32 in [-1, 1], of the same shape."""
    for some in _parts(values):
        out[some].copy_(values[some]).mul_(1 / 127.5).sub_(1.0)


def _channels_first(image: Tensor) -> Tensor:
    """(B, h, w, 3) as (B, 3, h, w); in memory the channels stay last."""
    return image.permute(0, 3, 1, 2)


def _parts(values: Tensor) -> Iterator[slice]:
    """The samples in parts that a CPU's cache holds; on a GPU all at once."""
    numbers = max(1, values[:1].numel())
    step = max(1, AT_ONCE // numbers) if values.device.type == "cpu" else len(values)
    return (slice(start, start + step) for start in range(0, len(values), step))
