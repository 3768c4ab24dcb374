"""Writing what a scan found: rows by binary COPY into a staging table, merged into the tables of the catalogue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection, Engine

from slf_store.dataset.metadata import IdentityMeta
from slf_store.db.staging import copy_rows
from slf_store.jobs import sql_ingest as statements

Rows = Sequence[tuple[Any, ...]]
Screen = Callable[[Connection, Rows], Rows]

WRITERS = 3
"""Batches written at the same time: while one is copied, the server merges another."""


def _all(connection: Connection, rows: Rows) -> Rows:
    return rows


class Writer:
    """Registers batches beside each other; leaving its `with` block waits for the last of them.

    Batches may share an identity with the one before and the one after, not with others.

    Args:
        engine: of the store.
        source_id: key of the source.
        screen: as of :func:`register_rows`.
    """

    def __init__(self, engine: Engine, source_id: int, screen: Screen = _all) -> None:
        self._engine, self._source_id, self._screen = engine, source_id, screen
        self._pool = ThreadPoolExecutor(WRITERS)
        self._waiting: deque[Future[int]] = deque()

    def add(self, rows: Rows) -> None:
        """Register a batch, once there is room for it. Raises what an earlier one raised."""
        while len(self._waiting) >= WRITERS:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(register_rows, self._engine, self._source_id, rows, self._screen))

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        for written in self._waiting if kind is None else ():
            written.result()


def register_rows(engine: Engine, source_id: int, rows: Rows, screen: Screen = _all) -> int:
    """Merge probed clips in one transaction; what was extracted from files that have changed is forgotten.

    Args:
        engine: of the store.
        source_id: key of the source.
        rows: values in the order of `SCANNED_COLUMNS`; no clip twice.
        screen: asked inside the transaction which of the rows may be written.

    Returns:
        Known clips whose content has changed.
    """
    values = {"source_id": source_id}
    with engine.begin() as connection:
        connection.execute(statements.NO_FLUSH)
        rows = screen(connection, rows)
        copy_rows(connection, "scanned", statements.SCANNED_COLUMNS, rows)
        connection.execute(statements.MERGE_IDENTITIES, values)
        new = connection.execute(statements.MERGE_VIDEOS, values).rowcount
        if new == len({row[:3] for row in rows}):  # videos of this transaction's own: nobody knows a clip of them
            connection.execute(statements.CHECKS, {"role": "replica"})
            connection.execute(statements.NEW_CLIPS, values)
            connection.execute(statements.CHECKS, {"role": "origin"})
            return 0
        changed = list(connection.execute(statements.CHANGED, values).scalars())
        if changed:
            for statement in statements.FORGET_VALUES:
                connection.execute(statement, {"clips": changed})
        connection.execute(statements.MERGE_CLIPS, values)
    return len(changed)


def register_metadata(engine: Engine, source_id: int, facts: Mapping[str, IdentityMeta]) -> None:
    """Merge what a metadata file says of the source's identities; other identities in it are left out."""
    import json

    stated = [(identity, json.dumps(fact.row)) for identity, fact in facts.items()]
    said = [(identity, s.video, s.name, s.text, s.number) for identity, fact in facts.items() for s in fact.statements]
    with engine.begin() as connection:
        copy_rows(connection, "stated", statements.STATED_COLUMNS, stated)
        copy_rows(connection, "statement", statements.STATEMENT_COLUMNS, said)
        for statement in statements.MERGE_METADATA:
            connection.execute(statement, {"source_id": source_id})
