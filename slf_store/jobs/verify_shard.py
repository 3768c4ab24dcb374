"""Verifying one shard: the file against its checksum, every value against its row."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ShardError
from slf_store.shards.reader import ShardContents, map_shard

BLOCK = 1 << 20
_of_thread = threading.local()


@dataclass
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: a short word, e.g. `checksum`, `value`, `missing`.
        file: path relative to the store; None where the damage is in a table.
        constituent: `name@version`, or None.
        message: what is wrong.
        clip_id: key of the clip whose value it is, or None.
        clip: its natural key, `identity/video/clip`.
    """

    kind: str
    file: str | None
    constituent: str | None
    message: str
    clip_id: int | None = None
    clip: str | None = None


@dataclass
class ShardCheck:
    """What came out for one shard: bytes read, values checked, values without a checksum, findings."""

    bytes: int = 0
    values: int = 0
    unhashed: int = 0
    findings: list[Finding] = field(default_factory=list)


def check_shard(folder: Path, shard: dict[str, Any], rows: Sequence[Any], read: Callable[[int], None]) -> ShardCheck:
    """Check one shard.

    Args:
        folder: the store's shard folder.
        shard: its row, with its constituent's name, version, shape, dtype and spec.
        rows: (clip_id, shard_row, value_hash, value_rows) of every value that lies in it.
        read: told the bytes of the file as they are read.
    """
    path, check = folder / shard["path"], ShardCheck()
    label = f"{shard['name']}@{shard['version']}"

    def found(kind: str, message: str, clip: int | None = None) -> None:
        check.findings.append(Finding(kind, f"shards/{shard['path']}", label, message, clip))

    try:
        size, checksum = _read_file(path, read)
    except FileNotFoundError:
        found("missing", f"the file is not there; {len(rows)} values lay in it")
        return check
    except OSError as error:
        found("unreadable", f"the file cannot be read: {error.strerror or error}")
        return check
    check.bytes = size
    if size != shard["bytes"]:
        found("size", f"the file has {size} bytes, {shard['bytes']} were sealed")
    if checksum != shard["checksum"]:
        found("checksum", f"the file's checksum is {checksum}, {shard['checksum']} was sealed")
    try:
        contents = map_shard(path)
    except ShardError as error:
        found("unreadable", f"{len(rows)} values cannot be read: {error.what}")
        return check
    _check_facts(contents, shard, found)
    values, clips, lengths = contents.values, contents.clip_ids, contents.lengths
    for clip, row, digest, value_rows in rows:
        if row is None or row >= min(len(values), len(clips)):
            found("row", f"row {row} is not in the shard", clip)
        elif clips[row] != clip:
            found("row", f"row {row} is of clip {clips[row]}", clip)
        else:
            value = values[row] if lengths is None else values[row, : lengths[row]]
            if lengths is not None and value_rows is not None and lengths[row] != value_rows:
                found("value", f"row {row} has {lengths[row]} rows of numbers, {value_rows} were extracted", clip)
            elif digest is None:
                check.unhashed += 1
            elif value_hash(value) != digest:
                found("value", f"the value in row {row} is not the one that was extracted", clip)
            check.values += 1
    return check


def value_hash(value: NDArray[Any]) -> int:
    """BLAKE2b-64 of a stored value's bytes, as `extraction.value_hash` has it."""
    digest = hashlib.blake2b(np.ascontiguousarray(value).data, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _read_file(path: Path, read: Callable[[int], None]) -> tuple[int, str]:
    """Size and BLAKE2b-128 of a file, read into a buffer that the thread keeps."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    if not hasattr(_of_thread, "buffer"):
        _of_thread.buffer = memoryview(bytearray(BLOCK))
    buffer = _of_thread.buffer
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            size += count
            read(count)
    return size, digest.hexdigest()


def _check_facts(contents: ShardContents, shard: dict[str, Any], found: Callable[..., None]) -> None:
    """What the file says of itself, held against its constituent."""
    if contents.constituent != shard["name"] or contents.version != shard["version"]:
        found("attributes", f"the file says it holds {contents.constituent}@{contents.version}")
    if contents.spec != shard["spec"]:
        found("attributes", "the file's spec is not its constituent's")
    values, clips = contents.values, contents.clip_ids
    if len(values) != shard["rows"] or len(clips) != shard["rows"]:
        found("rows", f"the file has {len(values)} values of {len(clips)} clips, {shard['rows']} were sealed")
    if values.shape[1:] != tuple(shard["shape"]) or values.dtype != np.dtype(shard["dtype"]):
        stated = f"{shard['dtype']} {tuple(shard['shape'])}"
        found("attributes", f"values are {values.dtype} {values.shape[1:]}, not {stated}")
