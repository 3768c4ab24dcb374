"""`slf compact`: small shards become large ones while readers read and writers write, and no value changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from fault_stores import resize, small_disk
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.constituents.spec import ConstituentSpec
from slf_store.errors import ConfigError, ShardError
from slf_store.jobs import queue
from slf_store.jobs.commit import Outcome, commit_chunk
from slf_store.jobs.compact import compact, damaged
from slf_store.jobs.constituents import list_constituents, register
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.retire import retire
from slf_store.jobs.verify import verify
from slf_store.query.loader import Loader
from slf_store.query.manifest import open_snapshot
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.query.systems import system
from slf_store.query.values import read_constituent
from slf_store.store import Store

pytestmark = pytest.mark.integration

NOISE = ConstituentSpec("noise", "array", (5, 8), "float16", "none", "none", 1)
TUNE = ConstituentSpec("tune", "array", (9, 3), "float32", "Hz", "none", 1, variable=True)
CLIPS = 40
MORE_CLIPS = text("""
    INSERT INTO clip (video_id, name, path, state, frames, has_audio, file_bytes, file_mtime_ns)
    SELECT (SELECT min(id) FROM video), 'more' || n, 'more' || n || '.mp4', 'ok', 25, true, 1, 1
    FROM generate_series(1, :clips) n
""")


def value_of(spec: ConstituentSpec, clip: int) -> NDArray[np.float32]:
    chance = np.random.default_rng(clip)
    rows = int(chance.integers(1, 9)) if spec.variable else spec.shape[0]
    return chance.normal(size=(rows, spec.shape[1])).astype(spec.dtype)


def write(store: Store, clips: int = 1000, chunk: int = 2) -> None:
    """What extraction does, with values that follow from the clip's key: claim, seal, commit."""
    with store.engine.begin() as connection:
        keys = register(connection, [NOISE, TUNE])
    specs = {keys[spec.name]: spec for spec in (NOISE, TUNE)}
    queue.enqueue(store.engine, list(specs))
    while clips > 0:
        owner = f"test/{time.monotonic_ns()}"
        claimed = queue.claim(store.engine, list(specs), clips=chunk, owner=owner, lease_s=60)
        if not claimed:
            return
        results = {
            key: (spec, [Outcome(c.clip_id, value_of(spec, c.clip_id), 0.0) for c in claimed if key in c.constituents])
            for key, spec in specs.items()
        }
        commit_chunk(store, owner, results)
        clips -= chunk


@pytest.fixture
def many(kept: Store) -> Store:
    """The small store with many small shards of two made-up constituents, one of variable length."""
    with kept.engine.begin() as connection:
        connection.execute(MORE_CLIPS, {"clips": CLIPS - 4})
    write(kept)
    return kept


def noise(store: Store) -> dict[int, bytes]:
    ids = np.array([row["id"] for row in store.query("SELECT id FROM clip ORDER BY id")])
    values, present = read_constituent(store, "noise", ids)
    return {int(clip): values[i].tobytes() for i, clip in enumerate(ids) if present[i]}


def sealed(store: Store, name: str) -> int:
    return sum(row["shards"] for row in list_constituents(store) if row["name"] == name)


def hash_again(store: Store, name: str) -> str:
    predicate = "clip NOT LIKE 'more%' AND split IS NOT NULL"
    return freeze(store, select(store, predicate, missing="skip"), name, validation=0.34).hash


def test_small_shards_become_large_ones_with_the_same_values_and_snapshots(many: Store) -> None:
    before, frozen, extraction = noise(many), hash_again(many, "a"), many.query(EXTRACTION)
    assert sealed(many, "noise") == CLIPS // 2
    reports = {report.constituent: report for report in compact(many, target_rows=16)}
    assert (reports["noise"].shards_before, reports["noise"].shards_after) == (20, 3)
    assert reports["noise"].bytes_after < reports["noise"].bytes_before
    assert (sealed(many, "noise"), sealed(many, "tune"), sealed(many, "mel")) == (3, 3, 1)
    assert noise(many) == before == {clip: value_of(NOISE, clip).tobytes() for clip in before}
    assert hash_again(many, "b") == frozen == many.query("SELECT hash FROM snapshot WHERE name = 'kept'")[0]["hash"]
    assert many.query(EXTRACTION) == extraction
    report = verify(many)
    assert (report.findings, report.values) == ([], 2 * CLIPS + 9)
    assert [r.shards_before - r.shards_after for r in compact(many, target_rows=16)] == [0] * 5
    with h5py.File(next(many.shards.glob("tune/*/*.h5"))) as file:
        assert file["values"].id.get_offset() is not None
        assert (file["values"].chunks, file["values"].compression) == (None, None)


EXTRACTION = """
    SELECT constituent_id, clip_id, state, attempts, seconds, finished_at, value_hash, value_rows, lease_owner
    FROM extraction ORDER BY 1, 2
"""


def test_replaced_shards_stay_for_readers_until_their_time_is_over(many: Store) -> None:
    manifest = open_snapshot(many, "kept", "all")
    compact(many)
    listed = {row["name"]: row for row in list_constituents(many)}
    assert listed["noise"]["superseded_bytes"] > listed["noise"]["bytes"] > 0
    report = collect_garbage(many, remove=True)
    assert (report.files, report.superseded_files) == ([], 46)
    assert all(path.exists() for path in manifest.constituents["mel"].paths)
    many.settings.shard_grace_hours = 0
    assert len(collect_garbage(many).files) == 46
    assert len(collect_garbage(many, remove=True).files) == 46
    report = collect_garbage(many)
    assert (report.files, report.missing, report.superseded_files) == ([], [], 0)
    assert verify(many).findings == []
    assert many.query("SELECT count(*) AS n FROM shard") == [{"n": 5}]


