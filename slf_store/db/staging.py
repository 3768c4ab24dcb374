"""Bulk writes: binary COPY into a temporary table, then one INSERT."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import Connection


def copy_rows(
    connection: Connection, table: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]
) -> int:
    """Fill a temporary table, dropped at the end of the transaction, by binary COPY.

    Args:
        connection: in a transaction.
        table: name of the temporary table; made anew.
        columns: (name, PostgreSQL type) pairs.
        rows: values in the order of the columns.

    Returns:
        Rows written.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    names = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in columns)
    count = 0
    with driver.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(sql.Identifier(table)))
        cursor.execute(sql.SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DROP").format(sql.Identifier(table), names))
        copy = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table))
        with cursor.copy(copy) as stream:
            stream.set_types([kind for _, kind in columns])
            for row in rows:
                stream.write_row(row)
                count += 1
    return count
