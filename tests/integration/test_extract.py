"""Extraction: every constituent once, resumable after kill -9, never twice, never half."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slf_store.cli.demo import CONSTITUENTS
from slf_store.errors import LeaseLost, ModelUnavailable
from slf_store.jobs import queue
from slf_store.jobs.coverage import coverage_reasons, coverage_summary
from slf_store.jobs.extract import LoadedExtractors, extract_chunk, plan
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.query.values import read_constituent
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

pytestmark = pytest.mark.integration

SPEECH = {"camplusplus", "resemblyzer", "mel", "pyaudioanalysis", "language_whisper"}
WANTED = (*CONSTITUENTS, "resemblyzer")
"""What the fixture `extracted` has."""
ALL = SPEECH | {"face", "target", "image_guide", "age_gender", "face_dlib"}


def take(sample: Path, root: Path, count: int) -> Path:
    """A plain folder with the first clips of the sample, one identity each."""
    for index, clip in enumerate(sorted(sample.rglob("*.mp4"))[:count]):
        (root / f"id{index:05}").mkdir(parents=True)
        shutil.copy(clip, root / f"id{index:05}" / "clip.mp4")
    return root


def test_every_constituent_of_every_clip_is_there(extracted: Store) -> None:
    summary = {row["constituent"]: row for row in coverage_summary(extracted)}
    assert {name: row["done"] for name, row in summary.items()} == dict.fromkeys(WANTED, 18)
    assert coverage_reasons(extracted) == []
    assert extracted.query("SELECT count(*) AS n FROM face_embedding WHERE vector_dims(vector) = 128") == [{"n": 18}]
    assert extracted.query("SELECT count(*) AS n FROM face WHERE faces_in_frame = 1") == [{"n": 18}]
    ages = extracted.query("SELECT count(*) AS n FROM attribute WHERE name = 'age' AND value_number BETWEEN 0 AND 100")
    assert ages == [{"n": 18}]


def test_running_again_does_nothing(extracted: Store) -> None:
    before = sorted(extracted.shards.rglob("*.h5"))
    assert extract(extracted, WANTED).clips == 0
    assert sorted(extracted.shards.rglob("*.h5")) == before


def test_shards_are_what_postgresql_says(extracted: Store) -> None:
    rows = extracted.query("SELECT path, rows, bytes, checksum FROM shard")
    assert len(rows) > 10
    for row in rows:
        path = extracted.shards / row["path"]
        assert (path.stat().st_size, file_checksum(path)) == (row["bytes"], row["checksum"])
    assert collect_garbage(extracted).missing == []


def test_adding_a_constituent_extracts_only_that(store: Store, sample: Path, tmp_path: Path) -> None:
    ingest(store, take(sample, tmp_path / "clips", 3))
    assert extract(store, ["mel"]).done == {"mel": 3}
    shards = {path: file_checksum(path) for path in store.shards.rglob("*.h5")}
    rows = store.query("SELECT * FROM extraction ORDER BY constituent_id, clip_id")
    assert extract(store, ["mel", "image_guide"]).done == {"image_guide": 3}
    assert {path: file_checksum(path) for path in shards} == shards
    assert [
        row for row in store.query("SELECT * FROM extraction ORDER BY constituent_id, clip_id") if row in rows
    ] == rows


def test_clips_without_audio_or_face_fail_with_their_reason_only_where_they_must(
    store: Store, sample: Path, tmp_path: Path
) -> None:
    import av

    root = take(sample, tmp_path / "clips", 1)
    (root / "silent").mkdir()
    with av.open(str(root / "silent" / "grey.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    ingest(store, root)
    report = extract(store)
    assert report.reasons == {"no_audio": len(SPEECH), "no_face": len(ALL - SPEECH)}
    assert sum(report.done.values()) == len(ALL)


def test_missing_weights_stop_the_job_before_it_touches_a_clip(store: Store, sample: Path, tmp_path: Path) -> None:
    ingest(store, take(sample, tmp_path / "clips", 2))
    store.settings.face_model = "ArcFace"
    with pytest.raises(ModelUnavailable, match="ArcFace"):
        extract(store)
    assert store.query("SELECT * FROM extraction") == []


def test_two_workers_never_get_the_same_clip(extracted: Store, store: Store, sample: Path) -> None:
    ingest(store, sample)
    plan(store, ["mel", "image_guide"])
    keys = [row["id"] for row in store.query("SELECT id FROM constituent")]
    first = queue.claim(store.engine, keys, clips=10, owner="a", lease_s=60)
    second = queue.claim(store.engine, keys, clips=10, owner="b", lease_s=60)
    assert (len(first), len(second)) == (10, 8)
    assert not {clip.clip_id for clip in first} & {clip.clip_id for clip in second}
    queue.release(store.engine, "a")
    assert queue.count_open(store.engine, keys) == 10


def test_a_worker_whose_lease_was_taken_over_writes_nothing(
    store: Store, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(store, take(sample, tmp_path / "clips", 2))
    plan(store, ["image_guide"])
    loaded = LoadedExtractors(store, ["image_guide"])
    guide = next(iter(loaded.by_key.values()))
    original = guide.extract

    def slow(clip: object) -> object:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE extraction SET lease_owner = 'another' WHERE state = 'leased'")
        return original(clip)  # type: ignore[arg-type]

    monkeypatch.setattr(guide, "extract", slow)
    with pytest.raises(LeaseLost):
        extract_chunk(store, loaded)
    assert list(store.shards.rglob("*.h5")) == []
    assert store.query("SELECT DISTINCT state, lease_owner FROM extraction") == [
        {"state": "leased", "lease_owner": "another"}
    ]


def test_kill_9_of_the_extracting_process_at_random_moments_loses_and_doubles_nothing(
    store: Store, sample: Path, tmp_path: Path, extracted: Store
) -> None:
    ingest(store, sample)
    script = (
        "from slf_store.store import Store; from slf_store.jobs.pool import extract\n"
        "if __name__ == '__main__':\n    extract(Store.open())\n"
    )
    program = tmp_path / "job.py"
    program.write_text(script)
    wanted = json.dumps(WANTED)
    environment = {**os.environ, "SLF_WORKERS": "1", "SLF_CHUNK_SIZE": "2", "SLF_CONSTITUENTS": wanted}
    moments = random.Random(0)
    kills = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, program], env=environment, start_new_session=True)
        time.sleep(moments.uniform(5, 9))
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert kills >= 2
    subprocess.run([sys.executable, program], env=environment, check=True)
    done = {row["constituent"]: row["done"] for row in coverage_summary(store)}
    assert done == dict.fromkeys(WANTED, 18)
    collect_garbage(store, remove=True)
    known = {row["path"] for row in store.query("SELECT path FROM shard")}
    assert {path.relative_to(store.shards).as_posix() for path in store.shards.rglob("*") if path.is_file()} == known
    doubled = store.query("SELECT shard_id, shard_row FROM extraction WHERE shard_id IS NOT NULL")
    assert len({(row["shard_id"], row["shard_row"]) for row in doubled}) == len(doubled) == 18 * 6
    for name in ("camplusplus", "mel", "target"):
        assert values_by_clip(store, name) == values_by_clip(extracted, name)


def values_by_clip(store: Store, name: str) -> dict[str, bytes]:
    rows = store.query("SELECT clip_id, identity || video || clip AS key FROM clips")
    values, present = read_constituent(store, name, np.array([row["clip_id"] for row in rows]))
    assert present.all()
    return {row["key"]: value.tobytes() for row, value in zip(rows, values, strict=True)}
