"""The last step: the bytes. A deleted row stays in its page, in indexes, statistics and the write-ahead log until
something overwrites it; here all of them are written anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from slf_store.db.memory import LEND, MOST_KB
from slf_store.errors import DatabaseError
from slf_store.faults import fault_point

if TYPE_CHECKING:
    from slf_store.store import Store

PATIENCE_S = 60.0
"""How long to wait for transactions that may still see the deleted rows."""

TABLES = text("""
    SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'public' AND relkind = 'r' AND relname <> 'alembic_version'
    ORDER BY pg_total_relation_size(pg_class.oid)
""")
PARTITIONED = text("""
    SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'public' AND relkind = 'p'
""")
NOW = text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
OLDER = text("""
    -- Sessions of this database whose transaction may still see rows deleted before transaction :xid.
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND (age(backend_xmin) > age(CAST(CAST(CAST(:xid AS bigint) % 4294967296 AS text) AS xid))
           OR age(backend_xid) > age(CAST(CAST(CAST(:xid AS bigint) % 4294967296 AS text) AS xid)))
""")
FUTURE_SEGMENTS = text("""
    SELECT max(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'
""")
CURRENT_SEGMENT = text("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")


def rewrite_pages(store: Store, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Write every table, its indexes and its statistics anew, and drop the old write-ahead log.

    Returns:
        What could not be done here, in words: empty for the embedded server.

    Raises:
        DatabaseError: an older transaction holds on to the deleted rows; run it again when it has ended.
    """
    left: list[str] = []
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _wait_for_older(connection)
        # One process: several share the graph of an index of faces, and shared memory may be short.
        connection.exec_driver_sql("SET max_parallel_maintenance_workers = 0")
        connection.execute(LEND, {"kilobytes": MOST_KB, "until_commit": False})
        connection.detach()  # closed at the end, with these settings
        tables = list(connection.execute(TABLES).scalars())
        for done, table in enumerate(tables):
            connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {table}")
            if progress is not None:
                progress(done + 1, len(tables) + 1)
        for table in connection.execute(PARTITIONED).scalars():  # these have statistics of their own
            connection.exec_driver_sql(f"ANALYZE {table}")
        fault_point("forget.tables_rewritten")
        try:  # most common values and bounds of histograms are copies of what the columns held
            connection.exec_driver_sql("VACUUM (FULL) pg_catalog.pg_statistic")
        except DBAPIError:
            left.append("statistics: let a superuser run VACUUM FULL pg_catalog.pg_statistic")
        if store.settings.database_url is None:
            _drop_log(connection)
        else:
            left.append("write-ahead log, replicas and backups of the external server")
        if progress is not None:
            progress(len(tables) + 1, len(tables) + 1)
    fault_point("forget.pages_rewritten")
    return left


def _wait_for_older(connection: Connection) -> None:
    xid = connection.execute(NOW).scalar_one()
    deadline = time.monotonic() + PATIENCE_S
    while connection.execute(OLDER, {"xid": xid}).scalar_one():
        if time.monotonic() > deadline:
            raise DatabaseError(
                "an older transaction can still see the erased rows, so that their pages cannot be rewritten yet",
                hint="end it (see pg_stat_activity), then run `slf forget --resume`",
            )
        time.sleep(0.1)


def _drop_log(connection: Connection) -> None:
    """Leave no segment of the embedded server's write-ahead log that was written before now.

    A checkpoint keeps old segments under new names for later, old bytes and all. So that is switched off, those kept
    already are used up, and the checkpoint at the end removes everything before it.
    """
    _set(connection, "ALTER SYSTEM SET wal_recycle = off")
    try:
        connection.exec_driver_sql("CHECKPOINT")
        last = str(connection.execute(FUTURE_SEGMENTS).scalar_one())
        while _switch(connection) <= last:
            pass
        connection.exec_driver_sql("CHECKPOINT")
    finally:
        _set(connection, "ALTER SYSTEM RESET wal_recycle")


def _switch(connection: Connection) -> str:
    """Begin a new segment; its name."""
    connection.exec_driver_sql("SELECT pg_logical_emit_message(false, 'slf', 'next')")
    connection.exec_driver_sql("SELECT pg_switch_wal()")
    connection.exec_driver_sql("SELECT pg_logical_emit_message(false, 'slf', 'next')")
    return str(connection.execute(CURRENT_SEGMENT).scalar_one())


def _set(connection: Connection, statement: str) -> None:
    wanted: Any = "off" if "off" in statement else "on"
    connection.exec_driver_sql(statement)
    connection.exec_driver_sql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while connection.exec_driver_sql("SHOW wal_recycle").scalar() != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # the checkpointer reads its settings on its own
