"""Leases: eight workers, slow and stopped ones, wrong clocks, signals to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault_stores import Stores, attempts, contents, in_shards, leftovers
from fault_worker import Worker

from slf_store.errors import LeaseLost
from slf_store.jobs import heartbeat, queue
from slf_store.jobs.extract import LoadedExtractors, extract_chunk, plan
from slf_store.jobs.gc import collect_garbage
from slf_store.store import Store

pytestmark = pytest.mark.integration

Contents = dict[tuple[str, str], tuple[Any, ...]]
MEL = ("mel",)
SHORT_S = 1.0


def mel_of(everything: Contents) -> Contents:
    return {key: value for key, value in everything.items() if key[0] == "mel"}


def leased(store: Store) -> int:
    return len(store.query("SELECT 1 FROM extraction WHERE state = 'leased'"))


def test_eight_workers_on_one_queue_extract_each_clip_once(
    stores: Stores, sample: Path, undisturbed: Contents, tmp_path: Path
) -> None:
    from slf_store.jobs.ingest import ingest

    with stores.fresh(chunk_size=1) as store:
        ingest(store, sample / "dev")
        workers = [Worker(store.settings, tmp_path, only=MEL) for _ in range(8)]
        answers = [worker.answer() for worker in workers]
        assert sum(int(answer.removeprefix("clips ")) for answer in answers) == 18
        assert set(attempts(store).values()) == {1}
        kept = in_shards(store)
        assert len(kept) == len(set(kept)) == len(contents(store)) == 18
        assert leftovers(store) == []
        assert mel_of(undisturbed).items() <= contents(store).items()


@pytest.mark.parametrize(
    "point", ["claim.after", "seal.opened", "seal.folder_fsynced", "commit.values", "commit.before"]
)
def test_a_worker_that_comes_back_after_its_lease_was_taken_over_changes_nothing(
    point: str, stores: Stores, undisturbed: Contents, tmp_path: Path
) -> None:
    with stores.fresh(lease_minutes=SHORT_S / 60) as store:
        stopped = Worker(store.settings, tmp_path, fault=f"{point}=pause")
        stopped.wait_stopped()
        time.sleep(SHORT_S + 0.3)
        other = Worker(store.settings.model_copy(update={"lease_minutes": 10}), tmp_path)
        assert other.answer() == "clips 6"  # it waits for nobody: the server ended the stopped one's transaction
        before = store.query("SELECT * FROM extraction ORDER BY constituent_id, clip_id")
        stopped.signal(signal.SIGCONT)
        # After the claim it learns at its end that it came too late; inside the transaction, that this is gone.
        assert stopped.answer().startswith("LeaseLost: the lease of" if point == "claim.after" else "clips 0")
        assert store.query("SELECT * FROM extraction ORDER BY constituent_id, clip_id") == before
        assert contents(store) == undisturbed
        assert sorted(attempts(store).values()) == [1, 1, 1, 1, 2, 2]
        in_doubt = point == "commit.before"  # a COMMIT that fails may have arrived: its file is left to gc
        assert len(collect_garbage(store, remove=True).files) == in_doubt
        assert leftovers(store) == []


def test_two_workers_with_the_same_chunk_at_the_same_moment_commit_it_once(
    stores: Stores, undisturbed: Contents, tmp_path: Path
) -> None:
    """The first has its transaction open, its shard's row in it, while the second takes over and commits."""
    with stores.fresh(chunk_size=6) as store:
        first = Worker(store.settings, tmp_path, fault="commit.shard_row=pause", only=MEL)
        first.wait_stopped()
        expire(store)
        assert Worker(store.settings, tmp_path, only=MEL).answer() == "clips 6"
        first.signal(signal.SIGCONT)
        assert first.answer().startswith("LeaseLost: the lease of")
        assert contents(store) == mel_of(undisturbed)
        assert len(in_shards(store)) == 6
        assert leftovers(store) == []


