"""Quality: planted faults are found, numbers are those of the values themselves, analysts see no path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from slf_store.db.readonly import run_text
from slf_store.errors import NotFoundInStore
from slf_store.jobs.extract import LoadedExtractors, extract_chunk, plan
from slf_store.jobs.ingest import ingest
from slf_store.jobs.quality import Part, outliers, quality
from slf_store.query.values import read_constituent
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
VIEWS = ("constituent_quality", "attribute_quality", "attribute_agreement", "quality_outliers")
GOOD = 12
"""Clips of the sample in the store with planted faults."""
PERCENTILES = ("p01", "p05", "p50", "p95", "p99")


@pytest.fixture(scope="module")
def planted(open_folder: Path, server_url: str, sample: Path) -> Iterator[Store]:
    """Good clips, and beside them: two that sound the same, a loud one, a mute one, one that is no video."""
    root = open_folder / "planted"
    for index, clip in enumerate(sorted(sample.rglob("*.mp4"))[:GOOD]):
        shutil.copy(clip, folder(root, f"good{index:02}") / "clip.mp4")
    plant_faults(root)
    name = f"planted_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    home = open_folder / "planted store"
    settings = Settings(home=home, database_url=server_url.rpartition("/")[0] + "/" + name, workers=2, chunk_size=4)
    with Store.create(settings=settings) as store:
        ingest(store, root)
        plan(store, ["mel", "image_guide"])
        loaded = LoadedExtractors(store, ["mel", "image_guide"])
        while extract_chunk(store, loaded).clips:
            pass
        yield store
    shutil.rmtree(home)


def folder(root: Path, identity: str) -> Path:
    (root / identity).mkdir(parents=True)
    return root / identity


def plant_faults(root: Path) -> None:
    import av

    from slf_store.dataset.synthetic.clip import write_clip
    from slf_store.dataset.synthetic.voice import RATE

    rng = np.random.default_rng(0)
    voice, noise = 0.1 * rng.normal(size=4 * RATE), 0.9 * rng.choice([-1.0, 1.0], 4 * RATE)
    for name, level, sound in (("echo1", 40, voice), ("echo2", 90, voice), ("loud", 120, noise)):
        pictures = [np.full((224, 224, 3), level, np.uint8)] * 25
        write_clip(folder(root, name) / "clip.mp4", pictures, sound)
    with (
        av.open(str(root / "good00" / "clip.mp4")) as whole,
        av.open(str(folder(root, "mute") / "clip.mp4"), "w") as out,
    ):
        pictures_only = out.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(whole.streams.video[0]):
            if packet.dts is not None:
                packet.stream = pictures_only
                out.mux(packet)
    (folder(root, "text") / "clip.mp4").write_text("this is no video")


def one(store: Store, constituent: str, split: str = "dev") -> dict[str, Any]:
    (row,) = quality(store, Part(constituent=constituent, split=split)).constituents
    return row


def ids(store: Store, split: str) -> NDArray[np.int64]:
    rows = store.query("SELECT clip_id FROM clips WHERE split = :split ORDER BY clip_id", split=split)
    return np.array([row["clip_id"] for row in rows])


def test_what_is_there_and_why_the_rest_is_not(planted: Store) -> None:
    mel, guide = one(planted, "mel"), one(planted, "image_guide")
    assert (mel["clips"], mel["done"], mel["failed"], mel["missing"]) == (GOOD + 5, GOOD + 3, 1, 1)
    assert mel["failures"] == {"no_audio": 1}
    assert mel["coverage"] == pytest.approx((GOOD + 3) / (GOOD + 5))
    assert (guide["done"], guide["failed"], guide["failures"]) == (GOOD + 1, 3, {"no_face": 3})
    assert mel["measured"] == mel["done"]


def test_clips_that_sound_the_same_are_counted(planted: Store) -> None:
    assert one(planted, "mel")["identical_rate"] == pytest.approx(2 / (GOOD + 3))
    assert one(planted, "image_guide")["identical_rate"] == 0
    query = (ROOT / "docs" / "quality.md").read_text("utf-8").partition("```sql\n")[2].partition("```")[0]
    (same,) = run_text(planted.engine, query)
    assert (same["name"], sorted(key.split("/")[0] for key in same["same"])) == ("mel", ["echo1", "echo2"])


def test_a_loud_clip_is_an_outlier_with_its_bounds(planted: Store) -> None:
    found = outliers(planted, Part(constituent="mel"), limit=100)
    loud = next(row for row in found if row["identity"] == "loud" and row["statistic"] == "mean")
    values, present = read_constituent(planted, "mel", ids(planted, "dev"))
    means = values[present].astype(np.float64).mean(axis=(1, 2))
    low, median, high = np.percentile(means, [25, 50, 75])
    spread = (high - low) / 2
    assert loud["value"] == pytest.approx(means.max(), rel=1e-5)
    assert (loud["low"], loud["median"], loud["high"]) == pytest.approx(
        (median - 6 * spread, median, median + 6 * spread), rel=1e-5
    )
    assert loud["distance"] == pytest.approx((means.max() - median) / spread, rel=1e-5)
    far = np.flatnonzero(np.abs(means - median) > 6 * spread)
    assert len([row for row in found if row["statistic"] == "mean"]) == len(far)
    assert {row["identity"] for row in found} <= {"loud", "echo1", "echo2"}  # no voice is one
    assert [row["distance"] for row in found] == sorted((row["distance"] for row in found), reverse=True)
    assert outliers(planted, Part(constituent="mel"), limit=1) == found[:1]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_numbers_are_those_of_the_values_in_the_shards(extracted: Store, split: str) -> None:
    names = extracted.query("SELECT name FROM constituent WHERE kind = 'array' AND status = 'active'")
    everything = np.concatenate([ids(extracted, "dev"), ids(extracted, "test")])
    for name in sorted(row["name"] for row in names):
        values, present = read_constituent(extracted, name, ids(extracted, split))
        assert present.all()
        row, numbers = one(extracted, name, split), values.astype(np.float64)
        expect(row, numbers)
        rows = numbers.reshape(len(values), values.shape[1], -1)
        assert row["zero_row_rate"] == pytest.approx((rows == 0).all(axis=2).mean())
        assert row["null_rate"] == pytest.approx((rows == 0).all(axis=(1, 2)).mean())
        seen = Counter(value.tobytes() for value in read_constituent(extracted, name, everything)[0])
        assert row["identical_rate"] == pytest.approx(np.mean([seen[value.tobytes()] > 1 for value in values]))


def test_numbers_are_those_of_embeddings_and_face_scores(extracted: Store) -> None:
    for split in ("dev", "test"):
        clips = ids(extracted, split).tolist()
        vectors = extracted.query("SELECT vector FROM face_embedding WHERE clip_id = ANY(:clips)", clips=clips)
        expect(one(extracted, "face_dlib", split), np.array([row["vector"].to_list() for row in vectors]))
        scores = extracted.query("SELECT confidence FROM face WHERE clip_id = ANY(:clips)", clips=clips)
        expect(one(extracted, "face", split), np.array([[row["confidence"]] for row in scores]))
    assert extracted.query("SELECT DISTINCT chosen_by FROM face") == [{"chosen_by": "only"}]
    norms = extracted.query("""
        SELECT value_rms * sqrt(128) AS expected, vector_norm(vector) AS norm FROM face_embedding
        JOIN extraction USING (constituent_id, clip_id)
    """)
    assert len(norms) == 18
    assert all(row["norm"] == pytest.approx(row["expected"], rel=1e-6) for row in norms)


def expect(row: dict[str, Any], values: NDArray[np.float64]) -> None:
    """The row's numbers are those of these values, one for each clip."""
    means = values.reshape(len(values), -1).mean(axis=1)
    assert row["measured"] == row["done"] == len(values)
    assert (row["value_min"], row["value_max"]) == pytest.approx((values.min(), values.max()), rel=1e-6)
    assert row["value_mean"] == pytest.approx(means.mean(), rel=1e-5, abs=1e-7)
    expected = np.percentile(means, [1, 5, 50, 95, 99])
    assert [row[name] for name in PERCENTILES] == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-7)


