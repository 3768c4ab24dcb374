"""Sources as they are: sound and tracks beside the pictures, lists that differ, files that come and go, moves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.errors import DatasetError, NotFoundInStore
from slf_store.jobs.coverage import coverage_reasons, coverage_summary
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.jobs.sources import list_sources, move_source
from slf_store.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, media_files: ModuleType) -> Path:
    """An official tree: one clip with sound of its own, three whose sound lies in `aac/`, one of them damaged."""
    root = tmp_path_factory.mktemp("vox")
    sounds = {"-dash/00001": None, "_low/00001": 440, "plain/00001": 880, "plain/00002": 660}
    for split, identity in (("dev", "id00012"), ("test", "id00017")):
        for clip, hertz in sounds.items():
            path = root / split / "mp4" / identity / f"{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            own = media_files.tone(1, 16000) if hertz is None else None
            media_files.write_clip(path, frames=25, sound=own)
            if hertz is not None:
                put_sound(media_files, root / split / "aac" / identity / f"{clip}.m4a", hertz)
        track = root / split / "txt" / identity / "plain" / "00001.txt"
        track.parent.mkdir(parents=True)
        track.write_text("Identity : x\n\nFRAME X Y W H\n1 0.1 0.1 0.2 0.2\n")
    (root / "dev" / "aac" / "id00012" / "plain" / "00002.m4a").write_bytes(b"no sound")
    for alone in ("id00012/plain/00009.m4a", "id00012/gone/00001.m4a", "id00099/v/00001.m4a"):
        put_sound(media_files, root / "dev" / "aac" / alone, 500)
    (root / "vox2_meta.csv").write_bytes(
        "\ufeffVoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \r\n"
        "id00012 ,n1 ,m ,test \r\nid00017 ,n2 , ,test \r\nid04170 ,n3 ,f ,test \r\nid00020 ,n4 ,f ,dev \r\n".encode()
    )
    return root


def put_sound(media_files: ModuleType, path: Path, hertz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    media_files.write_clip(path, frames=0, sound=media_files.tone(1, 16000, hertz=hertz), file_format="mp4")


def copy(tree: Path, to: Path) -> Path:
    shutil.copytree(tree, to)
    return to


def test_sound_and_tracks_beside_the_pictures_are_found_and_used(store: Store, tree: Path) -> None:
    report = ingest(store, tree)
    assert (report.found, report.new, report.quarantined) == (8, 8, {})
    assert (report.with_audio_file, report.with_track, report.audio_without_video) == (6, 2, 3)
    assert report.examples["audio_without_video"] == [
        "dev/aac/id00012/plain/00009.m4a",
        "dev/aac/id00012/gone/00001.m4a",
        "dev/aac/id00099/v/00001.m4a",
    ]
    rows = {(r["split"], r["video"], r["clip"]): r for r in store.query("SELECT * FROM clips")}
    own, beside = rows["dev", "-dash", "00001"], rows["test", "_low", "00001"]
    assert (own["has_audio"], own["audio_path"]) == (True, None)
    assert (beside["has_audio"], beside["audio_rate"]) == (True, 16000)
    assert beside["audio_path"] == "test/aac/id00017/_low/00001.m4a"
    assert rows["dev", "plain", "00002"]["has_audio"] is False
    done = extract(store, ["mel"])
    assert (done.done, done.reasons) == ({"mel": 7}, {"unreadable": 1})
    reason = coverage_reasons(store)[0]
    assert (reason["reason"], reason["clips"]) == ("unreadable", 1)
    assert "00002.m4a" in reason["example"]
    hashes = store.query("SELECT count(DISTINCT value_hash) AS n FROM extraction WHERE state = 'done'")[0]["n"]
    assert hashes == 4, "each sound gives its own spectrogram"
    assert (ingest(store, tree).unchanged, extract(store, ["mel"]).done) == (8, {})


def test_lists_that_differ_from_the_tree_are_counted(store: Store, tree: Path) -> None:
    report = ingest(store, tree)
    assert report.listed_absent == {"dev": 1, "test": 1}
    assert (report.other_split, report.without_metadata) == (1, 0)
    assert report.examples["other_split"] == ["id00012"]
    assert report.examples["listed_absent"] == ["id00020", "id04170"]
    assert store.query("SELECT meta ->> 'VGGFace2 ID' AS id FROM identity ORDER BY name") == [
        {"id": "n1"},
        {"id": "n2"},
    ]
    assert {row["split"] for row in store.query("SELECT split FROM clips WHERE identity = 'id00012'")} == {"dev"}


def test_what_changed_vanished_and_came_back_is_found_by_the_next_scan(
    store: Store, tree: Path, tmp_path: Path, media_files: ModuleType
) -> None:
    root = copy(tree, tmp_path / "vox")
    ingest(store, root)
    extract(store, ["mel"])
    away = root / "dev" / "mp4" / "id00012" / "-dash"
    away.rename(tmp_path / "away")
    shutil.move(root / "test" / "mp4" / "id00017", tmp_path / "id00017")
    sound = root / "dev" / "aac" / "id00012" / "_low" / "00001.m4a"
    sound.unlink()
    put_sound(media_files, sound, 123)
    put_sound(media_files, root / "dev" / "aac" / "id00012" / "new" / "00001.m4a", 321)
    (root / "dev" / "mp4" / "id00012" / "new").mkdir()
    media_files.write_clip(root / "dev" / "mp4" / "id00012" / "new" / "00001.mp4", frames=25)

    report = ingest(store, root)
    assert (report.new, report.changed, report.vanished, report.returned) == (1, 1, 5, 0)
    assert report.examples["changed"] == ["dev/mp4/id00012/_low/00001.mp4"]
    assert "dev/mp4/id00012/-dash/00001.mp4" in report.examples["vanished"]
    assert coverage_summary(store)[0]["done"] == 6, "values of vanished clips stay, the changed one's are forgotten"
    reasons = {row["reason"]: row["clips"] for row in coverage_reasons(store)}
    assert reasons == {"unreadable": 1, "not requested": 2}
    assert extract(store, ["mel", "pyaudioanalysis"]).done == {"mel": 2, "pyaudioanalysis": 3}
    lacking = {(r["constituent"], r["reason"]): r["clips"] for r in coverage_reasons(store)}
    assert lacking["pyaudioanalysis", "vanished"] == 5
    view = store.query("SELECT count(*) AS n FROM coverage WHERE reason = 'vanished'")[0]["n"]
    assert view == 5
    assert (ingest(store, root).vanished, len(list_sources(store))) == (5, 1)
    assert list_sources(store)[0]["vanished"] == 5

    (tmp_path / "away").rename(away)
    shutil.move(tmp_path / "id00017", root / "test" / "mp4" / "id00017")
    report = ingest(store, root)
    assert (report.returned, report.vanished, report.unchanged) == (5, 0, 9)
    assert extract(store, ["mel", "pyaudioanalysis"]).done == {"pyaudioanalysis": 5}


def test_two_sources_may_name_the_same_identities(store: Store, tree: Path, tmp_path: Path) -> None:
    other = copy(tree, tmp_path / "second")
    ingest(store, tree, name="first")
    shutil.rmtree(other / "test")
    ingest(store, other)
    rows = [(row["name"], row["dev"], row["test"]) for row in list_sources(store)]
    assert rows == [("first", 4, 4), ("second", 4, 0)]
    extract(store, ["mel"])
    assert [r["done"] for r in coverage_summary(store, "second")] == [3]
    assert [r["done"] for r in coverage_summary(store)] == [10]


def test_a_moved_source_is_followed_and_nothing_is_extracted_again(store: Store, tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path / "vox")
    ingest(store, root)
    extract(store, ["mel"])
    moved = root.rename(tmp_path / "elsewhere")
    result = CliRunner().invoke(app, ["--json", "source", "move", "vox", str(moved)])
    assert result.exit_code == 0, result.output
    report = ingest(store, moved)
    assert (report.source, report.unchanged, report.new, report.vanished) == ("vox", 8, 0, 0)
    assert extract(store, ["mel"]).done == {}
    copied = tmp_path / "copied"
    shutil.copytree(moved, copied, copy_function=shutil.copyfile)
    for path in copied.rglob("*.m*4*"):
        os.utime(path, (1, 1)) if path.is_file() else None
    followed = move_source(store, "vox", copied)
    assert (followed.looked_at, followed.read) == (8, 8)
    report = ingest(store, copied)
    assert (report.changed, report.vanished) == (8, 0)
    assert extract(store, ["mel"]).done == {}, "the content is the same"
    assert "copied" in CliRunner().invoke(app, ["source", "list"]).output


def test_a_root_that_holds_other_files_is_refused(store: Store, tree: Path, tmp_path: Path) -> None:
    ingest(store, tree, name="vox")
    other = copy(tree, tmp_path / "other")
    clip = other / "dev" / "mp4" / "id00012" / "plain" / "00001.mp4"
    clip.write_bytes(clip.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="has another content"):
        move_source(store, "vox", other)
    clip.unlink()
    with pytest.raises(DatasetError, match="No such file"):
        move_source(store, "vox", other)
    with pytest.raises(DatasetError, match="of the form folder"):
        move_source(store, "vox", other / "dev" / "txt")
    with pytest.raises(NotFoundInStore, match="no source 'nobody'"):
        move_source(store, "nobody", other)
    ingest(store, other, name="other")
    with pytest.raises(DatasetError, match="root of source 'other' already"):
        move_source(store, "vox", other)
    assert {row["root"] for row in list_sources(store)} == {str(tree), str(other)}


def test_a_column_is_mapped_on_the_command_line(store: Store, tree: Path, tmp_path: Path) -> None:
    meta = tmp_path / "list.csv"
    meta.write_text("who,sexe\nid00012,f\n")
    asked = ["--json", "ingest", str(tree), "--direct", "--meta", str(meta)]
    result = CliRunner().invoke(app, [*asked, "--meta-column", "identity=who", "--meta-column", "gender=sexe"])
    assert result.exit_code == 0, result.output
    assert '"without_metadata": 1' in result.output
    assert store.query("SELECT DISTINCT gender FROM clips WHERE identity = 'id00012'") == [{"gender": "f"}]
    assert CliRunner().invoke(app, [*asked, "--meta-column", "who"]).exit_code == 2
