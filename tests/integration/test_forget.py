"""Erasing a person from a store with its own server: nothing of them is left in any byte, others keep theirs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.constituents.registry import extractors
from slf_store.db.embedded import EmbeddedServer
from slf_store.db.pgbinaries import find_binaries
from slf_store.db.sidecar import sidecar_database
from slf_store.errors import ConfigError, LeaseLost, NotFoundInStore, SelectionError
from slf_store.jobs.commit import Outcome, commit_chunk
from slf_store.jobs.extract import LoadedExtractors
from slf_store.jobs.generation import save_face
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.jobs.queue import claim
from slf_store.privacy.check import check_names, check_structure
from slf_store.privacy.forget import forget, resume
from slf_store.privacy.plan import plan
from slf_store.privacy.target import Target, named
from slf_store.query.manifest import open_snapshot
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.query.values import read_constituent
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

WANTED = ["mel", "face", "target", "image_guide", "face_dlib"]
ARRAYS = ["mel", "target", "image_guide"]
POINTS = [
    "forget.planned",
    "forget.rows_deleted",
    "forget.shard_sealed",
    "forget.shard_committed",
    "forget.shard_rewritten:2",
    "forget.files_removed",
    "forget.names_dropped",
    "forget.tables_rewritten",
    "forget.pages_rewritten",
]


@dataclass
class Traces:
    """What a person leaves in a store: texts, and a sample of the bytes of every kind of value."""

    names: list[bytes]
    values: list[bytes]


def open_store(home: Path) -> Store:
    return Store.create(settings=Settings(home=home, workers=2, chunk_size=4), tethered=True)


@pytest.fixture(scope="module")
def tree(open_folder: Path) -> Path:
    """Three people, two videos each."""
    from slf_store.dataset.synthetic.tree import write_sample

    root = open_folder / "three"
    write_sample(root, dev_identities=3, test_identities=1, videos=2, seconds=1.5, seed=4, workers=2)
    shutil.rmtree(root / "test")
    return root


@pytest.fixture(scope="module")
def people(tree: Path) -> list[str]:
    return sorted(path.name for path in (tree / "dev" / "mp4").iterdir())


@pytest.fixture(scope="module")
def pristine(open_folder: Path, tree: Path, people: list[str]) -> Path:
    """A stopped store with everything a person can leave in one."""
    home = open_folder / "pristine"
    with open_store(home) as store:
        ingest(store, tree)
        extract(store, WANTED)
        freeze(store, select(store, f"identity <> '{people[2]}'", missing="zero"), "two people")
        freeze(store, select(store, f"identity = '{people[2]}'", missing="zero"), "another")
        _research(store)
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # their names are in the statistics now
            connection.exec_driver_sql("CHECKPOINT")
        _plant_in_prefect_server(store, people[0])
        with pytest.raises(SelectionError):  # and in the server's log
            select(store, f'"{people[0]}" = 1')
    _plant_in_prefect(home, people[0])
    EmbeddedServer(home).stop()
    return home


def _research(store: Store) -> None:
    """A run on the snapshot with faces generated for all, an evaluation, and a report that shows the first clip."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql("""
            INSERT INTO run (name, snapshot_id, system, preset, config, seed, inputs, guide)
            SELECT 'r', id, 'full-input', 'tiny', '{}', 0, '{}', true FROM snapshot WHERE name = 'two people'
        """)
        connection.exec_driver_sql("""
            INSERT INTO checkpoint (run_id, unet, samples_seen, path, checksum, seconds)
            SELECT id, 1, 10, 'runs/r/unet1.safetensors', 'x', 1 FROM run
        """)
    (store.runs / "r").mkdir(parents=True)
    (store.runs / "r" / "unet1.safetensors").write_bytes(b"weights")
    (store.runs / "r" / "grids").mkdir()
    (store.runs / "r" / "grids" / "unet1-000000010.png").write_bytes(b"faces")
    for row in store.query("SELECT clip_id FROM snapshot_clip ORDER BY clip_id"):
        path = store.runs / "r" / "generated" / "scale-1-seed-0" / f"{row['clip_id']}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_face(path, np.random.default_rng(row["clip_id"]).integers(0, 255, (32, 32, 3), np.uint8), "made by a test")
        with store.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path) "
                "SELECT id, %s, 'diffusion', 1, 0, 1, 10, %s FROM run",
                (row["clip_id"], path.relative_to(store.settings.home).as_posix()),
            )
    page = store.settings.home / "report.html"
    page.write_text("a report that shows clips")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("""
            INSERT INTO generation_embedding (generation_id, constituent_id, vector)
            SELECT generation.id, face_embedding.constituent_id, face_embedding.vector + face_embedding.vector
            FROM generation JOIN face_embedding USING (clip_id);
            INSERT INTO evaluation (run_id, gallery_id, system, scale, seed, constituent_id, checkpoint_samples, probes,
                                    gallery_faces, undetected)
            SELECT run.id, run.snapshot_id, 'full-input', 1, 0, constituent.id, 10, 8, 8, 0
            FROM run, constituent WHERE constituent.name = 'face_dlib';
            INSERT INTO match (evaluation_id, probe_clip_id, rank, gallery_clip_id, distance, hit)
            SELECT evaluation.id, a.clip_id, row_number() OVER (PARTITION BY a.clip_id), b.clip_id, 0, true
            FROM evaluation, snapshot_clip a JOIN snapshot_clip b USING (snapshot_id);
            INSERT INTO probe (evaluation_id, clip_id, detected) SELECT id, clip_id, true
            FROM evaluation JOIN snapshot_clip ON snapshot_id = gallery_id;
            INSERT INTO group_metric (evaluation_id, attribute, label, name, k, truth, estimator, value, ci_low,
                                      ci_high, n, identities, source)
            SELECT id, 'gender', label, 'recall', 1, 'none', 'none', 1, 1, 1, people, people, 'metadata'
            FROM evaluation, (VALUES ('f', 1), ('m', 10)) AS counted (label, people);
        """)
        connection.exec_driver_sql("INSERT INTO report (path) VALUES (%s)", (str(page),))
        connection.exec_driver_sql(
            "INSERT INTO report_clip SELECT report.id, min(clip.id) FROM report, clip GROUP BY 1"
        )


def _plant_in_prefect_server(store: Store, name: str) -> None:
    """A database as `slf serve-flows` has one, with the name in a log line, a parameter, and the statistics."""
    beside = create_engine(sidecar_database(store.engine, "prefect"))
    with beside.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE log (message varchar)")
        connection.exec_driver_sql("CREATE TABLE flow_run (parameters jsonb)")
        for _ in range(9):
            connection.execute(text("INSERT INTO log VALUES (:line)"), {"line": f"no face in {name}/v/00001"})
        connection.execute(text("INSERT INTO flow_run VALUES (CAST(:p AS jsonb))"), {"p": json.dumps({"of": name})})
        connection.exec_driver_sql("ANALYZE")
    beside.dispose()


def _plant_in_prefect(home: Path, name: str) -> None:
    import sqlite3

    (home / "prefect").mkdir()
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        database.execute("CREATE TABLE log (id TEXT PRIMARY KEY, message TEXT)")
        database.execute("INSERT INTO log VALUES ('1', ?)", (f'{{"clip": "/data/{name}/x.mp4"}}',))
    database.close()


@pytest.fixture
def home(open_folder: Path, pristine: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy of it for one test."""
    folder = open_folder / f"copy-{abs(hash(request.node.name))}"
    subprocess.run(["cp", "-a", str(pristine), str(folder)], check=True)
    yield folder
    EmbeddedServer(folder).stop()
    shutil.rmtree(folder)


