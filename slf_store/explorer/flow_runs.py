"""Last runs of the flows, from Prefect's own tables: those in the store, and those of `slf serve-flows`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Engine, text

from slf_store.privacy.prefect import BESIDE, DATABASE

SHOWN = 10
LAST = f"""
    SELECT flow.name AS flow, flow_run.state_name AS state, CAST(flow_run.start_time AS text) AS started,
           CAST(flow_run.end_time AS text) AS ended
    FROM flow_run JOIN flow ON flow.id = flow_run.flow_id
    WHERE flow_run.start_time IS NOT NULL ORDER BY flow_run.start_time DESC LIMIT {SHOWN}
"""


def last_runs(engine: Engine, home: Path) -> list[dict[str, Any]]:
    """The last runs: flow, state, started, ended (text, UTC). No parameters: they hold paths.

    A database of Prefect that cannot be read (none yet, another version's) has no runs.
    """
    found = runs_in_store(home) + runs_beside(engine)
    return sorted(found, key=lambda run: str(run["started"]), reverse=True)[:SHOWN]


def runs_in_store(home: Path) -> list[dict[str, Any]]:
    """Those of flows that ran on a server of their own."""
    path = home.absolute() / "prefect" / "prefect.db"
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            database.row_factory = sqlite3.Row
            return [_minutes(dict(row)) for row in database.execute(LAST)]
    except sqlite3.Error:
        return []


def runs_beside(engine: Engine) -> list[dict[str, Any]]:
    """Those of `slf serve-flows`, whose database lies on the store's server."""
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        if not connection.execute(BESIDE, {"name": DATABASE}).scalar_one():
            return []
    url = engine.url.set(drivername="postgresql", database=DATABASE)
    try:
        with psycopg.connect(url.render_as_string(hide_password=False), row_factory=dict_row) as beside:
            beside.read_only = True
            beside.execute("SET LOCAL timezone = 'UTC'")
            return [_minutes(row) for row in beside.execute(LAST)]
    except psycopg.Error:
        return []


def _minutes(row: dict[str, Any]) -> dict[str, Any]:
    """Times without fractions of a second."""
    return row | {name: row[name] and str(row[name])[:19] for name in ("started", "ended")}
