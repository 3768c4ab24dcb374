"""How far a run is, where people look: Prefect's progress artifact, its log, and whoever watches here."""

from __future__ import annotations

import time
from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.runtime import watcher

SHOWN_EVERY_S = 2.0
LOGGED_EVERY_S = 60.0


class ProgressPage:
    """Progress of the flow run it is made in.

    Args:
        key: key of the artifact.
        doing: what is being done and to what, e.g. ``clips extracted``.
    """

    def __init__(self, key: str, doing: str) -> None:
        self.doing = doing
        self.watcher = watcher()
        self.log = get_run_logger()
        self.artifact = cast(UUID, create_progress_artifact(0.0, key=key, description=f"0 {doing}"))
        self.began = time.monotonic()
        self.shown, self.logged = 0.0, self.began

    def __call__(self, done: int, total: int) -> None:
        """Tell everybody; Prefect at most every two seconds, its log once a minute and at the end."""
        if self.watcher:
            self.watcher(done, total)
        now = time.monotonic()
        last = done >= total
        words = self._words(done, total, now)
        if last or now - self.shown >= SHOWN_EVERY_S:
            self.shown = now
            update_progress_artifact(self.artifact, 100.0 * done / max(total, 1), description=words)
        if not done or last or now - self.logged >= LOGGED_EVERY_S:
            self.logged = now
            self.log.info(words)

    def _words(self, done: int, total: int, now: float) -> str:
        if not done:
            return f"0 of {total:,} {self.doing}"
        rate = done / max(now - self.began, 1e-9)
        left = "" if done >= total else f", about {duration((total - done) / rate)} to go"
        return f"{done:,} of {total:,} {self.doing} ({rate:.1f} a second{left})"


def duration(seconds: float) -> str:
    """A length of time in words.

    >>> duration(4), duration(95), duration(8000)
    ('4 s', '2 min', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
