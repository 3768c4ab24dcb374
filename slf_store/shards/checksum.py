"""Checksums of files and arrays: BLAKE2b with 128 bits, as hexadecimal text."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 1 << 20


def file_checksum(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as f:
    ...     file_checksum(Path(f.name))
    'cae66941d9efbd404e4d88758ea67670'
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