def traces(store: Store, identity: str) -> Traces:
    """Taken while everything is there."""
    rows = store.query("SELECT clip_id, video, path FROM clips WHERE identity = :identity", identity=identity)
    ids = np.array([row["clip_id"] for row in rows], np.int64)
    values = []
    for name in ARRAYS:
        stored, present = read_constituent(store, name, ids)
        assert present.all()
        values += [np.ascontiguousarray(value).tobytes()[:256] for value in stored]
    vectors = store.query(
        "SELECT vector FROM face_embedding WHERE clip_id = ANY(:ids) UNION ALL SELECT vector FROM generation_embedding "
        "JOIN generation ON generation.id = generation_id WHERE clip_id = ANY(:ids)",
        ids=ids.tolist(),
    )
    assert vectors
    values += [np.asarray(row["vector"].to_numpy(), "<f4").tobytes()[40:104] for row in vectors]
    pictures = store.query("SELECT path FROM generation WHERE clip_id = ANY(:ids)", ids=ids.tolist())
    values += [(store.settings.home / row["path"]).read_bytes()[60:200] for row in pictures]
    names = {identity, *(row["video"] for row in rows), *(row["path"] for row in rows)}
    return Traces([name.encode() for name in names], [value for value in values if len(set(value)) > 16])


def found_in(folder: Path, wanted: list[bytes]) -> list[str]:
    """Files of a folder that hold one of the texts, in their bytes or path."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes() + str(path).encode()
            if any(text in data for text in wanted):
                found.append(path.relative_to(folder).as_posix())
    return found


def dump(store: Store) -> bytes:
    url = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    done = subprocess.run([find_binaries(None) / "pg_dump", url], capture_output=True, check=True)
    return done.stdout


def others(store: Store, identity: str) -> dict[str, bytes]:
    """Bytes of every value of everybody else."""
    rows = store.query("SELECT clip_id FROM clips WHERE identity <> :identity ORDER BY clip_id", identity=identity)
    ids = np.array([row["clip_id"] for row in rows], np.int64)
    kept = {}
    for name in ARRAYS:
        values, present = read_constituent(store, name, ids)
        assert present.all()
        kept[name] = values.tobytes()
    vectors = store.query(
        "SELECT vector::text AS v FROM face_embedding WHERE clip_id = ANY(:i) ORDER BY clip_id", i=ids.tolist()
    )
    kept["face_dlib"] = repr(vectors).encode()
    return kept


def assert_gone(store: Store, person: str, left: Traces, kept: dict[str, bytes]) -> None:
    """No byte of the person in any file or in a dump; everybody else as before."""
    home = store.settings.home
    text = dump(store)
    assert [name for name in left.names if name in text] == []
    assert found_in(home, left.names + left.values) == []
    assert check_names(store, [person]) == []
    assert check_structure(store) == []
    assert others(store, person) == kept


def test_nothing_is_left_of_a_person_and_everything_of_the_others(home: Path, tree: Path, people: list[str]) -> None:
    with open_store(home) as store:
        left, kept = traces(store, people[0]), others(store, people[0])
        searched = found_in(home, left.names)
        assert {path.partition("/")[0] for path in searched} == {"pg", "postgres.log", "prefect"}  # they were there
        assert {path.partition("/")[0] for path in found_in(home, left.values)} == {"pg", "shards", "runs"}
        found = plan(store, Target(people[0])).as_dict()
        assert (found["clips"], found["generated_faces"], found["face_embeddings"]) == (2, 2, 2)
        page = home / "report.html"
        with store.engine.begin() as connection:  # the copy's own
            connection.exec_driver_sql("UPDATE report SET path = %s", (str(page),))
        receipt = forget(store, Target(people[0]))
        assert_gone(store, people[0], left, kept)

        written = (home / "receipts" / f"{receipt['erasure']}.json").read_text()
        assert json.loads(written) == json.loads(json.dumps(receipt))
        assert receipt["rows"]["clips"] == 2
        assert {shard["constituent"] for shard in receipt["shards"]} == set(ARRAYS)
        assert all(shard["before"] != shard["after"] for shard in receipt["shards"])
        assert receipt["not_rewritten"] == []
        assert receipt["sample_grids"] == 1
        assert list((store.runs / "r" / "grids").iterdir()) == []
        assert (receipt["reports"], receipt["reports_removed"], page.exists()) == (1, 1, False)

        (snapshot,) = store.query("SELECT * FROM snapshot WHERE name = 'two people'")
        assert (snapshot["erased_clips"], snapshot["clips"]) == (2, 4)
        with pytest.raises(SelectionError, match="two people is no longer complete: 2 of its 4 clips were erased"):
            open_snapshot(store, "two people")
        assert len(open_snapshot(store, "another")) == 2
        assert store.query("SELECT erased_clips FROM checkpoint") == [{"erased_clips": 2}]
        assert store.query("SELECT erased_clips FROM evaluation") == [{"erased_clips": 2}]
        assert store.query("SELECT count(*) AS n FROM probe") == [{"n": 2}]
        assert store.query("SELECT label FROM group_metric") == [{"label": "m"}]  # the other group was one person

        again = ingest(store, tree)
        assert (again.blocked, again.new, again.found) == (2, 0, 6)
        copied = home.parent / f"{home.name}-tree"
        shutil.copytree(tree, copied)
        assert ingest(store, copied, name="a second source").blocked == 2
        shutil.rmtree(copied)
        assert check_names(store, [people[0]]) == []
        (home / "blocklist.key").rename(home / "away")
        with pytest.raises(ConfigError, match="block list cannot be read"):
            ingest(store, tree)


def _slf(home: Path, *words: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLF_HOME": str(home), "SLF_FAULT": fault}
    environment.pop("SLF_DATABASE_URL", None)
    command = [sys.executable, "-m", "slf_store.cli.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_killed_at_every_step_an_erasure_is_finished_by_the_same_command(home: Path, people: list[str]) -> None:
    """One process after the other, each killed one step later than the one before, until one comes to the end."""
    with open_store(home) as store:
        left, kept = traces(store, people[0]), others(store, people[0])
        crashed = store.shards / "mel" / "crashed-writer.h5"  # nobody knows it, and it holds the person's rows
        theirs = next(path for path in store.shards.glob("mel/*/*.h5") if not path.name.startswith("."))
        shutil.copy(theirs, crashed.parent / theirs.parent.name / crashed.name)
        (theirs.parent / ".writing-0.h5").write_bytes(left.values[0])
        for point in POINTS:
            died = _slf(home, "forget", people[0], "--yes", fault=point)
            assert died.returncode == -signal.SIGKILL, (point, died.stdout, died.stderr)
            if point != "forget.planned":
                with pytest.raises(NotFoundInStore):
                    plan(store, Target(people[0]))
                assert check_structure(store) != []  # it says that something is open
        last = _slf(home, "--json", "forget", people[0], "--yes")
        assert last.returncode == 0, last.stderr
        assert_gone(store, people[0], left, kept)
        assert store.query("SELECT state, work FROM erasure") == [{"state": "done", "work": None}]
        assert resume(store) == []


def test_a_video_goes_and_the_person_stays(home: Path, people: list[str]) -> None:
    with open_store(home) as store:
        video = store.query("SELECT min(video) AS v FROM clips WHERE identity = :i", i=people[1])[0]["v"]
        typed = f"{people[1]}/{video}"
        assert named(store, typed) == Target(people[1], video)
        receipt = forget(store, named(store, typed), checkpoints=True)
        assert [row["deleted"] for row in receipt["checkpoints_trained_on_them"]] == [True]
        assert not (store.runs / "r" / "unet1.safetensors").exists()
        assert store.query("SELECT count(*) AS n FROM clips WHERE identity = :i", i=people[1]) == [{"n": 1}]
        assert check_names(store, [video]) == []
        assert {row["where"].partition(" ")[0] for row in check_names(store, [people[1]])} >= {"table"}
    ran = CliRunner()

    def slf(*words: str) -> Any:
        done = ran.invoke(app, ["--home", str(home), "--json", *words])
        return done.exit_code, json.loads(done.stdout)

    assert slf("blocked") == (0, [{"kind": "video", "blocked": 1}])
    assert slf("blocked", "--allow", typed) == (0, {"allowed": True})
    assert slf("blocked", "--allow", typed) == (1, {"allowed": False})
    assert [line["action"] for line in slf("audit")[1]] == ["freeze", "freeze", "erase", "allow"]


def test_names_with_slashes_of_their_own(store: Store, tmp_path: Path, media_files: ModuleType) -> None:
    for path in ("ann/b/c/d.mp4", "ann/b/x.mp4"):
        (tmp_path / "plain" / path).parent.mkdir(parents=True, exist_ok=True)
        media_files.write_clip(tmp_path / "plain" / path, frames=5)
    ingest(store, tmp_path / "plain", name="plain")
    assert named(store, "ann/b/c") == Target("ann", "b/c")
    assert named(store, "ann/b/c/d.mp4", "plain") == Target("ann", "b/c", "d.mp4", "plain")
    with pytest.raises(NotFoundInStore, match="no such clip"):
        named(store, "ann/b/c", kind="clip")
    assert (
        plan(store, named(store, "ann/b/c")).as_dict() | {"clips": 1, "videos": 1}
        == plan(store, Target("ann", "b/c")).as_dict()
    )


def test_a_worker_that_holds_a_lease_cannot_bring_them_back(home: Path, people: list[str]) -> None:
    with open_store(home) as store:
        loaded = LoadedExtractors(store, ["mel"])
        with store.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE extraction SET state = 'pending', shard_id = NULL, shard_row = NULL WHERE clip_id IN"
                " (SELECT clip_id FROM clips WHERE identity = %s) AND constituent_id = ANY(%s)",
                (people[0], loaded.keys),
            )
        chunk = claim(store.engine, loaded.keys, clips=8, owner="a slow worker", lease_s=600)
        assert len(chunk) == 2
        forget(store, Target(people[0]))
        files = set(store.shards.rglob("*"))
        spec = next(extractor.spec for extractor in extractors(store.settings, ["mel"]))
        value = np.ones(spec.shape, spec.dtype)
        outcomes = [Outcome(clip.clip_id, value, 1.0) for clip in chunk]
        with pytest.raises(LeaseLost, match="erased"):
            commit_chunk(store, "a slow worker", {loaded.keys[0]: (spec, outcomes)})
        assert set(store.shards.rglob("*")) == files
        assert check_structure(store) == []


def test_who_is_asked_and_what_is_refused(home: Path, tree: Path, people: list[str], tmp_path: Path) -> None:
    asked = _slf(home, "forget", people[0])
    assert (asked.returncode, "nobody is there to ask" in asked.stderr) == (1, True)
    assert "face embeddings: 2" in asked.stdout
    unknown = _slf(home, "forget", "nobody", "--yes")
    assert (unknown.returncode, "no such identity" in unknown.stderr) == (1, True)
    with open_store(home) as store:
        shutil.copytree(tree, tmp_path / "second")
        ingest(store, tmp_path / "second")
        with pytest.raises(ConfigError, match=r"three \(2 videos\), second|second \(2 videos\), three"):
            plan(store, Target(people[0]))
        assert plan(store, Target(people[0], source="second")).as_dict()["face_embeddings"] == 0
    assert _slf(home, "forget", "--check").returncode == 0
    traced = _slf(home, "--json", "forget", "--check", people[0])
    assert traced.returncode == 1
    assert any(row["where"] == "table public.identity" for row in json.loads(traced.stdout))
