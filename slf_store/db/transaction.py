"""A transaction that ends even if its process never says another word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

IDLE_LIMIT = text("SELECT set_config('idle_in_transaction_session_timeout', :milliseconds, true)")


@contextmanager
def bounded(engine: Engine, idle_s: float) -> Iterator[Connection]:
    """A transaction that the server undoes when its process is silent in it for `idle_s` seconds.

    A stopped process, or a machine that vanished, would otherwise hold its locks for ever, and whoever takes its work
    over would wait as long.

    Example::

        with bounded(store.engine, 10) as connection:
            connection.execute(RENEW, {"owner": owner, "seconds": 600})
    """
    with engine.begin() as connection:
        connection.execute(IDLE_LIMIT, {"milliseconds": str(max(1, round(idle_s * 1000)))})
        yield connection