def test_attributes_are_counted_and_compared(extracted: Store) -> None:
    found = quality(extracted, Part(split="dev"))
    rows = {(row["attribute"], row["stated_by"]): row for row in found.attributes}
    stated = extracted.query("""
        SELECT said.value_text AS said, said.value_number AS number, known.value_text AS known
        FROM attribute said
        JOIN clips USING (clip_id)
        LEFT JOIN attribute known ON known.clip_id = said.clip_id AND known.name = said.name
                                  AND known.source = 'metadata'
        WHERE said.source = 'age_gender' AND clips.split = 'dev'
    """)
    ages = [row["number"] for row in stated if row["number"] is not None]
    labels = [(row["said"], row["known"]) for row in stated if row["said"] is not None]
    age, gender = rows["age", "age_gender"], rows["gender", "age_gender"]
    assert (age["clips"], age["stated"], age["null_rate"], age["labels"]) == (12, 12, 0, {})
    assert (age["value_min"], age["value_max"]) == (min(ages), max(ages))
    assert [age[name] for name in PERCENTILES] == pytest.approx(np.percentile(ages, [1, 5, 50, 95, 99]).tolist())
    assert gender["labels"] == Counter(said for said, _ in labels)
    assert 0 < gender["score_mean"] <= 1
    assert rows["gender", "metadata"]["labels"] == Counter(known for _, known in labels)
    assert rows["gender", "metadata"]["version"] is None
    (both,) = [row for row in found.agreement if row["attribute"] == "gender"]
    assert (both["first"], both["second"], both["clips"]) == ("metadata", "age_gender", 12)
    assert both["equal_rate"] == pytest.approx(np.mean([said == known for said, known in labels]))


