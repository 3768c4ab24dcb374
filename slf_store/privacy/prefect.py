"""What Prefect keeps of its own: parameters, states, logs and artifacts, in SQLite or beside the store's tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import Engine, text

from slf_store.privacy.names import blot

DATABASE = "prefect"
"""Database of `slf serve-flows` on the store's server."""

BESIDE = text("SELECT count(*) FROM pg_database WHERE datname = :name AND datname <> current_database()")
COLUMNS = """
    SELECT table_name, column_name, format('%I.%I', udt_schema, udt_name)
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
      AND data_type IN ('text', 'character varying', 'json', 'jsonb')
    ORDER BY table_name, column_name
"""


def blot_prefect_server(engine: Engine, names: Sequence[str]) -> int:
    """The same for the database of `slf serve-flows`, where the store's server has one: values that held a name."""
    with engine.connect() as connection:
        if not connection.execute(BESIDE, {"name": DATABASE}).scalar_one():
            return 0
    url = engine.url.set(drivername="postgresql", database=DATABASE)
    changed = 0
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        touched = set[str]()
        for table, column, kind in connection.execute(COLUMNS).fetchall():
            found = _blot_column(connection, table, column, kind, names)
            changed += found
            touched |= {table} if found else set()
        for table in sorted(touched):
            connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(table)))
        if touched:
            connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
    return changed


def _blot_column(
    connection: psycopg.Connection[tuple[object, ...]], table: str, column: str, kind: str, names: Sequence[str]
) -> int:
    changed = 0
    parts = {"table": sql.Identifier(table), "column": sql.Identifier(column), "kind": sql.SQL(kind)}
    held = sql.SQL(
        "SELECT ctid::text, {column}::text FROM {table}"
        " WHERE EXISTS (SELECT FROM unnest(%s::text[]) AS name WHERE strpos({column}::text, name) > 0)"
    ).format(**parts)
    put = sql.SQL("UPDATE {table} SET {column} = %s::{kind} WHERE ctid = %s::tid AND {column}::text = %s").format(
        **parts
    )
    for place, value in connection.execute(held, [list(names)]).fetchall():
        clean = blot(str(value), names)
        if clean != value:
            changed += connection.execute(put, [clean, place, value]).rowcount
    return changed


def blot_prefect(home: Path, names: Sequence[str]) -> int:
    """Blot the names out of Prefect's own database inside the store: parameters, states, logs, artifacts.

    Returns:
        Values that held one. Names stay JSON-safe, so that the values stay readable.
    """
    found = 0
    for path in sorted((home / "prefect").glob("**/*.db")):
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
            database.execute("PRAGMA secure_delete = ON")
            changed = sum(_blot_table(database, table, names) for table in _tables(database))
            if changed:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                database.execute("VACUUM")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            found += changed
    return found


def _tables(database: sqlite3.Connection) -> list[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [str(row[0]) for row in rows.fetchall()]


def _blot_table(database: sqlite3.Connection, table: str, names: Sequence[str]) -> int:
    changed = 0
    columns = [str(row[1]) for row in database.execute(f'PRAGMA table_info("{table}")').fetchall()]
    for column in columns:
        held = " OR ".join(["instr(CAST(value AS TEXT), ?) > 0"] * len(names))
        rows = database.execute(
            f'SELECT rowid, value FROM (SELECT rowid, "{column}" AS value FROM "{table}") '
            f"WHERE typeof(value) = 'text' AND ({held})",
            list(names),
        ).fetchall()
        for key, value in rows:
            clean = blot(value, names)
            if clean != value:
                database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (clean, key))
                changed += 1
    return changed
