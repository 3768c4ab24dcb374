"""The loader: batches of a snapshot in a deterministic order, gathered in one background thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slf_store.diffusion.batch import Batch
from slf_store.errors import SelectionError, ShardError
from slf_store.query.background import in_background
from slf_store.query.manifest import Manifest
from slf_store.query.order import samples_at, shares
from slf_store.query.packed import Buffer, PackedBatch, Rows, new_buffers
from slf_store.query.scatter import Scatter
from slf_store.query.systems import System

if TYPE_CHECKING:
    import torch

AHEAD = 2
"""Batches gathered ahead of the one in use."""
READ_AHEAD = 4
"""Batches that the disk is asked for before they are gathered, when values are not in memory."""
COLD = 1e9
"""Bytes a second below which a gather must have waited for the disk."""
DTYPES = ("float32", "bfloat16", "float16")

Step = tuple[NDArray[np.int64], int]
"""Samples of a batch, and the position after it."""


class Loader:
    """Batches of one part of a snapshot for one system.

    Example::

        loader = Loader(open_snapshot(store, "train"), system("full-input"), batch_size=32)
        for batch in loader.batches(position=0):  # endless
            batch.conditioning, batch.mask, batch.guide, batch.target

    Args:
        manifest: opened snapshot.
        system: which inputs to give.
        batch_size: samples in a batch of this rank.
        seed: of the order.
        device: where batches are made.
        dtype: of the conditioning matrix: float32, bfloat16 or float16.
        rank, world: this process among those that train together; each gets its share of every step.
        threads: threads that gather; one is as fast as the memory of most machines.
        writable: whether batches may be changed in place. If not, and somebody does, later batches may be wrong: on a
            CPU the memory of a batch that nobody holds any more is used again, and only what differs is written.

    Raises:
        SelectionError: an argument makes no sense, or the part holds no clip.
        ShardError: a clip lacks a constituent, and the snapshot was not frozen with `missing = zero`.
    """

    def __init__(
        self,
        manifest: Manifest,
        system: System,
        *,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: str = "float32",
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
        writable: bool = False,
    ) -> None:
        import torch

        if len(manifest) == 0:
            raise SelectionError(f"snapshot {manifest.name}: this part holds no clip", hint="freeze with another split")
        if batch_size < 1 or not 0 <= rank < world or threads < 1:
            raise SelectionError(f"batch size {batch_size}, rank {rank} of {world}, {threads} threads")
        if dtype not in DTYPES:
            raise SelectionError(f"dtype {dtype!r} of the conditioning matrix", hint=f"choose from {', '.join(DTYPES)}")
        self.manifest, self.system = manifest, system
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.device, self.threads = torch.device(device), threads
        kind = getattr(torch, dtype)
        self.scatter = Scatter(manifest, system, device=self.device, dtype=kind, writable=writable)
        self._rows = {name: Rows(manifest, manifest.constituents[name]) for name in self.scatter.names}
        self._refuse_missing()

    def batches(
        self, position: int = 0, samples: int | None = None, *, part: tuple[int, int] = (0, 1)
    ) -> Generator[Batch, None, None]:
        """Batches after `position` samples seen by all ranks together.

        Args:
            position: samples seen: the one number that resumes, with any batch size and number of ranks.
            samples: how many all ranks together shall see; None goes on for ever, epoch after epoch.
            part: (w, of): only every `of`-th batch, from the w-th on; what one of several worker processes makes.
        """
        return self._on_device(self.packed(position, samples, part=part))

    def packed(
        self, position: int = 0, samples: int | None = None, *, part: tuple[int, int] = (0, 1)
    ) -> Generator[PackedBatch, None, None]:
        """The same batches as values in stored precision; one is overwritten when the next is asked for."""
        return self._gathered(islice(self._steps(position, samples), part[0], None, part[1]))

    def once(self) -> Generator[Batch, None, None]:
        """Every sample once, in snapshot order, of this rank its share: for generation and validation."""
        steps = shares(0, len(self.manifest), batch_size=self.batch_size, rank=self.rank, world=self.world)
        blocks = ((np.arange(first, first + count, dtype=np.int64), after) for first, count, after in steps)
        return self._on_device(self._gathered(blocks))

    def _steps(self, position: int, samples: int | None) -> Iterator[Step]:
        for first, count, after in shares(
            position, samples, batch_size=self.batch_size, rank=self.rank, world=self.world
        ):
            mine = samples_at(first, count, seed=self.seed, n=len(self.manifest))
            if len(mine) != count:
                raise AssertionError(f"rank {self.rank} of {self.world} has {len(mine)} samples, not {count}")
            yield mine, after

    def _on_device(self, packed_batches: Iterator[PackedBatch]) -> Generator[Batch, None, None]:
        for packed in packed_batches:
            yield self.scatter(packed)
            self.scatter.wait()

    def _gathered(self, steps: Iterator[Step]) -> Generator[PackedBatch, None, None]:
        """Gather in one thread into a ring of buffers that are used again.

        While gathering is as slow as a disk, the disk is told early of what the next batches need.
        """
        pinned = self.device.type == "cuda"
        names = self.scatter.names
        ring = [new_buffers(self.manifest, names, self.batch_size, pinned=pinned) for _ in range(AHEAD + 1)]
        row_bytes = sum(rows.row_bytes for rows in self._rows.values())
        rate = 0.0

        def gather(step: Step, buffers: dict[str, Buffer]) -> PackedBatch:
            nonlocal rate
            samples, position = step
            start = time.perf_counter()
            for name, out in buffers.items():
                self._rows[name].gather(samples, out)
            values = {name: out.values[: len(samples)] for name, out in buffers.items()}
            rate = len(samples) * row_bytes / (time.perf_counter() - start)
            return PackedBatch(samples, values, position)

        def told_early() -> Iterator[Step]:
            coming: deque[Step] = deque()
            told, horizon = 0, 1
            while True:
                coming.extend(islice(steps, horizon - len(coming)))
                if not coming:
                    return
                if rate < COLD:
                    for samples, _ in islice(coming, told, None):
                        self._will_need(samples)
                told, horizon = len(coming) - 1, READ_AHEAD
                yield coming.popleft()

        return in_background(told_early(), gather, ring, threads=self.threads)

    def _will_need(self, samples: NDArray[np.int64]) -> None:
        for rows in self._rows.values():
            rows.will_need(samples)

    def _refuse_missing(self) -> None:
        for name, rows in self._rows.items():
            present = rows.located.present
            if self.manifest.missing != "zero" and not present.all():
                gone = self.manifest.clip_ids[~present]
                raise ShardError(
                    f"snapshot {self.manifest.name}, constituent {name}, clip {gone[0]}: no value ({len(gone)} clips "
                    f"lack it), though it was frozen with missing = {self.manifest.missing}",
                    hint="extract them again, or freeze anew with --missing zero",
                )