def test_clips_whose_values_are_just_being_committed_are_not_taken_over(
    stores: Stores, undisturbed: Contents, tmp_path: Path
) -> None:
    with stores.fresh(chunk_size=6) as store:
        first = Worker(store.settings, tmp_path, fault="commit.values:2=pause")
        first.wait_stopped()
        expire(store)
        assert Worker(store.settings, tmp_path).answer() == "clips 0"
        first.signal(signal.SIGCONT)
        assert first.answer() == "clips 6"
        assert contents(store) == undisturbed
        assert set(attempts(store).values()) == {1}


def expire(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE extraction SET lease_expires_at = now() - interval '1 second'")


def test_a_slow_worker_keeps_its_lease_and_a_hung_one_loses_it(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    with stores.fresh(lease_minutes=0.6 / 60) as store:
        plan(store, MEL)
        loaded = LoadedExtractors(store, MEL)
        mel = next(iter(loaded.by_key.values()))
        original, taken = mel.extract_many, []

        def slow(clips: Any) -> Any:
            time.sleep(1.5)
            taken.append(len(queue.claim(store.engine, loaded.keys, clips=6, owner=f"other{len(taken)}", lease_s=60)))
            return original(clips)

        monkeypatch.setattr(mel, "extract_many", slow)
        assert extract_chunk(store, loaded).done == {"mel": 2}
        assert taken == [4]  # all but the slow one's two
        queue.release(store.engine, "other0")
        monkeypatch.setattr(heartbeat, "HUNG_AFTER_LEASES", 0)
        with pytest.raises(LeaseLost):
            extract_chunk(store, loaded)
        assert taken == [4, 4]  # its own two among them
        assert len(in_shards(store)) == 2


def test_wrong_clocks_change_nothing(stores: Stores, undisturbed: Contents, tmp_path: Path) -> None:
    with stores.fresh(chunk_size=1) as store:
        workers = [Worker(store.settings, tmp_path, only=MEL, clock_s=skew) for skew in (0, 7200, -7200)]
        answers = [worker.answer() for worker in workers]
        assert sum(int(answer.removeprefix("clips ")) for answer in answers) == 6
        assert set(attempts(store).values()) == {1}
        assert contents(store) == mel_of(undisturbed)


def test_extraction_that_is_told_to_stop_gives_its_chunk_back(stores: Stores) -> None:
    with stores.fresh() as store:
        main, child = paused_extraction(store)
        main.terminate()
        time.sleep(0.2)
        child.send_signal(signal.SIGCONT)
        _, said = main.communicate(timeout=60)
        assert said == "slf: interrupted; run the same command again to go on\n"
        assert main.returncode == 128 + signal.SIGTERM
        assert not child.is_running()
        assert leased(store) == 0


def test_extraction_processes_do_not_outlive_the_one_that_started_them(stores: Stores) -> None:
    with stores.fresh() as store:
        main, child = paused_extraction(store)
        main.kill()
        main.wait()
        child.send_signal(signal.SIGCONT)
        child.wait(30)
        assert leased(store) == 0


def test_an_extraction_process_that_is_killed_is_one_clear_error(stores: Stores) -> None:
    with stores.fresh() as store:
        main, child = paused_extraction(store)
        child.kill()
        _, said = main.communicate(timeout=60)
        assert said.startswith("slf: an extraction process was killed")
        assert (main.returncode, len(said.splitlines())) == (1, 2)


def paused_extraction(store: Store) -> tuple[subprocess.Popen[str], psutil.Process]:
    """`slf extract`, and its one process, stopped when it has just claimed a chunk."""
    assert store.settings.database_url is not None
    environment = {
        **os.environ,
        "SLF_HOME": str(store.settings.home),
        "SLF_DATABASE_URL": store.settings.database_url.get_secret_value(),
        "SLF_WORKERS": "1",
        "SLF_FAULT": "claim.after=pause",
    }
    command = [sys.executable, "-m", "slf_store.cli.main", "extract", "--direct", "--only", "mel"]
    main = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while True:
        assert time.monotonic() < deadline
        assert main.poll() is None, main.communicate()
        for child in psutil.Process(main.pid).children(recursive=True):
            if child.status() == psutil.STATUS_STOPPED:
                assert leased(store) > 0
                return main, child
        time.sleep(0.05)
