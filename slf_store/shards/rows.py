"""Reading scattered rows of a shard as a disk likes it: in the order of the file, adjacent rows in one read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ShardError
from slf_store.shards.reader import find_values

GAP = 16 * 1024
"""Bytes between two rows up to which one read takes both: passing over them costs a disk less than another read."""
MOST = 4 * 2**20
"""Most bytes of one read; the reader holds no more besides what it fills."""
AHEAD = 64
"""Reads that the kernel is told of beforehand, so that the disk always has several to do."""


def read_rows(path: Path, rows: NDArray[np.int64], out: NDArray[Any], positions: NDArray[np.int64]) -> None:
    """Fill `out[positions[i]] = values[rows[i]]` from a shard, without mapping it.

    A map that is not in memory yet is read page by page, each when it is touched, with the disk waiting in between;
    this tells the kernel of :data:`AHEAD` reads at a time. The plain way is h5py's.

    Args:
        path: shard.
        rows: (n,) rows in any order, also repeated.
        out: (m, *shape) array of the shard's dtype.
        positions: (n,) where each goes.

    Raises:
        ShardError: the file is missing, damaged, cut short, holds other values than `out`, or has no such row.
    """
    offset, shape, dtype = find_values(path)
    if shape[1:] != out.shape[1:] or dtype != out.dtype:
        raise ShardError(f"shard {path} holds {dtype} {shape[1:]}, not {out.dtype} {out.shape[1:]}")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < shape[0]:
        raise ShardError(f"shard {path} has {shape[0]} rows, not {int(rows.max())}", hint="run `slf verify`")
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    order = np.argsort(rows, kind="stable")
    rows, positions = rows[order], positions[order]
    runs = list(join_rows(rows, size))
    scratch = np.empty((max((int(rows[b - 1] - rows[a]) + 1 for a, b in runs), default=0), *shape[1:]), dtype)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read that is not asked for
        for i, (start, stop) in enumerate(runs):
            if i % AHEAD == 0:
                for a, b in runs[i + AHEAD if i else 0 : i + 2 * AHEAD]:
                    length = (int(rows[b - 1] - rows[a]) + 1) * size
                    os.posix_fadvise(descriptor, offset + int(rows[a]) * size, length, os.POSIX_FADV_WILLNEED)
            first, count = int(rows[start]), int(rows[stop - 1] - rows[start]) + 1
            where = positions[start:stop]
            if count == stop - start == where[-1] - where[0] + 1 and (np.diff(where) == 1).all():
                _read(descriptor, offset + first * size, out[where[0] : where[0] + count], path)
                continue
            _read(descriptor, offset + first * size, scratch[:count], path)
            out[where] = scratch[rows[start:stop] - first]
    finally:
        os.close(descriptor)


def join_rows(rows: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Cut sorted rows of `size` bytes into reads: (start, stop) of each, as indices into `rows`.

    >>> list(join_rows(np.array([0, 1, 2, 50]), size=4096))
    [(0, 3), (3, 4)]
    """
    if not len(rows):
        return
    start = 0
    far = np.flatnonzero((np.diff(rows) - 1) * size > GAP) + 1
    most = max(MOST // size, 1)
    for stop in [*far.tolist(), len(rows)]:
        while rows[stop - 1] - rows[start] >= most:
            cut = start + int(np.searchsorted(rows[start:stop], rows[start] + most))
            yield start, cut
            start = cut
        yield start, stop
        start = stop


def _read(descriptor: int, offset: int, into: NDArray[Any], path: Path) -> None:
    view = into.data.cast("B")
    while len(view):
        count = os.preadv(descriptor, [view], offset)
        if count == 0:
            raise ShardError(f"shard {path} is shorter than its values", hint="restore it, or extract its clips again")
        view, offset = view[count:], offset + count
