"""Reading a shard: hot paths map the values, the plain path goes through h5py."""

from __future__ import annotations

import errno
import json
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ShardError

Found = TypeVar("Found")


@dataclass(frozen=True)
class ShardContents:
    """All that one shard holds.

    Attributes:
        constituent, version: what it holds.
        spec: code version, weights' checksum, parameters.
        clip_ids: (n,) int64.
        values: (n, ...) as stored.
        lengths: (n,) int32 true rows of each value; None where all have the same.
    """

    constituent: str
    version: str
    spec: dict[str, Any]
    clip_ids: NDArray[np.int64]
    values: NDArray[Any]
    lengths: NDArray[np.int32] | None


def read_shard(path: Path) -> ShardContents:
    """Read a whole shard through h5py.

    Raises:
        ShardError: the file is missing, damaged, or no shard.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return ShardContents(
                str(file.attrs["constituent"]),
                str(file.attrs["version"]),
                json.loads(file.attrs["spec"]),
                file["clip_id"][...],
                file["values"][...],
                file["length"][...] if "length" in file else None,
            )
    except (OSError, KeyError, ValueError) as error:
        raise _unreadable(path, error) from error


def map_shard(path: Path) -> ShardContents:
    """All of a shard with its `values` mapped: no bytes of them are read yet. The file is opened once.

    Raises:
        ShardError: the file is missing, not HDF5, no shard, cut short, or not contiguous.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = {name: str(file.attrs[name]) for name in ("constituent", "version", "spec")}
            clip_ids, lengths = file["clip_id"][...], file["length"][...] if "length" in file else None
            values = _map(path, file["values"].id)
        spec = json.loads(attributes["spec"])
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        if isinstance(error, ShardError):
            raise
        raise _unreadable(path, error) from error
    return ShardContents(attributes["constituent"], attributes["version"], spec, clip_ids, values, lengths)


def map_values(path: Path) -> NDArray[Any]:
    """Map the `values` of a shard: (n, ...) read-only, no bytes read yet.

    Raises:
        ShardError: the file is missing, not HDF5, cut short, or not contiguous.
    """
    return _with_values(path, _map)


def map_at(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map values of which :func:`find_values` said where they lie: a tenth of the time, HDF5 is not asked.

    Raises:
        ShardError: the file is missing or cut short.
    """
    try:
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def find_values(path: Path) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Where the `values` of a shard lie: offset in the file, (n, ...), dtype.

    Raises:
        ShardError: the file is missing, not HDF5, cut short, or not contiguous.
    """
    return _with_values(path, _find)


def _with_values(path: Path, use: Callable[[Path, Any], Found]) -> Found:
    """What `use` makes of the path and h5py's low-level dataset: the high level takes three times as long."""
    from h5py import h5d, h5f, h5p

    access = h5p.create(h5p.FILE_ACCESS)
    access.set_file_locking(False, False)
    try:
        file = h5f.open(bytes(path), h5f.ACC_RDONLY, access)
        try:
            return use(path, h5d.open(file, b"values"))
        finally:
            file.close()
    except (OSError, KeyError) as error:
        raise _unreadable(path, error) from error


def _map(path: Path, dataset: Any) -> NDArray[Any]:
    offset, shape, dtype = _find(path, dataset)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def _find(path: Path, dataset: Any) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """`dataset` is h5py's low-level one."""
    offset, shape, dtype = dataset.get_offset(), dataset.shape, dataset.dtype
    if offset is None:
        raise ShardError(f"shard {path}: values are not contiguous", hint="it was not written by this program")
    if path.stat().st_size < offset + int(np.prod(shape)) * dtype.itemsize:
        raise ShardError(f"shard {path} is shorter than its values", hint="restore it, or extract its clips again")
    return offset, shape, dtype


def will_need(mapped: NDArray[Any], row: int, rows: int = 1) -> None:
    """Ask the system to begin reading rows of what :func:`map_values` gave; it does not wait."""
    pages = mapped.base
    if isinstance(pages, mmap.mmap):
        row_bytes = mapped.strides[0]
        first = mapped.ctypes.data % mmap.ALLOCATIONGRANULARITY + row * row_bytes  # numpy maps from a page's begin
        start = first // mmap.PAGESIZE * mmap.PAGESIZE
        pages.madvise(mmap.MADV_WILLNEED, start, first + rows * row_bytes - start)


def read_values(path: Path) -> NDArray[Any]:
    """Read the `values` of a shard through h5py: (n, ...). The plain path, equal to :func:`map_values`."""
    return _read(path, "values")


def read_clip_ids(path: Path) -> NDArray[np.int64]:
    """Read the clip ids of a shard: (n,) int64."""
    return _read(path, "clip_id")


def _read(path: Path, name: str) -> NDArray[Any]:
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            values: NDArray[Any] = file[name][...]
            return values
    except (OSError, KeyError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ShardError:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENOMEM):
        return ShardError(
            f"shard {path} cannot be opened, too many are open: {error}",
            hint="run `slf compact`, so that there are fewer and larger ones, or raise `ulimit -n`",
        )
    return ShardError(
        f"shard {path} cannot be read: {error}", hint="restore it from a backup, or extract its clips again"
    )
