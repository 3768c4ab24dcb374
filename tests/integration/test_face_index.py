"""An index over real faces: measured as it is built, used when it is asked for, and never by what must be exact."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from click.testing import Result
from evaluation_world import DIMENSION, World, new_world
from pydantic import SecretStr
from sqlalchemy import text
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.constituents.spec import ConstituentSpec
from slf_store.errors import ConfigError, DatabaseError, NotFoundInStore
from slf_store.evaluation import evaluate, face_index, gallery_size
from slf_store.evaluation.approximate import approximate_faces, build_index, measure_index, search, use_index
from slf_store.evaluation.face_index import create_index, drop_index, find_index, list_indexes
from slf_store.evaluation.gallery_size import recall_by_gallery_size
from slf_store.evaluation.matching import MATCH
from slf_store.evaluation.nearest import OF_VECTOR, nearest_faces
from slf_store.explorer.faces import NEAREST
from slf_store.jobs.backup import backup
from slf_store.jobs.constituents import register
from slf_store.jobs.restore import restore
from slf_store.jobs.retire import retire
from slf_store.privacy.forget import forget
from slf_store.privacy.target import Target
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

STRANGERS = 1500
CLIP = "id00000/v1/00001"
NO_ROOM = """
    DO $$ BEGIN
        RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not resize shared memory segment';
    END $$
