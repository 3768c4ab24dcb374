"""Packed rows: the stored values of a batch as they lie in the shards, gathered into reused buffers."""

from __future__ import annotations

import ctypes
import math
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ShardError
from slf_store.query.manifest import Located, Manifest
from slf_store.shards.reader import map_at, map_values, will_need

if TYPE_CHECKING:
    from torch import Tensor

UNITS = {8: "int64", 4: "int32", 2: "int16", 1: "uint8"}
"""Bytes that are copied as one number, by how far the addresses of all rows are divisible."""


@dataclass
class PackedBatch:
    """Values of some samples, still in stored precision.

    Attributes:
        samples: (B,) int64 indices into the manifest.
        values: {constituent: (B, *shape)}; zeros where a sample has none.
        position: samples seen up to and including this batch.
    """

    samples: NDArray[np.int64]
    values: dict[str, NDArray[Any]]
    position: int


class Buffer:
    """Room for a batch of one constituent, and the same bytes as rows of units to copy into.

    Args:
        values: (≥ B, *shape) contiguous.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self._units: dict[int, Tensor] = {}

    def units(self, n: int, unit: int) -> Tensor:
        """The first n rows as numbers of `unit` bytes: (n, row bytes / unit)."""
        import torch

        if unit not in self._units:
            self._units[unit] = torch.from_numpy(self.values.reshape(len(self.values), -1).view(UNITS[unit]))
        rows = self._units[unit]
        return rows if n == len(rows) else rows[:n]


class Rows:
    """Rows of one constituent, gathered from the maps of its shards by one `torch.index_select` a batch.

    The maps of all shards lie in one address space. So one strided view that begins at the lowest map, with an
    (overlapping) row at every unit of bytes, reaches every row of every shard by one index. Shards are opened when
    first needed, in each process anew: this is safe under fork and spawn.
    """

    def __init__(self, manifest: Manifest, located: Located) -> None:
        self.manifest, self.located = manifest, located
        self.row_bytes = math.prod(located.shape) * located.dtype.itemsize
        self._maps: dict[int, NDArray[Any]] = {}
        self._asked: set[int] = set()
        self._starts = np.full(len(located.paths), -1, np.int64)
        self._ends = np.zeros(len(located.paths), np.int64)
        if len(located.row) and located.row.min() < 0:  # what is gathered is not looked at again
            raise ShardError(f"snapshot {manifest.name}, constituent {located.name}: a row below 0")
        self._last = np.zeros(len(located.paths), np.int32)  # as `row`: of one type, the next line is 15 times as fast
        np.maximum.at(self._last, located.shard[located.present], located.row[located.present])
        self._view: Tensor | None = None
        self._at: NDArray[np.int64] | None = None  # places of all samples, once all shards are open and none is missing
        self._base, self._unit = 0, 1

    def __reduce__(self) -> tuple[type[Rows], tuple[Manifest, Located]]:
        return Rows, (self.manifest, self.located)

    def gather(self, samples: NDArray[np.int64], out: Buffer) -> None:
        """Copy rows into `out`; zeros for samples that have none.

        Raises:
            ShardError: naming snapshot, constituent and clip.
        """
        if self._at is not None:
            return self._copy(self._at.take(samples), out)
        shards, rows = self.located.shard[samples], self.located.row[samples]
        present = shards >= 0
        if not present.all():
            values = out.values[: len(samples)]
            values[~present] = 0
            if present.any():
                found = Buffer(np.empty((int(present.sum()), *self.located.shape), self.located.dtype))
                self.gather(samples[present], found)
                values[present] = found.values
            return
        self._open(shards)
        self._copy(self._places(shards, rows), out)

    def _places(self, shards: NDArray[np.int32], rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Where rows lie in the view."""
        return (self._starts[shards] - self._base + rows.astype(np.int64) * self.row_bytes) // self._unit

    def _copy(self, places: NDArray[np.int64], out: Buffer) -> None:
        import torch

        assert self._view is not None
        torch.index_select(self._view, 0, torch.from_numpy(places), out=out.units(len(places), self._unit))

    def will_need(self, samples: NDArray[np.int64]) -> None:
        """Let the disk begin to read rows that are gathered soon, in the order in which they lie."""
        samples = samples[self.located.shard[samples] >= 0]
        shards, rows = self.located.shard[samples], self.located.row[samples]
        self._open(shards)
        if self.row_bytes < mmap.PAGESIZE:  # hardly more to read than one row, and far fewer requests
            for shard in set(shards.tolist()) - self._asked:
                will_need(self._maps[shard], 0, len(self._maps[shard]))
                self._asked.add(shard)
            return
        for i in np.lexsort((rows, shards)).tolist():
            will_need(self._maps[int(shards[i])], int(rows[i]))

    def _open(self, shards: NDArray[np.int32]) -> None:
        """Map those shards that are not mapped yet, and look over all maps anew."""
        import torch

        closed = np.unique(shards[self._starts[shards] < 0]).tolist()
        if not closed:
            return
        for shard in closed:
            mapped = self._maps[shard] = self._map(shard)
            self._starts[shard] = mapped.ctypes.data
            self._ends[shard] = mapped.ctypes.data + mapped.nbytes
        starts = self._starts[self._starts >= 0]
        self._base = int(starts.min())
        self._unit = math.gcd(8, self.row_bytes, int(np.gcd.reduce(starts - self._base)))
        length = int(self._ends.max()) - self._base
        everything = (ctypes.c_uint8 * length).from_address(self._base)
        units = torch.frombuffer(everything, dtype=getattr(torch, UNITS[self._unit]), count=length // self._unit)
        width = self.row_bytes // self._unit
        self._view = units.as_strided((len(units) - width + 1, width), (1, 1))
        if self._starts.min() >= 0 and self.located.present.all():
            self._at = self._places(self.located.shard, self.located.row)

    def _map(self, shard: int) -> NDArray[Any]:
        """The map of a shard, which must hold every row that the manifest names: nothing checks that later."""
        path, located = self.located.paths[shard], self.located
        try:
            if located.heads:
                offset, rows = located.heads[shard]
                mapped = map_at(path, offset, (rows, *located.shape), located.dtype)
            else:
                mapped = map_values(path)
            if (mapped.shape[1:], mapped.dtype) != (located.shape, located.dtype) or len(mapped) <= self._last[shard]:
                raise ShardError(
                    f"shard {path} holds {mapped.shape} {mapped.dtype}, not row {self._last[shard]} of "
                    f"{located.shape} {located.dtype} as the database says",
                    hint="run `slf verify`, then extract the clip again",
                )
        except ShardError as error:
            clip = self.manifest.clip_ids[(located.shard == shard) & (located.row == self._last[shard])][0]
            raise ShardError(
                f"snapshot {self.manifest.name}, constituent {located.name}, clip {clip}: {error.what}",
                hint=error.hint,
            ) from error
        return mapped


def new_buffers(manifest: Manifest, names: tuple[str, ...], batch_size: int, *, pinned: bool) -> dict[str, Buffer]:
    """Buffers for one batch, in page-locked memory when a GPU will copy from them."""
    import torch

    buffers: dict[str, Buffer] = {}
    for name in names:
        located = manifest.constituents[name]
        empty = torch.zeros((batch_size, *located.shape), dtype=getattr(torch, located.dtype.name), pin_memory=pinned)
        buffers[name] = Buffer(empty.numpy())
    return buffers
