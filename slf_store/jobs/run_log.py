"""run_log: what training says while it goes on, kept by PostgreSQL; a database away for a moment holds nothing up."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from slf_store.db.outage import is_gone, outlast

if TYPE_CHECKING:
    from slf_store.diffusion.train import TrainLog
    from slf_store.store import Store

log = logging.getLogger(__name__)

WRITE = text("""
    INSERT INTO run_log (run_id, unet, samples_seen, loss, lr, samples_per_s, wait_share, memory_bytes,
                         validation_loss, validation_levels)
    VALUES (:run, :unet, :samples_seen, :loss, :lr, :samples_per_s, :wait_share, :memory_bytes,
            :validation_loss, CAST(:validation_levels AS jsonb))
""")
DROP_LATER = text("""
    -- Rows of samples that a training which goes on from an earlier checkpoint will see again.
    DELETE FROM run_log WHERE run_id = :run AND unet = :unet AND samples_seen > :samples_seen
""")
READ = text("""
    SELECT unet, samples_seen, loss, lr, samples_per_s, wait_share, memory_bytes, validation_loss, validation_levels
    FROM run_log WHERE run_id = :run ORDER BY unet, samples_seen, id
""")


class RunLog:
    """Writes the lines of one U-Net's training, each in a transaction of its own.

    A line that the database does not take because it is away waits for the next one; the training goes on.

    Args:
        store: open store.
        run_id, unet: whose lines.
        samples_seen: where the training goes on; rows after it are removed.
    """

    def __init__(self, store: Store, run_id: int, unet: int, samples_seen: int) -> None:
        self._store, self._key = store, {"run": run_id, "unet": unet}
        self._waiting: list[dict[str, Any]] = []
        with store.engine.begin() as connection:
            connection.execute(DROP_LATER, {**self._key, "samples_seen": samples_seen})

    def write(self, line: TrainLog) -> None:
        """Write a line, and those that wait."""
        seen = line.validation
        self._waiting.append(
            {
                **self._key,
                "samples_seen": line.samples_seen,
                "loss": line.loss,
                "lr": line.lr,
                "samples_per_s": line.samples_per_s,
                "wait_share": line.wait_share,
                "memory_bytes": line.memory_bytes,
                "validation_loss": seen.loss if seen else None,
                "validation_levels": json.dumps(seen.levels) if seen else None,
            }
        )
        try:
            self._flush()
        except (DBAPIError, psycopg.Error) as error:
            if not is_gone(error):
                raise
            log.warning("the database is away; training goes on, %d lines wait for it", len(self._waiting))

    def close(self) -> None:
        """Write what still waits, waiting for the database if need be.

        Raises:
            DatabaseError: it stayed away for longer than `database_patience_s`.
        """
        outlast(self._store.engine, self._flush, self._store.settings.database_patience_s)

    def _flush(self) -> None:
        if self._waiting:
            with self._store.engine.begin() as connection:
                connection.execute(WRITE, self._waiting)
            self._waiting.clear()
