"""The third step: pictures, reports and logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from slf_store.privacy.names import blot_bytes

LOGS = ("postgres.log", "postgres.log.1", "prefect/server.log")


def remove_files(home: Path, names: Iterable[str]) -> int:
    """Unlink files of the store (or absolute paths): how many were there. Safe to repeat."""
    removed = 0
    for name in names:
        path = home / name
        if path.is_file():
            path.unlink()
            removed += 1
        for left in path.parent.glob(f".{path.name}.*"):  # what a writer that was killed left of it
            left.unlink()
            removed += 1
    return removed


def remove_generated(runs: Path, clip_ids: Iterable[int]) -> int:
    """Pictures of generated faces that no row knows: they are named after their clip."""
    keys = {str(clip) for clip in clip_ids}
    removed = 0
    for path in runs.glob("*/generated/*/*"):
        if path.name.lstrip(".").partition(".")[0] in keys:
            path.unlink()
            removed += 1
    return removed


def blot_logs(home: Path, names: Sequence[str]) -> int:
    """Write over the names in the servers' logs, in place: the servers go on appending. Logs that held one."""
    found = 0
    for log in LOGS:
        path = home / log
        if not path.is_file():
            continue
        data = path.read_bytes()
        clean = blot_bytes(data, names)
        if clean != data:
            with path.open("r+b") as file:
                file.write(clean)
            found += 1
    return found
