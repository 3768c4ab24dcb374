"""Merging shards of one constituent version into one, row by row as they are stored, in little memory."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ShardError
from slf_store.shards.checksum import file_checksum
from slf_store.shards.flush import flush
from slf_store.shards.reader import map_values
from slf_store.shards.writer import TEMPORARY_PREFIX, SealedShard, unwritable

BLOCK_BYTES = 16 << 20
"""Values in memory at once."""
SLACK_BYTES = 64 << 10
"""More than HDF5 adds to the values."""
COPIED = ("format_version", "constituent", "version", "spec")


@dataclass(frozen=True)
class Part:
    """What one shard gives to a merged one.

    Attributes:
        path: shard file.
        rows: (n,) int64 rows wanted, in the order they shall have.
        clip_ids: (n,) int64 clips that must stand at those rows.
    """

    path: Path
    rows: NDArray[np.int64]
    clip_ids: NDArray[np.int64]


def merge_shards(target: Path, parts: Sequence[Part]) -> SealedShard:
    """Write one shard with the parts' rows one after the other; whole under its name or not there at all.

    Args:
        target: folder `<shards>/<constituent>/<version>`.
        parts: at least one row in all; of the same constituent version.

    Returns:
        The sealed shard, its path relative to the shard folder.

    Raises:
        ShardError: a part is damaged or holds other clips at those rows, or the disk refuses.
    """
    name = f"{uuid.uuid4().hex}.h5"
    temporary = target / f"{TEMPORARY_PREFIX}{name}"
    try:
        _need_room(temporary, parts)
        _write(temporary, parts)
        checksum = file_checksum(temporary)
        size = temporary.stat().st_size
        temporary.rename(target / name)
        flush(target)
    except OSError as error:
        raise unwritable(target.parent.name, target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    path = f"{target.parent.name}/{target.name}/{name}"
    return SealedShard(path, sum(len(part.rows) for part in parts), size, checksum)


def _need_room(path: Path, parts: Sequence[Part]) -> None:
    """Fail now where the disk has no room: HDF5 cannot even close a file that it could not write."""
    values = sum(len(part.rows) * (map_values(part.path)[:1].nbytes + 12) for part in parts)
    try:
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, values + SLACK_BYTES)
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, parts: Sequence[Part]) -> None:
    import h5py

    total = sum(len(part.rows) for part in parts)
    with h5py.File(path, "x", libver="latest") as file:
        at = 0
        for part in parts:
            mapped, lengths = map_values(part.path), _check(part)
            if not at:
                _start(file, part.path, total, mapped, lengths is not None)
            elif mapped.shape[1:] != file["values"].shape[1:] or mapped.dtype != file["values"].dtype:
                raise ShardError(f"shard {part.path} holds values of another shape", hint="run `slf verify`")
            step = max(1, BLOCK_BYTES // max(1, mapped[:1].nbytes))
            for start in range(0, len(part.rows), step):
                rows = part.rows[start : start + step]
                file["values"][at + start : at + start + len(rows)] = mapped[rows]
            file["clip_id"][at : at + len(part.rows)] = part.clip_ids
            if lengths is not None:
                file["length"][at : at + len(part.rows)] = lengths
            at += len(part.rows)
    flush(path)


def _start(file: Any, first: Path, total: int, mapped: NDArray[Any], variable: bool) -> None:
    """Empty datasets of the whole size, contiguous and unfiltered, with the first shard's attributes."""
    import h5py

    file.create_dataset("values", (total, *mapped.shape[1:]), mapped.dtype.newbyteorder("<"))
    file.create_dataset("clip_id", (total,), "<i8")
    if variable:
        file.create_dataset("length", (total,), "<i4")
    with h5py.File(first, "r", locking=False) as source:
        for name in COPIED:
            file.attrs[name] = source.attrs[name]
    file.attrs["created_at"] = dt.datetime.now(dt.UTC).isoformat()
    file.attrs["libraries"] = json.dumps(
        {"python": platform.python_version(), "numpy": np.__version__, "h5py": h5py.__version__}
    )


def _check(part: Part) -> NDArray[np.int32] | None:
    """True rows of each wanted value (None where all have the same), after a look whose they are."""
    import h5py

    with h5py.File(part.path, "r", locking=False) as file:
        clips = file["clip_id"][...]
        lengths = file["length"][...] if "length" in file else None
    if len(part.rows) and (part.rows.max() >= len(clips) or not np.array_equal(clips[part.rows], part.clip_ids)):
        raise ShardError(f"shard {part.path} holds other clips than the database says", hint="run `slf verify`")
    return None if lengths is None else lengths[part.rows]
