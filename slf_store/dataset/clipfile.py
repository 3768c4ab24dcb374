"""A clip's file as found in a source tree, not yet opened."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_LIKE_ESCAPE = re.compile(rb"\\(?=x[0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class ClipFile:
    """Where a clip lies and what it is called.

    Attributes:
        split: `dev` or `test`.
        identity, video, clip: natural key.
        path: relative to the source's root, POSIX separators, as stored.
        audio: whether the official tree has a file of sound for it (`aac/…/<clip>.m4a`).
        track: whether it has a face track (`txt/…/<clip>.txt`).
    """

    split: str
    identity: str
    video: str
    clip: str
    path: str
    audio: bool = False
    track: bool = False

    @property
    def audio_path(self) -> str | None:
        """The file of sound, relative to the source's root as stored; None where there is none.

        >>> ClipFile("dev", "id00012", "_raOc3-IRsw", "00110", "dev/mp4/id00012/_raOc3-IRsw/00110.mp4", True).audio_path
        'dev/aac/id00012/_raOc3-IRsw/00110.m4a'
        """
        if not self.audio:
            return None
        tree, identity, video, file = self.path.rsplit("/", 3)
        return f"{tree.removesuffix('mp4')}aac/{identity}/{video}/{PurePosixPath(file).stem}.m4a"


def stored_name(name: str) -> str:
    """A file name that PostgreSQL can hold: bytes that are not UTF-8 become `\\xNN` escapes.

    A backslash that would read as such an escape becomes one itself, so that no two names are stored alike.

    >>> stored_name("-abc_é")
    '-abc_é'
    >>> stored_name("caf\\udce9")
    'caf\\\\xe9'
    >>> stored_name("caf\\\\xe9")
    'caf\\\\x5cxe9'
    """
    return _LIKE_ESCAPE.sub(rb"\\x5c", os.fsencode(name)).decode("utf-8", "backslashreplace")


def file_name(stored: str) -> str:
    """The name in the file system of what :func:`stored_name` gave.

    >>> file_name(stored_name("caf\\udce9 \\\\xe9")) == "caf\\udce9 \\\\xe9"
    True
    """
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), stored.encode()))


def relative(path: Path, root: Path) -> str:
    """Path below the root as stored."""
    return stored_name(path.relative_to(root).as_posix())