"""


@pytest.fixture(scope="module")
def world(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """48 faces of a snapshot with a run, and 1,500 faces more."""
    name = f"indexed_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    with new_world(server_url.rpartition("/")[0] + "/" + name, tmp_path_factory.mktemp("indexed")) as made:
        vectors = np.random.default_rng(1).integers(-4, 5, (STRANGERS, DIMENSION))
        made.rows(
            """
            WITH new AS (
                INSERT INTO clip (video_id, name, path, state, file_bytes, file_mtime_ns)
                SELECT (SELECT max(id) FROM video), 'more ' || i, 'x', 'ok', 1, 1
                FROM generate_series(1, CAST(:n AS integer)) i
                RETURNING id
            )
            INSERT INTO face_embedding (constituent_id, clip_id, vector)
            SELECT :embedding, new.id, found.vector::vector
            FROM (SELECT id, row_number() OVER (ORDER BY id) AS i FROM new) new
            JOIN unnest(CAST(:vectors AS text[])) WITH ORDINALITY found (vector, i) USING (i)
            """,
            embedding=made.embedding, n=STRANGERS, vectors=[str(vector.tolist()) for vector in vectors],
        )  # fmt: skip
        yield made


@pytest.fixture
def built(world: World) -> Iterator[World]:
    """With a good index, measured at ef 256."""
    build_index(world.store, ef=256, probes=5)
    yield world
    drop_index(world.store)


def slf(world: World, *words: str) -> Result:
    home = str(world.store.settings.home)
    url = world.store.engine.url.render_as_string(hide_password=False)
    return CliRunner().invoke(app, ["--home", home, "--json", *words], env={"SLF_DATABASE_URL": url})


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_an_index_is_measured_against_the_exact_search_as_it_is_built(world: World) -> None:
    """A bad one, so that there is something to be missed; every share is counted by hand."""
    bad = ("--m", "2", "--ef-construction", "4", "--ef", "11", "--probes", "60", "--workers", "1")
    told = said(slf(world, "index", "build", "face_dlib", *bad))
    try:
        stored = world.rows(
            "SELECT clip_id, vector::text FROM face_embedding WHERE constituent_id = :model"
            " ORDER BY hashint8extended(clip_id, 0), clip_id",
            model=world.embedding,
        )
        clips = np.array([clip for clip, _ in stored])
        vectors = np.array([json.loads(vector) for _, vector in stored])
        shares, itself, statement = [], 0, search(find_index(world.store))
        with world.store.engine.begin() as connection:
            use_index(connection, 11)
            for i in range(60):
                asked = {"probe": stored[i][1], "k": 11}
                found = connection.execute(statement, asked).all()
                others = [row.distance for row in found if row.clip_id != clips[i]][:10]
                reach = np.sort(np.linalg.norm(vectors - vectors[i], axis=1))[10]  # the first is itself
                shares.append(sum(others <= reach + 1e-9) / 10)
                itself += clips[i] in [row.clip_id for row in found]
        assert 0 < np.mean(shares) < 1
        assert told["recall"] == pytest.approx(np.mean(shares))
        assert (told["worst"], told["all_found"]) == (min(shares), shares.count(1.0) / 60)
        assert told["itself"] == itself / 60 < 1
        assert told["faces"] == told["measured_faces"] == 48 + STRANGERS
        assert (told["probes"], told["k"], told["ef"]) == (60, 10, 11)
        assert (told["m"], told["ef_construction"]) == (2, 4)
        assert told["exact_ms"] > 0 < told["approximate_ms"]
        better = said(slf(world, "index", "measure", "--ef", "500", "--probes", "60"))
        assert better["recall"] > told["recall"]
        assert [row["ef"] for row in said(slf(world, "index", "list"))] == [11, 500]
    finally:
        assert said(slf(world, "index", "drop"))["model"] == "face_dlib"
    assert said(slf(world, "index", "list")) == []


def test_the_nearest_faces_by_an_index(built: World) -> None:
    exact = nearest_faces(built.store, CLIP, 5)
    result = slf(built, "nearest", CLIP, "--approximate", "--k", "5")
    assert said(result) == exact == approximate_faces(built.store, CLIP, 5)
    assert "of the 10 nearest others 100.0 % were found on average, 100 % for the worst face" in result.stderr
    date = find_index(built.store).measured[0].at[:10]
    assert f"(5 faces at ef 256, {date}, among 1,548; now 1,548)" in result.stderr
    vector = np.random.default_rng(3).normal(size=DIMENSION).astype(np.float32)
    found = approximate_faces(built.store, vector, 300, ef=1000)
    assert [row["rank"] for row in found] == list(range(1, 301))
    assert [row["distance"] for row in found] == sorted(row["distance"] for row in found)
    with built.store.engine.connect() as connection:  # many candidates were erased, and k faces are found all the same
        clips = [row["clip_id"] for row in found[:50]]
        connection.execute(text("DELETE FROM face_embedding WHERE clip_id = ANY(:clips)"), {"clips": clips})
        use_index(connection, 10)
        left = connection.execute(search(find_index(built.store)), {"probe": vector, "k": 10}).scalars(1).all()
        assert (len(left), set(left) & set(clips)) == (10, set())
        connection.rollback()


def test_a_face_that_is_added_later_is_found(built: World) -> None:
    clip, far = int(built.clips[-1]), np.full(DIMENSION, 7, np.float32)
    built.rows("DELETE FROM face_embedding WHERE clip_id = :clip", clip=clip)
    for vector in (far, built.vectors[-1]):
        built.rows("DELETE FROM face_embedding WHERE clip_id = :clip", clip=clip)
        assert approximate_faces(built.store, vector, 1)[0]["clip_id"] != clip
        built.rows(
            "INSERT INTO face_embedding (constituent_id, clip_id, vector) VALUES (:model, :clip, :vector)",
            model=built.embedding, clip=clip, vector=vector,
        )  # fmt: skip
        assert approximate_faces(built.store, vector, 1)[0]["clip_id"] == clip


def test_what_must_be_exact_cannot_use_an_index(built: World) -> None:
    """Asked with every other plan forbidden, as the approximate search is, which does use it."""
    vector = str(built.vectors[0].tolist())
    statements = {
        "nearest_faces of a vector": (OF_VECTOR, {"probe": vector, "k": 5, "model": "face_dlib"}),
        "nearest_faces of a clip": (f"SELECT * FROM nearest_faces({built.clips[0]}, 5, 'face_dlib')", {}),
        "explorer": (NEAREST, {"clip": int(built.clips[0]), "model": built.embedding, "generation": 0, "k": 5}),
    }
    wanted = {"evaluation": 1, "snapshot": 1, "part": "all", "embedding": built.embedding, "generations": [],
              "real_clips": built.clips.tolist(), "nearest": 10}  # fmt: skip
    statements |= {f"match, {name}": (str(match), wanted) for name, match in MATCH.items()}
    sizes = gallery_size.STATEMENTS.items()
    statements |= {f"gallery size, {name}": (str(size), {"evaluation": 1}) for name, size in sizes}

    def plan(statement: str, values: dict[str, Any]) -> str:
        with built.store.engine.begin() as connection:
            use_index(connection, 40)
            return "\n".join(connection.execute(text(f"EXPLAIN {statement}"), values).scalars())

    assert "hnsw" in plan(str(search(find_index(built.store))), {"probe": vector, "k": 5})
    plans = {name: plan(*asked) for name, asked in statements.items()}
    assert [name for name, found in plans.items() if "hnsw" in found] == []
    assert all(f"face_embedding_{built.embedding}" in found for found in plans.values())  # functions are seen through


def test_recall_is_the_same_with_and_without_an_index(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    world.add_snapshot("twelve", list(range(12)))
    for i in range(12):
        world.add_generation(i, world.vectors[i] + generator.normal(0, 2, DIMENSION).astype(np.float32))

    def measured() -> tuple[Any, ...]:
        rows = evaluate(world.store, "r", "twelve", attributes=False, baselines=False)
        return (
            rows,
            recall_by_gallery_size(world.store, "r", "twelve", seed=0),
            world.rows(
                "SELECT system, probe_clip_id, match.rank, gallery_clip_id, match.distance, hit FROM match"
                " JOIN evaluation e ON e.id = evaluation_id ORDER BY 1, 2, 3"
            ),
        )

    before = measured()
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(face_index, "POLL_S", 0.001)
    build_index(world.store, m=2, ef_construction=4, ef=11, probes=2, progress=lambda *at: told.append(at))
    try:
        assert {total for _, total in told[:-2]} == {48 + STRANGERS}  # faces placed, then probes
        assert told[-2:] == [(1, 2), (2, 2)]
        assert measured() == before
    finally:
        drop_index(world.store)


def test_what_cannot_be_had_is_one_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    result = slf(world, "nearest", CLIP, "--approximate")
    assert isinstance(result.exception, NotFoundInStore)
    assert "slf index build face_dlib" in str(result.exception)
    assert slf(world, "nearest", CLIP, "--ef", "64").exit_code == 2
    with pytest.raises(ConfigError, match="twice m"):
        build_index(world.store, ef_construction=20)
    with pytest.raises(ConfigError, match="from 11 to 1000"):
        build_index(world.store, ef=2000)
    with pytest.raises(NotFoundInStore, match="face_sface"):
        build_index(world.store, "face_sface")
    with pytest.raises(ConfigError, match="no face embedding"):
        build_index(world.store, "mel")
    wide = ConstituentSpec("face_wide", "embedding", (4096,), "float32", "", "", 1)
    with world.store.engine.begin() as connection:
        register(connection, [wide])
    with pytest.raises(ConfigError, match="4096 numbers, and an HNSW index of pgvector takes 2000"):
        build_index(world.store, "face_wide")
    with monkeypatch.context() as short:
        short.setattr(face_index, "LEND", text(NO_ROOM))
        with pytest.raises(DatabaseError, match=r"could not resize shared memory segment(.|\n)*--workers 1"):
            build_index(world.store)
    create_index(world.store)  # stopped before it was measured
    try:
        with pytest.raises(NotFoundInStore, match="slf index measure face_dlib --ef 256"):
            approximate_faces(world.store, CLIP)
        with pytest.raises(ConfigError, match="slf index drop face_dlib"):
            build_index(world.store)
        measure_index(world.store, ef=128, probes=2)
        with pytest.raises(NotFoundInStore, match="--ef 64"):
            approximate_faces(world.store, CLIP, ef=64)
        with pytest.raises(ConfigError, match="20 faces of 10 candidates"):
            approximate_faces(world.store, CLIP, 20, ef=10)
        guest_may_only_look(world)
    finally:
        drop_index(world.store)


def guest_may_only_look(world: World) -> None:
    """A login that may read faces uses the index, and neither builds, measures nor drops it."""
    name = f"guest_{uuid.uuid4().hex[:8]}"
    world.rows(f"CREATE ROLE {name} LOGIN PASSWORD 'guest' IN ROLE slf_researcher")
    url = world.store.engine.url.set(username=name, password="guest").render_as_string(hide_password=False)
    try:
        settings = Settings(home=world.store.settings.home, database_url=SecretStr(url))
        with Store.open(settings=settings) as guest:
            assert approximate_faces(guest, CLIP, 3) == nearest_faces(world.store, CLIP, 3)
            for asked in (build_index, measure_index, drop_index):
                with pytest.raises(DatabaseError, match=f"belongs to the owner .*, and {name} is not"):
                    asked(guest)
    finally:
        world.rows(f"DROP ROLE {name}")


def test_an_index_goes_where_its_faces_go(kept: Store, server_url: str, tmp_path: Path) -> None:
    build_index(kept, ef=64)
    (before,) = list_indexes(kept)
    assert before.measured[0].recall == 1.0
    backup(kept, tmp_path / "backup")
    name = f"restored_{uuid.uuid4().hex[:8]}"
    url = server_url.rpartition("/")[0] + "/" + name
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        settings = Settings(home=tmp_path / "elsewhere", database_url=SecretStr(url), workers=2)
        restore(settings, tmp_path / "backup")
        with Store.open(settings=settings) as restored:
            (there,) = list_indexes(restored)
            assert (there.m, there.faces, there.measured) == (before.m, before.faces, before.measured)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    people = kept.query("SELECT identity, identity || '/' || video || '/' || clip AS face FROM clips ORDER BY 1")
    file = f"SELECT pg_relation_filepath('face_embedding_{before.constituent_id}_hnsw') AS path"
    old = kept.query(file)
    forget(kept, Target(people[0]["identity"]))
    assert kept.query(file) != old  # its pages held the vectors
    (left,) = list_indexes(kept)
    assert left.faces < before.faces
    assert approximate_faces(kept, people[1]["face"], ef=64) == nearest_faces(kept, people[1]["face"])
    retire(kept, f"face_dlib@{before.version}", force=True)
    assert list_indexes(kept) == []
