"""Names of people and their clips in running text: found, and blotted out."""

from __future__ import annotations

import re
from collections.abc import Sequence

ERASED = "[erased]"
_WORD = "A-Za-z0-9_-"


def blot(text: str, names: Sequence[str]) -> str:
    """The text with every name in it replaced; parts of longer words are left.

    >>> blot("identity = 'id00012' AND video <> 'id000123'", ["id00012"])
    "identity = '[erased]' AND video <> 'id000123'"
    """
    return _pattern(names).sub(ERASED, text) if names else text


def blot_bytes(data: bytes, names: Sequence[str]) -> bytes:
    """The same for a file that is written over in place: every byte of a name becomes a `*`.

    >>> blot_bytes(b"column id00012 does not exist", ["id00012"])
    b'column ******* does not exist'
    """
    for name in sorted(filter(None, names), key=len, reverse=True):
        data = data.replace(
            name.encode("utf-8", "surrogateescape"), b"*" * len(name.encode("utf-8", "surrogateescape"))
        )
    return data


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(set(names), key=len, reverse=True)
    return re.compile(f"(?<![{_WORD}])(?:{'|'.join(map(re.escape, longest_first))})(?![{_WORD}])")
