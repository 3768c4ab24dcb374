"""Attributes: every version of every extractor by itself, one preferred value, and older stores brought up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from slf_store.constituents import registry
from slf_store.constituents.extractor import AttributeValue, Extractor
from slf_store.constituents.spec import ConstituentSpec
from slf_store.db.engine import open_engine
from slf_store.db.migrate import check_schema, downgrade, upgrade
from slf_store.jobs.extract import LoadedExtractors, extract_chunk, plan
from slf_store.jobs.ingest import ingest
from slf_store.jobs.quality import Part, quality
from slf_store.media.clip import ClipMedia
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

CLIPS = """
    INSERT INTO source (name, root, layout) VALUES ('made up', '/nowhere', 'folder');
    INSERT INTO identity (source_id, name) SELECT id, 'nobody' FROM source;
    INSERT INTO video (identity_id, split, name) SELECT id, 'dev', 'video' FROM identity;
    INSERT INTO clip (video_id, name, path, state, file_bytes, file_mtime_ns)
    SELECT video.id, number, number, 'ok', 0, 0 FROM video, generate_series(1, 4) AS number;
"""
"""Four clips whose files nobody opens."""


@dataclass(eq=False)
class Guess(Extractor):
    """States one gender for everybody, or nothing."""

    name = "guess"
    label: str = "f"

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare("attribute", unit="f | m", paper="none")

    def extract(self, clip: ClipMedia) -> list[AttributeValue]:
        return [AttributeValue("gender", text=self.label, score=0.75)] if self.label else []


@pytest.fixture
def guess(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Extracts one version of `guess`; its version."""
    monkeypatch.setattr(registry, "BUILT_IN", (Guess,))
    run(store, CLIPS)

    def extract(label: str) -> str:
        store.settings.parameters["guess"] = {"label": label}
        plan(store, ["guess"])
        loaded = LoadedExtractors(store, ["guess"])
        while (report := extract_chunk(store, loaded)).clips:
            assert report.failed == {"guess": 0}
        return next(iter(loaded.by_key.values())).spec.version

    return extract


def run(store: Store, *statements: str) -> None:
    with store.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_two_versions_of_one_extractor_live_side_by_side(store: Store, guess: Callable[[str], str]) -> None:
    old, new = guess("f"), guess("m")
    rows = store.query("""
        SELECT constituent.version, value_text, count(*) AS clips FROM attribute
        JOIN constituent ON constituent.id = constituent_id GROUP BY 1, 2 ORDER BY 2
    """)
    assert [tuple(row.values()) for row in rows] == [(old, "f", 4), (new, "m", 4)]
    preferred = "SELECT DISTINCT gender, gender_source, gender_score, age_score FROM clips"
    assert store.query(preferred) == [
        {"gender": "m", "gender_source": "guess", "gender_score": 0.75, "age_score": None}
    ]
    assert store.query("SELECT DISTINCT version FROM preferred_attribute") == [{"version": new}]
    run(store, f"UPDATE constituent SET status = 'retired' WHERE version = '{new}'")
    assert store.query("SELECT DISTINCT gender FROM clips") == [{"gender": "f"}]
    run(store, f"DELETE FROM constituent WHERE version = '{old}'")
    assert store.query("SELECT count(*) AS n FROM attribute") == [{"n": 4}]
    assert store.query("SELECT DISTINCT gender FROM clips") == [{"gender": None}]  # what is retired is never preferred


def test_extracting_again_replaces_what_the_same_version_said(store: Store, guess: Callable[[str], str]) -> None:
    guess("f")
    run(store, "UPDATE extraction SET state = 'pending'", "UPDATE attribute SET value_text = 'm'")
    guess("f")
    assert store.query("SELECT value_text, count(*) AS n FROM attribute GROUP BY 1") == [{"value_text": "f", "n": 4}]


