"""SQL text given by a person: one statement, read-only, as a role with few rights, with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from psycopg import Cursor, sql
from psycopg.errors import Error, InsufficientPrivilege, QueryCanceled
from psycopg.rows import dict_row
from sqlalchemy import Engine

from slf_store.db.readers import ROLES, Role, connect_reader
from slf_store.errors import SelectionError

MAX_ROWS = 100_000
"""Rows that one statement may return: they are held in memory and printed."""
GRACE_S = 1.0
"""The client cancels a statement this long after the server should have."""


@contextmanager
def read_only(engine: Engine, role: Role, timeout_s: float) -> Iterator[Cursor[dict[str, Any]]]:
    """A cursor in a read-only transaction of the role's own session, with a time limit; gone at the end.

    The server's limit can be lifted by the text itself, the client's cannot.
    """
    connection = connect_reader(engine, role)
    watchdog = threading.Timer(timeout_s + GRACE_S, lambda: _cancel(connection))
    watchdog.daemon = True
    try:
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(
                sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(f"{int(timeout_s * 1000)}ms"))
            )
            watchdog.start()
            yield cursor
    finally:
        watchdog.cancel()
        connection.close()  # rolls back


def run_text(
    engine: Engine,
    statement: str,
    *,
    role: Role = "researcher",
    timeout_s: float = 60.0,
    max_rows: int = MAX_ROWS,
) -> Sequence[dict[str, Any]]:
    """Rows of one SQL statement written by a person, as dictionaries.

    Raises:
        SelectionError: it is no single valid statement, writes, takes too long, returns more than `max_rows` rows, or
            asks for what the role may not see.
    """
    if role not in ROLES:
        raise SelectionError(f"unknown role {role!r}", hint=f"use {' or '.join(ROLES)}")
    rows: list[dict[str, Any]] = []
    if not statement.strip():
        return rows
    with read_only(engine, role, timeout_s) as cursor:
        try:
            # stream() uses the extended protocol, which takes exactly one statement, and holds one row at a time.
            for row in cursor.stream(sql.SQL(statement)):
                if len(rows) == max_rows:
                    _cancel(cursor.connection)
                    raise SelectionError(
                        f"more than {max_rows:,} rows", hint="add a LIMIT, or count and group in the statement"
                    )
                rows.append(row)
        except QueryCanceled:
            raise SelectionError(
                f"stopped after {timeout_s:g} s", hint="narrow it, or raise SLF_STATEMENT_TIMEOUT_S"
            ) from None
        except InsufficientPrivilege as error:
            raise SelectionError(
                f"role {role}: {_first_line(error)}", hint="ask for the views this role may read"
            ) from None
        except Error as error:
            raise SelectionError(
                f"SQL: {_first_line(error)}", hint='see `slf sql "SELECT * FROM clips LIMIT 1"` for columns'
            ) from None
    return rows


def _cancel(connection: Any) -> None:
    with suppress(Error, OSError):
        connection.cancel_safe(timeout=5)


def _first_line(error: Error) -> str:
    return str(error).strip().partition("\n")[0]
