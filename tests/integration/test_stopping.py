"""Extraction that is told to stop, or loses its parent, gives its chunks back before it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from slf_store.jobs.commit import SEAL_LOCK
from slf_store.jobs.ingest import ingest
from slf_store.store import Store

pytestmark = pytest.mark.integration


def leased(store: Store) -> int:
    return int(store.query("SELECT count(*) AS n FROM extraction WHERE state = 'leased'")[0]["n"])


@pytest.mark.parametrize(
    ("how", "number"),
    [(["--direct"], signal.SIGINT), (["--direct"], signal.SIGKILL), ([], signal.SIGTERM)],
    ids=["interrupted", "killed", "flow-terminated"],
)
def test_workers_of_an_ended_extraction_give_back_their_chunks(
    store: Store, sample: Path, how: list[str], number: int
) -> None:
    ingest(store, sample / "test")
    command = [sys.executable, "-m", "slf_store.cli.main", "extract", "--only", "mel", *how]
    with store.engine.begin() as lock:  # nobody can commit: workers are caught with a lease
        lock.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SEAL_LOCK})
        process = subprocess.Popen(
            command,
            env={**os.environ, "SLF_CHUNK_SIZE": "3", "SLF_WORKERS": "2"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        deadline = time.monotonic() + 120
        while leased(store) < 6:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)  # to the parent alone
        process.wait(60)
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert alive == []
        assert leased(store) == 0
