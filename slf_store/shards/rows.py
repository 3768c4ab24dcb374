"""Reading scattered rows of a shard as a disk likes it: in the order of the file, adjacent rows in one read."""

from __future__ import annotations

import os
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
    if not len(rows):
        return
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    order = np.argsort(rows, kind="stable")
    rows, positions = rows[order], positions[order]
    starts, stops = join_rows(rows, size)
    firsts, counts = rows[starts], rows[stops - 1] - rows[starts] + 1
    # Where all of a read goes to one place in the same order, it goes there at once; the others pass through `scratch`.
    steps = np.concatenate([[0], np.cumsum((np.diff(rows) == 1) & (np.diff(positions) == 1))])
    straight = (steps[stops - 1] - steps[starts] + 1 == stops - starts) & (counts == stops - starts)
    scratch = np.empty((int(counts[~straight].max(initial=0)), *shape[1:]), dtype)
    reads = list(zip(*(x.tolist() for x in (starts, stops, firsts, counts, straight, positions[starts])), strict=True))
    asked = list(zip((offset + firsts * size).tolist(), (counts * size).tolist(), strict=True))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read that is not asked for
        for i, (start, stop, first, count, direct, position) in enumerate(reads):
            if i % AHEAD == 0:
                for begin, length in asked[i + AHEAD if i else 0 : i + 2 * AHEAD]:
                    os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_WILLNEED)
            into = out[position : position + count] if direct else scratch[:count]
            _read(descriptor, offset + first * size, into, path)
            if not direct:
                out[positions[start:stop]] = into[rows[start:stop] - first]
    finally:
        os.close(descriptor)


def join_rows(rows: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut sorted rows of `size` bytes into reads: where each starts and stops, as indices into `rows`.

    >>> join_rows(np.array([0, 1, 2, 50]), size=4096)
    (array([0, 3]), array([3, 4]))
    """
    far = np.flatnonzero((np.diff(rows) - 1) * size > GAP) + 1
    most = max(MOST // size, 1)
    starts: list[int] = []
    for start, stop in zip([0, *far.tolist()], [*far.tolist(), len(rows)], strict=True):
        while start < stop:
            starts.append(start)
            start += int(np.searchsorted(rows[start:stop], rows[start] + most))
    cuts = np.array(starts, np.int64)
    return cuts, np.append(cuts[1:], len(rows))


def _read(descriptor: int, offset: int, into: NDArray[Any], path: Path) -> None:
    view = into.data.cast("B")
    while len(view):
        count = os.preadv(descriptor, [view], offset)
        if count == 0:
            raise ShardError(f"shard {path} is shorter than its values", hint="restore it, or extract its clips again")
        view, offset = view[count:], offset + count