def test_rows_that_no_clip_uses_are_dropped(many: Store) -> None:
    with many.engine.begin() as connection:  # what a re-scan does with changed clips
        connection.execute(
            text("DELETE FROM extraction WHERE clip_id IN (SELECT id FROM clip ORDER BY id DESC LIMIT 9)")
        )
    reports = {report.constituent: report for report in compact(many)}
    assert (reports["noise"].dropped_rows, reports["noise"].shards_after) == (1, 5)  # 4 empty ones are left to gc
    assert set(noise(many)) == set(range(1, CLIPS - 8))
    write(many)
    assert len(noise(many)) == CLIPS
    assert verify(many).findings == []


def test_a_damaged_shard_is_left_alone_and_named(many: Store) -> None:
    path = sorted(many.shards.glob("noise/*/*.h5"))[3]
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    reports = compact(many, ["noise"])
    assert [report.damaged for report in reports] == [[path.relative_to(many.shards).as_posix()]]
    with pytest.raises(ShardError, match=path.name):
        damaged(reports)
    assert sealed(many, "noise") == 2
    assert {finding.file for finding in verify(many).findings} == {path.relative_to(many.settings.home).as_posix()}


def start(many: Store, fault: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "SLF_FAULT": fault}
    command = [sys.executable, "-m", "slf_store.cli.main", "--json", "compact", "--constituent", "noise"]
    return subprocess.Popen([*command, "--rows", "16"], env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("point", ["compact.sealed", "compact.repointed", "compact.committed"])
def test_a_compaction_killed_at_any_step_loses_nothing(many: Store, point: str) -> None:
    before = noise(many)
    assert start(many, f"{point}:2").wait() == -signal.SIGKILL
    report = verify(many)
    assert (report.findings, report.unknown) == ([], 0 if point == "compact.committed" else 1)
    assert noise(many) == before
    assert len(collect_garbage(many, remove=True).files) == report.unknown
    compact(many, ["noise"], target_rows=16)
    assert (sealed(many, "noise"), noise(many) == before) == (3, True)
    report = verify(many)
    assert (report.findings, report.unknown) == ([], 0)


def test_a_disk_that_is_full_leaves_every_shard_as_it_was(many: Store) -> None:
    before, shards = noise(many), sealed(many, "noise")
    with small_disk(many.shards, "10m"):
        used = shutil.disk_usage(many.shards).used
        resize(many.shards, str(used + 4096))
        with pytest.raises(ShardError, match="the disk is full: cannot write a shard of noise"):
            compact(many, ["noise"])
        assert (sealed(many, "noise"), noise(many) == before) == (shards, True)
        report = verify(many)
        assert (report.findings, report.unknown) == ([], 0)
        resize(many.shards, "10m")
        compact(many, ["noise"])
        assert (sealed(many, "noise"), noise(many) == before) == (1, True)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_while_a_shard_is_merged_writers_go_on_and_removers_wait(many: Store) -> None:
    process = start(many, "compact.sealed=pause")
    try:
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T")
        with many.engine.begin() as connection:
            connection.execute(text("DELETE FROM extraction WHERE clip_id = 1 AND constituent_id IN (SELECT id FROM "
                                    "constituent WHERE name = 'noise')"))  # fmt: skip
        write(many)
        assert len(noise(many)) == CLIPS
        with pytest.raises(ConfigError, match="another compaction"):
            compact(many)
        remover = threading.Thread(target=retire, args=(many, f"noise@{NOISE.version}"))
        remover.start()
        remover.join(0.5)
        assert remover.is_alive()
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert process.wait() == 0
    remover.join(30)
    assert not remover.is_alive()
    assert list(many.shards.glob("noise/*/*.h5")) == []
    assert verify(many).findings == []


def test_readers_and_writers_see_nothing_of_it(many: Store) -> None:
    """Loaders old and new, plain reads, a writer, compaction and gc, all at once; every byte is compared."""
    first = Loader(open_snapshot(many, "kept", "all"), system("full-input"), batch_size=3)
    wanted = batch_bytes(first)
    stop, errors, reads = threading.Event(), list[BaseException](), [0]

    def until_stopped(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                errors.append(error)

        return run

    def read() -> None:
        again = Loader(open_snapshot(many, "kept", "all"), system("full-input"), batch_size=3)
        assert batch_bytes(again) == batch_bytes(first) == wanted
        assert all(value_of(NOISE, clip).tobytes() == value for clip, value in noise(many).items())
        reads[0] += 1

    def rewrite() -> None:
        with many.engine.begin() as connection:
            connection.execute(text("DELETE FROM extraction WHERE clip_id > 20 AND clip_id % 3 = 0"))
        write(many)

    threads = [threading.Thread(target=until_stopped(work)) for work in (read, rewrite)]
    for thread in threads:
        thread.start()
    merged = 0
    for _ in range(5):
        merged += sum(report.shards_before - report.shards_after for report in compact(many, target_rows=24))
        collect_garbage(many, remove=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert merged > 40
    assert reads[0] > 0
    write(many)
    assert len(noise(many)) == CLIPS
    report = verify(many)
    assert (report.findings, report.unknown) == ([], 0)


def batch_bytes(loader: Loader) -> list[bytes]:
    batches: Iterator[object] = loader.once()
    return [batch.conditioning.numpy().tobytes() + batch.target.numpy().tobytes() for batch in batches]  # type: ignore[attr-defined]