def test_measuring_leaves_values_as_they_were(extracted: Store) -> None:
    """What is kept of a value says what lies in the shard: its hash is that of the stored bytes."""
    from slf_store.jobs.value_statistics import measure_array

    clips = ids(extracted, "dev")
    for name in ("mel", "camplusplus", "target"):
        values, _ = read_constituent(extracted, name, clips)
        kept = extracted.query(
            """
            SELECT value_hash FROM extraction JOIN constituent ON constituent.id = constituent_id
            WHERE name = :name AND clip_id = ANY(:clips) ORDER BY clip_id
            """,
            name=name,
            clips=clips.tolist(),
        )
        assert [row["value_hash"] for row in kept] == [measure_array(value).value_hash for value in values]


def test_an_analyst_reads_quality_and_sees_no_path(planted: Store, extracted: Store) -> None:
    for view in VIEWS:
        store = extracted if view.startswith("attribute") else planted
        rows = run_text(store.engine, f"SELECT * FROM {view}", role="analyst")
        assert rows
        assert "/" not in str(rows)
        assert not {"path", "message", "vector"} & rows[0].keys()


def slf(store: Store, *words: str, code: int = 0) -> str:
    assert store.settings.database_url is not None
    environment = {
        **os.environ,
        "SLF_HOME": str(store.settings.home),
        "SLF_DATABASE_URL": store.settings.database_url.get_secret_value(),
    }
    program = Path(sys.executable).with_name("slf")
    done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_verb_prints_tables_and_json(planted: Store) -> None:
    page = slf(planted, "quality")
    assert "what the values look like" in page
    assert "no_audio 1" in page
    assert "13.33 %" in page  # two of 15 sound the same
    found = json.loads(slf(planted, "--json", "quality", "--source", "planted", "--split", "dev"))
    assert {row["constituent"]: row["done"] for row in found["constituents"]} == {"mel": 15, "image_guide": 13}
    assert json.loads(slf(planted, "--json", "quality", "--split", "test"))["constituents"] == []
    listed = json.loads(slf(planted, "--json", "quality", "--outliers", "--constituent", "mel", "--limit", "2"))
    assert len(listed) == 2
    assert listed[0].keys() >= {"identity", "video", "clip", "statistic", "value", "low", "high"}


def test_wrong_words_are_plain_errors(planted: Store) -> None:
    assert "no source 'nowhere'" in slf(planted, "quality", "--source", "nowhere", code=1)
    assert "'valid'" in slf(planted, "quality", "--split", "valid", code=2)
    with pytest.raises(NotFoundInStore, match="no constituent 'loudness'"):
        quality(planted, Part(constituent="loudness"))
    with pytest.raises(NotFoundInStore, match="no source 'nowhere'"):
        outliers(planted, Part(source="nowhere"))
