"""The embedded server's log: bounded in size, quoted in errors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_BYTES = 8 * 2**20
"""A log larger than this is moved to `<name>.1` at the next start or attach."""


class ServerLog:
    """The file that the server writes to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """Bytes written so far; 0 when there is no log."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, offset: int) -> str:
        """The last lines written after a position in bytes, indented."""
        if not self.path.exists():
            return tail("")
        with self.path.open("rb") as file:
            file.seek(max(offset, self.size - 8192))
            return tail(file.read().decode(errors="replace"))

    def trim(self) -> None:
        """Start afresh when it is too large, keeping one older part."""
        if self.size > MAX_BYTES:  # the server appends to the open file, so it is emptied, not renamed
            shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
            os.truncate(self.path, 0)


def tail(text: str, lines: int = 12) -> str:
    """The last lines of a log, indented.

    >>> tail("one\\ntwo\\nthree", lines=2)
    '    two\\n    three'
    """
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:]) or "    (it said nothing)"


def next_step(log: str, folder: Path) -> str:
    """The hint that PostgreSQL's own words call for.

    >>> next_step("FATAL: could not write: No space left on device", Path("/data"))
    'free some space on the disk of /data'
    """
    if "No space left on device" in log:
        return f"free some space on the disk of {folder}"
    if "ermission denied" in log:
        return f"see who owns {folder} and what is in it, or use another SLF_HOME"
    if "shared memory" in log:
        return "another server still uses this data, or the machine gives no shared memory (containers: --shm-size)"
    return "read the lines above; `slf status` says where the whole log is"