def test_a_changed_clip_forgets_what_extractors_said_of_it(
    store: Store, guess: Callable[[str], str], sample: Path, tmp_path: Path
) -> None:
    files = sorted(sample.rglob("*.mp4"))
    for name in ("changes", "stays"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        shutil.copy(files[0], tmp_path / "clips" / name / "clip.mp4")
    ingest(store, tmp_path / "clips")
    guess("f")
    run(
        store,
        "INSERT INTO attribute (clip_id, name, source, value_text) SELECT id, 'gender', 'metadata', 'm' FROM clip",
    )
    shutil.copy(files[-1], tmp_path / "clips" / "changes" / "clip.mp4")
    ingest(store, tmp_path / "clips")
    rows = store.query("""
        SELECT identity, string_agg(attribute.source, ' ' ORDER BY attribute.source) AS sources
        FROM attribute JOIN clips USING (clip_id) WHERE clips.source = 'clips' GROUP BY 1 ORDER BY 1
    """)
    assert [tuple(row.values()) for row in rows] == [("changes", "metadata"), ("stays", "guess metadata")]


def test_an_extractor_that_states_nothing_shows_as_null(store: Store, guess: Callable[[str], str]) -> None:
    spoke, silent = guess("f"), guess("")
    run(store, "DELETE FROM attribute WHERE clip_id = (SELECT min(id) FROM clip)")
    rows = {row["version"]: row for row in quality(store, Part(constituent="guess")).constituents}
    assert (rows[spoke]["null_rate"], rows[silent]["null_rate"]) == (0, 1)
    (row,) = quality(store).attributes  # the silent version has no attribute to speak of
    assert (row["version"], row["clips"], row["stated"], row["null_rate"]) == (spoke, 4, 3, 0.25)
    assert row["labels"] == {"f": 3}


def test_versions_are_compared_with_each_other(store: Store, guess: Callable[[str], str]) -> None:
    old, new = guess("f"), guess("m")
    run(store, "UPDATE attribute SET value_text = 'f' WHERE clip_id = (SELECT min(id) FROM clip)")
    (row,) = quality(store).agreement
    assert (row["first_version"], row["second_version"], row["clips"], row["equal_rate"]) == (old, new, 4, 0.25)


def test_the_preferred_source_of_an_attribute(store: Store) -> None:
    """Best first: take the best away, and the next one speaks."""
    run(store, CLIPS)
    ranks = ["deepface_attributes", "age_gender", "a_new_model", "zoo"]
    for name in reversed(ranks):  # the order in which they came does not count
        run(
            store,
            f"""
            INSERT INTO constituent (name, version, kind, shape, spec)
            VALUES ('{name}', '1', 'attribute', '{{}}', '{{}}')
            """,
            f"""
            INSERT INTO attribute (clip_id, name, source, constituent_id, value_number, score)
            SELECT clip.id, 'age', '{name}', constituent.id, 30, 0.5 FROM clip, constituent
            WHERE constituent.name = '{name}'
            """,
        )
    run(store, "INSERT INTO attribute (clip_id, name, source, value_number) SELECT id, 'age', 'metadata', 31 FROM clip")
    for best in ("metadata", *ranks):
        score = None if best == "metadata" else 0.5
        assert store.query("SELECT DISTINCT age_source, age_score FROM clips") == [
            {"age_source": best, "age_score": score}
        ]
        run(store, f"DELETE FROM attribute WHERE source = '{best}'")
    assert store.query("SELECT DISTINCT age, age_source FROM clips") == [{"age": None, "age_source": None}]


OLD_STORE = f"""
    {CLIPS}
    INSERT INTO constituent (name, version, kind, shape, spec) VALUES
        ('age_gender', 'older', 'attribute', '{{}}', '{{}}'), ('age_gender', 'newer', 'attribute', '{{}}', '{{}}'),
        ('mel', 'only', 'array', '{{111,128}}', '{{}}');
    CREATE TABLE extraction_1 PARTITION OF extraction FOR VALUES IN (1);
    CREATE TABLE extraction_2 PARTITION OF extraction FOR VALUES IN (2);
    CREATE TABLE extraction_3 PARTITION OF extraction FOR VALUES IN (3);
    INSERT INTO shard (constituent_id, path, rows, bytes, checksum) VALUES (3, 'mel/only/a.h5', 4, 1, 'x');
    INSERT INTO extraction (constituent_id, clip_id, state, finished_at)
        SELECT 1, id, 'done', now() - interval '2 days' FROM clip;
    INSERT INTO extraction (constituent_id, clip_id, state, finished_at)
        SELECT 2, id, 'done', now() - interval '1 day' FROM clip WHERE name IN ('1', '2');
    INSERT INTO extraction (constituent_id, clip_id, state, error_code) SELECT 2, id, 'failed', 'no_face'
        FROM clip WHERE name NOT IN ('1', '2');
    INSERT INTO extraction (constituent_id, clip_id, state, shard_id, shard_row, seconds)
        SELECT 3, id, 'done', 1, id - 1, 0.5 FROM clip;
    INSERT INTO face (constituent_id, clip_id, frame, x, y, width, height, faces_in_frame, detector)
        SELECT 1, id, 0, 1, 2, 3, 4, 1, 'dlib' FROM clip;
    INSERT INTO attribute (clip_id, name, source, value_text) SELECT id, 'gender', 'metadata', 'f' FROM clip;
    INSERT INTO attribute (clip_id, name, source, value_number, score)
        SELECT id, 'age', 'age_gender', 40, 0.9 FROM clip;
    INSERT INTO attribute (clip_id, name, source, value_text) SELECT id, 'language', 'gone', 'English' FROM clip;
"""


def test_a_store_of_the_first_version_keeps_its_data(database_url: str, tmp_path: Path) -> None:
    engine = open_engine(Settings(home=tmp_path, database_url=database_url))
    store = Store(Settings(home=tmp_path, database_url=database_url), engine)
    upgrade(engine, "0001")
    run(store, OLD_STORE)
    before = {
        table: store.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in ("clips", "extraction", "face")
    }

    upgrade(engine)
    check_schema(engine)
    for table, rows in before.items():
        now = store.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        assert len(now) == len(rows) == (12 if table == "extraction" else 4)
        changed = [{key: row[key] for key in old} for row, old in zip(now, rows, strict=True)]
        assert changed == [
            {**row, "language": None, "language_source": None} if "language" in row else row for row in rows
        ]
    writers = store.query("""
        SELECT clip.name, constituent.version FROM attribute
        JOIN clip ON clip.id = clip_id JOIN constituent ON constituent.id = constituent_id
        WHERE attribute.source = 'age_gender' ORDER BY 1
    """)
    assert [tuple(row.values()) for row in writers] == [("1", "newer"), ("2", "newer"), ("3", "older"), ("4", "older")]
    assert store.query("SELECT DISTINCT age, age_score, gender FROM clips") == [
        {"age": 40, "age_score": 0.9, "gender": "f"}
    ]
    assert store.query("SELECT count(*) AS n FROM attribute WHERE source = 'gone'") == [
        {"n": 0}
    ]  # nothing stands for it
    (mel,) = quality(store, Part(constituent="mel")).constituents
    assert (mel["done"], mel["measured"], mel["null_rate"], mel["p50"]) == (4, 0, None, None)

    run(store, "INSERT INTO attribute SELECT clip_id, name, source, value_text, 50, score, 1 FROM attribute"
               " WHERE constituent_id = 2")  # fmt: skip
    downgrade(engine, "0001")
    ages = store.query("SELECT value_number AS age, count(*) AS clips FROM attribute WHERE name = 'age' GROUP BY 1")
    assert ages == [{"age": 40, "clips": 4}]  # of two versions the newer is kept
    assert store.query("SELECT * FROM clips ORDER BY 1")[0].keys() == before["clips"][0].keys()
    upgrade(engine)
    assert store.query("SELECT DISTINCT age, gender FROM clips") == [{"age": 40, "gender": "f"}]
    engine.dispose()
