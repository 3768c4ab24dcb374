"""Ingest: what a tree holds, what is odd in it, what changes between scans."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from slf_store.errors import DatasetError
from slf_store.jobs import sql_ingest
from slf_store.jobs.coverage import coverage_summary
from slf_store.jobs.ingest import ingest, register_source
from slf_store.jobs.pool import extract
from slf_store.jobs.register import register_rows
from slf_store.store import Store

pytestmark = pytest.mark.integration


def first_clip(sample: Path) -> Path:
    return next(iter(sorted((sample / "dev" / "mp4").rglob("*.mp4"))))


def test_the_official_tree_is_registered_and_a_second_scan_opens_nothing(store: Store, sample: Path) -> None:
    first = ingest(store, sample)
    assert (first.found, first.new, first.quarantined, first.without_metadata) == (18, 18, {}, 0)
    row = store.query("SELECT * FROM clips ORDER BY clip_id LIMIT 1")[0]
    assert (row["fps"], row["width"], row["height"], row["has_audio"], row["audio_rate"]) == (25, 224, 224, True, 16000)
    assert row["synthetic"] is True
    assert row["gender"] in ("f", "m")
    assert row["gender_source"] == "metadata"
    assert {r["split"] for r in store.query("SELECT DISTINCT split FROM clips")} == {"dev", "test"}
    again = ingest(store, sample)
    assert (again.new, again.changed, again.unchanged) == (0, 0, 18)


def test_clips_of_new_and_of_known_videos_are_written_alike(store: Store) -> None:
    """The first batch makes the video and is inserted unchecked; the second merges into what is there."""
    with store.engine.begin() as connection:
        source = register_source(connection, Path("/made/up"), "made up", "folder")["id"]
        connection.execute(sql_ingest.NEW_PLACES, {"source_id": source, "splits": ["dev"]})
    facts = ("ok", None, None, 1.0, 25.0, 25, 64, 64, True, 16000, 1, 10, 20, "sum", None, None, None, None)
    rows = [("ann", "dev", "v", clip, "path", *facts) for clip in "abcd"]
    assert [register_rows(store.engine, source, rows[:2]), register_rows(store.engine, source, rows)] == [0, 0]
    written = store.query("SELECT to_jsonb(clip) - 'id' - 'name' - 'scanned_at' AS c, name FROM clip ORDER BY name")
    assert [row["name"] for row in written] == list("abcd")
    assert all(row["c"] == written[0]["c"] for row in written)
    assert written[0]["c"]["place_id"] is not None
    with pytest.raises(IntegrityError, match="fk_clip_video_id_video"), store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE clip SET video_id = 0")  # the foreign key is asked again


def test_one_split_and_a_plain_folder_are_accepted(store: Store, sample: Path, tmp_path: Path) -> None:
    assert ingest(store, sample / "test", name="one split").found == 6
    assert [r["split"] for r in store.query("SELECT DISTINCT split FROM clips")] == ["test"]
    plain = tmp_path / "plain folder"
    (plain / "ada").mkdir(parents=True)
    shutil.copy(first_clip(sample), plain / "ada" / 'it\'s "1".mp4')
    report = ingest(store, plain, split="test")
    assert (report.found, report.quarantined) == (1, {})
    row = store.query("SELECT identity, clip FROM clips WHERE source = 'plain folder'")[0]
    assert row == {"identity": "ada", "clip": 'it\'s "1".mp4'}


def test_a_changed_clip_is_extracted_again(store: Store, sample: Path, tmp_path: Path) -> None:
    clips = sorted((sample / "dev" / "mp4").rglob("*.mp4"))
    root = tmp_path / "tree"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        shutil.copy(clips[0], root / name / "clip.mp4")
    ingest(store, root)
    assert extract(store, ["mel"]).done == {"mel": 2}
    shutil.copy(clips[-1], root / "b" / "clip.mp4")
    (root / "a" / "clip.mp4").unlink()
    report = ingest(store, root)
    assert (report.changed, report.unchanged, report.vanished) == (1, 0, 1)
    assert extract(store, ["mel"]).done == {"mel": 1}
    assert coverage_summary(store)[0]["done"] == 2


def test_a_second_metadata_file_adds_ages_and_the_video_wins(store: Store, sample: Path, tmp_path: Path) -> None:
    ingest(store, sample)
    who = store.query("SELECT identity, video FROM clips ORDER BY clip_id LIMIT 1")[0]
    ages = tmp_path / "ages.csv"
    ages.write_text(f"identity,video,age\n{who['identity']},,50\n{who['identity']},{who['video']},31\n")
    for _ in range(2):
        ingest(store, sample, meta=ages)
        found = store.query("SELECT video, age, age_source, gender_source FROM clips WHERE age IS NOT NULL")
        assert {row["video"]: row["age"] for row in found}.pop(who["video"]) == 31
        assert sorted(row["age"] for row in found) == [31, 50]
        assert {(row["age_source"], row["gender_source"]) for row in found} == {("metadata", "metadata")}


def test_bad_roots_and_metadata_are_one_clear_error(store: Store, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a folder"):
        ingest(store, tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DatasetError, match="no clip below"):
        ingest(store, tmp_path / "hollow")
    meta = tmp_path / "meta.csv"
    meta.write_text("VoxCeleb2 ID ,Gender\nid00001,x\n")
    with pytest.raises(DatasetError, match=r"line 2, column Gender: 'x'"):
        ingest(store, sample, meta=meta)
    ingest(store, sample, name="taken")
    with pytest.raises(DatasetError, match="another root is registered"):
        ingest(store, sample / "dev", name="taken")
