"""Constituents in a store: versions side by side, back-filling, retiring, plug-ins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from slf_store.errors import ConfigError, NotFoundInStore, ShardError
from slf_store.jobs.constituents import list_constituents
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.jobs.retire import retire
from slf_store.query.manifest import open_snapshot
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.query.values import read_constituent
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "pitch"


@pytest.fixture
def small(store: Store, sample: Path, tmp_path: Path) -> Store:
    """A store with three clips of the sample, nothing extracted."""
    for index, clip in enumerate(sorted(sample.rglob("*.mp4"))[:3]):
        (tmp_path / "clips" / f"id{index:05}").mkdir(parents=True)
        shutil.copy(clip, tmp_path / "clips" / f"id{index:05}" / "clip.mp4")
    ingest(store, tmp_path / "clips")
    return store


def versions(store: Store, name: str) -> list[str]:
    return [row["version"] for row in list_constituents(store) if row["name"] == name]


def test_another_parameter_is_another_version_beside_the_old(small: Store) -> None:
    assert extract(small, ["mel"]).done == {"mel": 3}
    (clips,) = [np.array([row["clip_id"] for row in small.query("SELECT clip_id FROM clips ORDER BY clip_id")])]
    before, _ = read_constituent(small, "mel", clips)
    small.settings.parameters["mel"] = {"hop": 1745}
    assert extract(small, ["mel"]).done == {"mel": 3}
    after, present = read_constituent(small, "mel", clips)
    assert (before.shape, after.shape, present.all()) == ((3, 111, 128), (3, 221, 128), True)
    assert (after[:, ::2] == before).all()  # the same spectrum, twice as often
    assert len(versions(small, "mel")) == 2
    assert {row["done"] for row in list_constituents(small)} == {3}


def test_backfilling_one_constituent_reads_no_other_shard_and_touches_no_other_row(small: Store) -> None:
    extract(small, ["mel", "target"])
    files = {path: file_checksum(path) for path in small.shards.rglob("*.h5")}
    rows = small.query("SELECT * FROM extraction ORDER BY constituent_id, clip_id")
    aside = small.shards.with_name("aside")
    small.shards.rename(aside)  # whatever reads a shard now fails
    try:
        small.shards.mkdir()
        assert extract(small, ["pyaudioanalysis"]).done == {"pyaudioanalysis": 3}
        new = list(small.shards.rglob("*.h5"))
        assert {path.relative_to(small.shards).parts[0] for path in new} == {"pyaudioanalysis"}
        shutil.move(small.shards / "pyaudioanalysis", aside / "pyaudioanalysis")
    finally:
        shutil.rmtree(small.shards)
        aside.rename(small.shards)
    assert {path: file_checksum(path) for path in files} == files
    again = small.query("SELECT * FROM extraction ORDER BY constituent_id, clip_id")
    assert [row for row in again if row in rows] == rows
    assert len(again) == len(rows) + 3
    assert collect_garbage(small).files == []


def test_retiring_frees_one_version_and_keeps_the_other(small: Store) -> None:
    extract(small, ["mel"])
    small.settings.parameters["mel"] = {"hop": 1745}
    extract(small, ["mel"])
    old, new = versions(small, "mel")
    kept = {path: file_checksum(path) for path in (small.shards / "mel" / new).rglob("*.h5")}
    gone = retire(small, f"mel@{old[:5]}")
    assert (gone.version, gone.clips, gone.shards > 0, gone.bytes > 0) == (old, 3, True, True)
    assert not (small.shards / "mel" / old).exists()
    assert {path: file_checksum(path) for path in (small.shards / "mel" / new).rglob("*.h5")} == kept
    status = {row["version"]: (row["status"], row["done"]) for row in list_constituents(small)}
    assert status == {old: ("retired", 0), new: ("active", 3)}
    assert collect_garbage(small).missing == []
    small.settings.parameters.clear()
    assert extract(small, ["mel"]).done == {"mel": 3}  # asked for again, it is made anew
    assert versions(small, "mel") == [new, old]
    assert {row["status"] for row in list_constituents(small)} == {"active"}


def test_retiring_a_face_keeps_what_was_made_from_it(small: Store) -> None:
    extract(small, ["face", "face_dlib", "age_gender"])
    (box,) = versions(small, "face")
    retire(small, f"face@{box}")
    counts = "SELECT (SELECT count(*) FROM face) AS boxes, (SELECT count(*) FROM face_embedding) AS vectors"
    assert small.query(counts) == [{"boxes": 0, "vectors": 3}]
    (ages,) = versions(small, "age_gender")
    retire(small, f"age_gender@{ages}")
    assert small.query("SELECT count(*) AS n FROM attribute WHERE source <> 'metadata'") == [{"n": 0}]
    (vectors,) = versions(small, "face_dlib")
    retire(small, f"face_dlib@{vectors}")
    assert small.query(counts) == [{"boxes": 0, "vectors": 0}]
    assert extract(small, ["face_dlib"]).done == {"face_dlib": 3}


def test_what_a_snapshot_uses_is_not_retired_by_accident(small: Store) -> None:
    extract(small, ["mel", "target", "image_guide"])
    freeze(small, select(small, "true", missing="zero"), "frozen")
    (version,) = versions(small, "mel")
    with pytest.raises(ConfigError, match="used by frozen"):
        retire(small, f"mel@{version}")
    retire(small, f"mel@{version}", force=True)
    with pytest.raises(ShardError, match="retired"):
        open_snapshot(small, "frozen")
    extract(small, ["mel"])
    assert open_snapshot(small, "frozen").constituents["mel"].present.all()  # the same values again


@pytest.mark.parametrize(
    ("which", "error"),
    [("mel", ConfigError), ("mel@", ConfigError), ("mel@ffff", NotFoundInStore), ("no@0", NotFoundInStore)],
)
def test_retiring_what_is_not_there_says_so(store: Store, which: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="slf constituents"):
        retire(store, which)


def test_what_is_being_extracted_is_not_retired(small: Store) -> None:
    extract(small, ["mel"])
    (version,) = versions(small, "mel")
    with small.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE extraction SET state = 'leased', shard_id = NULL, lease_owner = 'somebody',"
            " lease_expires_at = now() + interval '1 hour' WHERE clip_id = (SELECT min(clip_id) FROM extraction)"
        )
    with pytest.raises(ConfigError, match="being extracted"):
        retire(small, f"mel@{version}")


def slf(store: Store, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "slf_store.cli.main", "--home", str(store.settings.home), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_an_installed_package_adds_an_extractor(small: Store, tmp_path: Path) -> None:
    assert sum(len(file.read_text("utf-8").splitlines()) for file in EXAMPLE.glob("*.*")) < 60
    shutil.copytree(EXAMPLE, tmp_path / "package")
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", *install, str(tmp_path / "package")], check=True, timeout=120)
    known = json.loads(slf(small, tmp_path / "site", "--json", "constituents", "--known").stdout)
    assert "pitch" in {row["name"] for row in known}
    done = slf(small, tmp_path / "site", "--json", "extract", "--direct", "--only", "pitch")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == {"pitch": 3}
    listed = json.loads(slf(small, tmp_path / "site", "--json", "constituents").stdout)
    assert [(row["name"], row["done"], row["unit"]) for row in listed] == [("pitch", 3, "Hz")]
    for path in small.shards.rglob("*.h5"):
        with h5py.File(path) as file:
            for value, length in zip(file["values"][...], file["length"][...], strict=True):
                assert 50 < length < 1501  # the clip's own length, not 24 s
                assert (value[:length] > 60).all()
                assert (value[length:] == 0).all()
    assert slf(small, tmp_path / "none", "extract", "--only", "pitch").returncode == 1  # uninstalled, it is unknown
