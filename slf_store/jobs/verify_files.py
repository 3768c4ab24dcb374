"""Verifying the files of runs: checkpoints and generated pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slf_store.jobs.verify_shard import Finding
from slf_store.shards.checksum import file_checksum


@dataclass
class FileCheck:
    """What came out for one file."""

    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_checkpoint(home: Path, row: dict[str, Any]) -> FileCheck:
    """A checkpoint against the checksums its rows give.

    Training writes a checkpoint before it registers it. One that has seen more samples than its row says, and was
    written after it, is no damage: training goes on, or was killed and will go on from it.
    """
    path = home / row["path"]
    try:
        checksum, stat = file_checksum(path), path.stat()
    except OSError as error:
        return _broken(row, "missing", f"the checkpoint cannot be read: {error.strerror or error}")
    if checksum in row["checksums"]:
        return FileCheck(stat.st_size)
    seen = _samples_seen(path)
    if seen is not None and seen > row["samples_seen"] and stat.st_mtime > row["created_at"].timestamp():
        note = f"{row['path']} has seen {seen} samples, its row says {row['samples_seen']}: training goes on"
        return FileCheck(stat.st_size, notes=[note])
    return _broken(row, "checksum", f"the checkpoint's checksum is {checksum}, not the registered one", stat.st_size)


def check_picture(home: Path, row: dict[str, Any]) -> FileCheck:
    """A generated picture against its checksum; one without (an older program made it) must be a sound PNG."""
    path = home / row["path"]
    try:
        checksum, size = file_checksum(path), path.stat().st_size
    except OSError as error:
        return _broken(row, "missing", f"the picture cannot be read: {error.strerror or error}")
    if row["checksum"] is not None and checksum != row["checksum"]:
        return _broken(row, "checksum", f"the picture's checksum is {checksum}, {row['checksum']} was registered", size)
    if row["checksum"] is None and not _sound_png(path):
        return _broken(row, "checksum", "the picture is no sound PNG", size)
    return FileCheck(size)


def _broken(row: dict[str, Any], kind: str, message: str, size: int = 0) -> FileCheck:
    return FileCheck(size, [Finding(kind, row["path"], None, message)])


def _samples_seen(path: Path) -> int | None:
    """What the header of a safetensors file says."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(header["__metadata__"]["samples_seen"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        return None


def _sound_png(path: Path) -> bool:
    """Whether every chunk of a PNG has the checksum it states, from its signature to its last byte."""
    import zlib

    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return False
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        stated = int.from_bytes(data[end - 4 : end], "big")
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != stated:
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return end == len(data)
        at = end
    return False
