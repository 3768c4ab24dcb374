"""One starter or stopper of a store's server at a time, over all processes and threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slf_store.errors import DatabaseError

_THREADS = threading.Lock()  # a file lock only keeps processes apart


@contextmanager
def start_lock(home: Path, deadline: float) -> Iterator[None]:
    """Hold `<home>/pg.lock`; waits until `deadline` (`time.monotonic` seconds). It is freed when its holder dies.

    Raises:
        DatabaseError: another process held it all the time.
    """
    import fasteners

    home.mkdir(parents=True, exist_ok=True)
    with _THREADS:
        lock = fasteners.InterProcessLock(home / "pg.lock")
        if not lock.acquire(timeout=max(deadline - time.monotonic(), 0.1), delay=0.02, max_delay=0.1):
            raise DatabaseError(
                f"another process has been starting or stopping the database of {home} for too long",
                hint="try again; see that process, or end it",
            )
        try:
            yield
        finally:
            lock.release()
