"""Keeping a lease while its work goes on, however long one call to a network takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from slf_store.jobs import queue

HUNG_AFTER_LEASES = 12
"""A worker without progress this many leases long is taken for hung: its lease is not renewed any more."""


class Heartbeat:
    """Renews a lease every third of its length, as long as there is progress."""

    def __init__(self, engine: Engine, owner: str, lease_s: float) -> None:
        self.engine, self.owner, self.lease_s = engine, owner, lease_s
        self._progress = time.monotonic()
        self._done = threading.Event()

    def progress(self) -> None:
        """Say that the work goes on."""
        self._progress = time.monotonic()

    def beat(self) -> None:
        """Renew until told to stop. A renewal that fails says nothing yet: committing looks whether the lease holds."""
        while not self._done.wait(self.lease_s / 3):
            if time.monotonic() - self._progress < HUNG_AFTER_LEASES * self.lease_s:
                with suppress(DBAPIError, psycopg.Error):
                    queue.renew(self.engine, self.owner, self.lease_s)

    def stop(self) -> None:
        """Renew no more."""
        self._done.set()


@contextmanager
def keep_lease(engine: Engine, owner: str, lease_s: float) -> Iterator[Heartbeat]:
    """Keep the lease of `owner` inside the block, from a thread of its own."""
    heart = Heartbeat(engine, owner, lease_s)
    thread = threading.Thread(target=heart.beat, name="slf-heartbeat", daemon=True)
    thread.start()
    try:
        yield heart
    finally:
        heart.stop()
        thread.join()
