"""Where a media file says of itself that it ends: a download that was cut off is shorter."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from slf_store.errors import ClipError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HOLDING = frozenset({b"moov", b"moof", b"mdat"})
_BOXES = _HOLDING | {b"ftyp", b"styp", b"sidx", b"free", b"skip", b"wide", b"uuid", b"meta", b"udta", b"mfra", b"pdin"}
_OPEN_RIFF = (0, 0xFFFFFFFF)


def check_end(path: Path) -> None:
    """Compare where a file ends with where its boxes (MP4), chunks (AVI, WAV) or segment (Matroska) say it does.

    Raises:
        ClipError: `truncated`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(12)
        end = 0
        if start[:4] == b"RIFF":
            end = _riff(file)
        elif start[:4] == _EBML:
            end = _matroska(file)
        elif start[4:8] in _BOXES:
            end = _boxes(file)
        size = file.seek(0, os.SEEK_END)
    if size < end:
        raise ClipError("truncated", f"{path} has {size} of {end} bytes", hint="fetch it again")


def _boxes(file: BinaryIO) -> int:
    """End of the last box that holds media or says where it is; 0 where it is open."""
    at = end = 0
    while len(head := _read(file, at, 16)) >= 8:
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8 or kind not in _BOXES:  # 0: to the end of the file, wherever that is
            break
        at += size
        end = at if kind in _HOLDING else end
    return end


def _riff(file: BinaryIO) -> int:
    at = end = 0
    while (head := _read(file, at, 8))[:4] == b"RIFF" and len(head) == 8:
        (size,) = struct.unpack("<I", head[4:])
        if size in _OPEN_RIFF:
            return 0
        end = at + 8 + size
        at = end + size % 2
    return end


def _matroska(file: BinaryIO) -> int:
    header, length = _number(_read(file, 4, 8))
    at = 4 + length + (header or 0)
    if header is None or _read(file, at, 4) != _SEGMENT:
        return 0
    segment, length = _number(_read(file, at + 4, 8))
    return 0 if segment is None else at + 4 + length + segment


def _number(data: bytes) -> tuple[int | None, int]:
    """A Matroska number and how many bytes it takes; None where it means "unknown" or is no number."""
    length = 9 - data[0].bit_length() if data and data[0] else 0
    if not 0 < length <= len(data):
        return None, 0
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(data[:length], "big") & ones
    return (None if value == ones else value), length


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
