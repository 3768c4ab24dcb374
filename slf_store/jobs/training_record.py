"""What the store keeps of a training that goes on: lines, checkpoints, sample grids."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from slf_store.db.locks import HOLD_SEAL_LOCK, SEAL_LOCK
from slf_store.db.outage import is_gone, outlast
from slf_store.jobs.checkpoint_rows import checkpoint_rows, register_folder
from slf_store.jobs.run_log import RunLog
from slf_store.store import Store

if TYPE_CHECKING:
    from slf_store.diffusion.config import Which
    from slf_store.diffusion.retention import Saved
    from slf_store.diffusion.train import TrainLog

log = logging.getLogger(__name__)

COMPLETE = text("SELECT erased_clips = 0 FROM snapshot WHERE id = :snapshot")


class TrainingRecord:
    """Keeps one U-Net's training in PostgreSQL; while the database is away the training goes on.

    What could not be written is made up for with the next line or checkpoint, at the latest by :meth:`close`.

    Args:
        store: open store.
        run: row of the run.
        unet: which of its U-Nets.
    """

    def __init__(self, store: Store, run: dict[str, Any], unet: Which) -> None:
        from slf_store.diffusion.checkpoint import checkpoint_path, load_checkpoint

        self._store, self._run, self._unet, self._folder = store, run, unet, store.runs / run["name"]
        there = checkpoint_path(self._folder, unet).exists()
        resumed = load_checkpoint(self._folder, unet, parts=()).samples_seen if there else 0
        self._log = RunLog(store, run["id"], unet, resumed)
        rows = [row for row in checkpoint_rows(store, run["id"]) if (row["unet"], row["role"]) == (unet, "last")]
        self._seconds_before = rows[0]["seconds"] if rows else 0.0
        self._started, self._unregistered_s = time.monotonic(), 0.0

    def line(self, line: TrainLog) -> None:
        """Write a line of progress."""
        self._log.write(line)

    def checkpoint(self, _saved: Saved) -> None:
        """Register what lies in the run's folder now."""
        self._unregistered_s = time.monotonic() - self._started
        try:
            self._register()
        except (DBAPIError, psycopg.Error) as error:
            if not is_gone(error):
                raise
            log.warning("the database is away; training goes on, a checkpoint waits to be registered")

    def grid(self, path: Path, grid: NDArray[np.uint8], comment: str) -> None:
        """Write a sample grid, unless somebody of the snapshot was erased since: it could show them."""
        from slf_store.diffusion.grid import save_grid

        try:
            with self._store.engine.begin() as connection:
                connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
                if connection.execute(COMPLETE, {"snapshot": self._run["snapshot_id"]}).scalar_one():
                    save_grid(path, grid, comment)
                else:
                    log.warning("clips of snapshot %s were erased: no sample grid", self._run["snapshot"])
        except (DBAPIError, psycopg.Error) as error:
            if not is_gone(error):
                raise
            log.warning("the database is away: no sample grid")

    def close(self) -> None:
        """Write what waits, waiting for the database.

        Raises:
            DatabaseError: it stayed away for longer than `database_patience_s`.
        """
        if self._unregistered_s:
            outlast(self._store.engine, self._register, self._store.settings.database_patience_s)
        self._log.close()

    def _register(self) -> None:
        if self._unregistered_s:
            seconds = self._seconds_before + self._unregistered_s
            register_folder(self._store, self._run["id"], self._unet, self._folder, seconds)
            self._unregistered_s = 0.0
