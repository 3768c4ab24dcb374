"""Outliving a database that is away for a moment: restarted, failed over, or behind a network that broke."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from slf_store.errors import DatabaseError

T = TypeVar("T")

GONE_STATES = ("08", "57P", "25P03")
"""SQLSTATEs, or their beginnings: connection errors, shutdown or crash of the server, the end of an idle session."""

ATTEMPTS = 5
"""Calls before giving up: a statement that brings the server down each time would otherwise do so for ever."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


def is_gone(error: BaseException) -> bool:
    """Whether an error means that the connection was lost or cannot be made; whether the work was done is unknown.

    >>> is_gone(psycopg.OperationalError("server closed the connection unexpectedly"))
    True
    >>> is_gone(psycopg.errors.IdleInTransactionSessionTimeout())
    True
    >>> is_gone(psycopg.errors.DiskFull("could not extend file")), is_gone(ValueError())
    (False, False)
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if state is None:  # the server said nothing
        return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith(GONE_STATES)


def outlast(engine: Engine, call: Callable[[], T], patience_s: float) -> T:
    """Call; if the database goes away, wait until it answers and call again.

    Args:
        engine: the way to the database.
        call: begins anew each time, with a fresh connection.
        patience_s: how long to wait for the database, seconds; 0 to look once.

    Raises:
        DatabaseError: it stayed away that long, or went away at every one of :data:`ATTEMPTS` calls.
    """
    for _ in range(ATTEMPTS):
        try:
            return call()
        except (DBAPIError, psycopg.Error) as error:
            if not is_gone(error):
                raise
            lost = error
        _wait_for(engine, patience_s)
    raise _away(lost, f"at each of {ATTEMPTS} attempts") from lost


def _wait_for(engine: Engine, patience_s: float) -> None:
    deadline, pause = time.monotonic() + patience_s, FIRST_PAUSE_S
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            return
        except (DBAPIError, psycopg.Error) as error:
            if time.monotonic() + pause > deadline:
                raise _away(error, f"and did not come back within {patience_s:g} s") from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _away(error: Exception, how: str) -> DatabaseError:
    said = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines() or ["no reason given"]
    return DatabaseError(
        f"the database went away {how}: {said[0]}",
        hint="see that it runs (`slf status`), then run the same command again: what was committed is kept",
    )
