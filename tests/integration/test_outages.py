"""The database stopped and started again, and a full disk, in the middle of an extraction."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_stores import Stores, attempts, contents, leftovers, resize, small_disk
from fault_worker import Worker

from slf_store.db import postmaster
from slf_store.db.embedded import EmbeddedServer
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.ingest import ingest
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

Contents = dict[tuple[str, str], tuple[Any, ...]]
MEL = ("mel",)


@pytest.fixture(scope="module")
def own_server(open_folder: Path, sample: Path, stores: Stores) -> Iterator[Store]:
    """A store with an embedded server of its own."""
    settings = Settings(home=open_folder / "outage", chunk_size=2, batch_clips=2, database_patience_s=30)
    with Store.create(settings=settings, tethered=True) as store:
        ingest(store, sample / "test")
        yield store
    EmbeddedServer(settings.home).stop()


@pytest.fixture
def emptied(own_server: Store) -> Store:
    """That store with nothing extracted."""
    with own_server.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE face, extraction, shard CASCADE")
    collect_garbage(own_server, remove=True)
    return own_server


def end_server(store: Store, number: int) -> None:
    pid = EmbeddedServer(store.settings.home).status().pid
    assert pid is not None
    os.kill(pid, number)
    assert postmaster.wait_gone(pid, time.monotonic() + 30)


@pytest.mark.parametrize(
    ("number", "point"),
    [(signal.SIGINT, "commit.before:2"), (signal.SIGKILL, "commit.values:3"), (signal.SIGINT, "claim.before:2")],
    ids=["fast", "immediate", "fast while claiming"],
)
def test_a_worker_outlives_a_database_that_is_stopped_and_started_again(
    number: int, point: str, emptied: Store, undisturbed: Contents, tmp_path: Path
) -> None:
    worker = Worker(emptied.settings, tmp_path, fault=f"{point}=pause")
    worker.wait_stopped()
    end_server(emptied, number)
    worker.signal(signal.SIGCONT)
    time.sleep(0.5)  # it finds nobody there
    EmbeddedServer(emptied.settings.home).start(tethered=True)
    assert worker.answer() == "clips 6"
    assert contents(emptied) == undisturbed
    assert max(attempts(emptied).values()) <= 2
    collect_garbage(emptied, remove=True)
    assert leftovers(emptied) == []


def test_a_database_that_stays_away_is_one_clear_error_and_the_next_run_completes(
    emptied: Store, undisturbed: Contents, tmp_path: Path
) -> None:
    settings = emptied.settings.model_copy(update={"database_patience_s": 0.5})
    worker = Worker(settings, tmp_path, fault="commit.values:3=pause")
    worker.wait_stopped()
    end_server(emptied, signal.SIGKILL)
    worker.signal(signal.SIGCONT)
    said = worker.answer()
    assert said.startswith("DatabaseError: the database went away and did not come back within 0.5 s: ")
    assert "next: see that it runs" in said
    assert Worker(emptied.settings, tmp_path).answer() == "clips 4"  # opening the store starts its server
    assert contents(emptied) == undisturbed
    assert leftovers(emptied) == []


def test_a_full_disk_is_one_clear_error_and_nothing_half_written(
    stores: Stores, undisturbed: Contents, tmp_path: Path
) -> None:
    with stores.fresh() as store, small_disk(store.shards, "96k"):
        said = Worker(store.settings, tmp_path).answer()
        assert said.startswith("ShardError: the disk is full: cannot write a shard of mel in ")
        assert "next: free some space, then run the same command again: nothing is lost" in said
        assert states(store) == {"done": 4, "pending": 8}  # both constituents of the first chunk
        assert leftovers(store) == []
        resize(store.shards, "10m")
        assert Worker(store.settings, tmp_path).answer() == "clips 4"
        assert contents(store) == undisturbed


def test_a_file_that_may_not_grow_is_one_clear_error_and_nothing_half_written(
    stores: Stores, undisturbed: Contents, tmp_path: Path
) -> None:
    """The same where nothing can be mounted: the process may write no file as large as a shard."""
    with stores.fresh() as store:
        worker = Worker(store.settings, tmp_path, fault="seal.opened:2=pause")
        worker.wait_stopped()
        resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (10_000, 10_000))
        worker.signal(signal.SIGCONT)
        said = worker.answer()
        assert said.startswith("ShardError: cannot write a shard of mel in ")
        assert "File too large" in said
        assert states(store) == {"done": 4, "pending": 8}
        assert leftovers(store) == []
        assert Worker(store.settings, tmp_path).answer() == "clips 4"
        assert contents(store) == undisturbed


def states(store: Store) -> dict[str, int]:
    return {row["state"]: row["n"] for row in store.query("SELECT state, count(*) AS n FROM extraction GROUP BY state")}
