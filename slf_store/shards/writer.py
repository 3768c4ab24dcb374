"""Writing a shard: temporary name, fsync, checksum, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import io
import json
import os
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ShardError
from slf_store.faults import fault_point
from slf_store.shards.checksum import file_checksum
from slf_store.shards.flush import flush

FORMAT_VERSION = 1
TEMPORARY_PREFIX = ".writing-"


@dataclass(frozen=True)
class SealedShard:
    """A shard that is complete on disk; nobody knows it until PostgreSQL does.

    Attributes:
        path: file, relative to the shard folder.
        rows: clips in it.
        bytes: file size.
        checksum: BLAKE2b-128 of the file.
    """

    path: str
    rows: int
    bytes: int
    checksum: str


def seal_shard(
    folder: Path,
    *,
    constituent: str,
    version: str,
    spec: Mapping[str, Any],
    clip_ids: NDArray[np.int64],
    values: NDArray[Any],
    lengths: NDArray[np.int32] | None = None,
) -> SealedShard:
    """Write one shard so that it is either whole under its name or not there at all.

    Args:
        folder: the store's shard folder; the file goes to `<folder>/<constituent>/<version>/`.
        constituent: constituent name.
        version: its version.
        spec: code version, weights' checksum, parameters; kept in the file.
        clip_ids: (n,) int64.
        values: (n, ...) little-endian array, written contiguous and unfiltered.
        lengths: (n,) true rows of each value, for variable-length constituents.

    Raises:
        ShardError: the arrays do not agree, or the disk refuses (full, read-only).
    """
    if len(clip_ids) != len(values) or len(values) == 0:
        raise ShardError(f"shard of {constituent}: {len(clip_ids)} clips for {len(values)} values")
    target = folder / constituent / version
    name = f"{uuid.uuid4().hex}.h5"
    temporary = target / f"{TEMPORARY_PREFIX}{name}"
    image = _image(constituent, version, spec, clip_ids, values, lengths)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            fault_point("seal.opened")
            file.write(image)
            file.flush()
            fault_point("seal.written")
            os.fsync(file.fileno())
        fault_point("seal.fsynced")
        checksum = file_checksum(temporary)
        fault_point("seal.checksummed")
        temporary.rename(target / name)
        fault_point("seal.renamed")
        for level in (target, target.parent, folder):  # the folders may be new, too
            flush(level)
        fault_point("seal.folder_fsynced")
    except OSError as error:
        for path in (temporary, target / name):
            with contextlib.suppress(OSError):
                path.unlink()
        raise unwritable(constituent, target, error) from error
    return SealedShard(f"{constituent}/{version}/{name}", len(clip_ids), len(image), checksum)


def _image(
    constituent: str,
    version: str,
    spec: Mapping[str, Any],
    clip_ids: NDArray[np.int64],
    values: NDArray[Any],
    lengths: NDArray[np.int32] | None,
) -> memoryview:
    """The bytes of the file. HDF5 itself never sees the disk: when one is full it cannot even close its file."""
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w", libver="latest") as file:
        little_endian = values.dtype.newbyteorder("<")
        file.create_dataset("values", data=np.ascontiguousarray(values, dtype=little_endian))
        file.create_dataset("clip_id", data=clip_ids.astype("<i8"))
        if lengths is not None:
            file.create_dataset("length", data=lengths.astype("<i4"))
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["constituent"] = constituent
        file.attrs["version"] = version
        file.attrs["spec"] = json.dumps(spec, sort_keys=True)
        file.attrs["created_at"] = dt.datetime.now(dt.UTC).isoformat()
        file.attrs["libraries"] = json.dumps(
            {"python": platform.python_version(), "numpy": np.__version__, "h5py": h5py.__version__}
        )
    return image.getbuffer()


def unwritable(constituent: str, target: Path, error: OSError) -> ShardError:
    """The error of a shard that the disk refuses."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ShardError(
            f"the disk is full: cannot write a shard of {constituent} in {target} ({error.strerror})",
            hint="free some space, then run the same command again: nothing is lost",
        )
    return ShardError(
        f"cannot write a shard of {constituent} in {target}: {error}",
        hint="free space or correct the permissions, then run the same command again: nothing is lost",
    )
