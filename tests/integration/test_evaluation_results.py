"""What is read from evaluations: every number equals the one counted by hand from the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from evaluation_world import DIMENSION, PEOPLE, World, new_world
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.constituents.faces import FaceEmbedding
from slf_store.db.readonly import run_text
from slf_store.errors import ConfigError, NotFoundInStore, SelectionError
from slf_store.evaluation import best_scale, candidates, evaluate, matching
from slf_store.evaluation.chance import chance_recall
from slf_store.evaluation.estimate import estimate_picture, find_estimators
from slf_store.evaluation.evalset import create_evalset
from slf_store.evaluation.frechet import frechet_distance
from slf_store.evaluation.gallery_size import recall_by_gallery_size
from slf_store.evaluation.measure import KS
from slf_store.evaluation.nearest import nearest_faces
from slf_store.evaluation.paired import compare
from slf_store.evaluation.picture import encode_png
from slf_store.jobs.constituents import register
from slf_store.query.values import read_constituent
from slf_store.store import Store

pytestmark = pytest.mark.integration

GALLERY = [i for i in range(4 * PEOPLE) if i % 4 < 2 and i // 4 < 10]  # both clips of one video of ten people
UNDETECTED = (4, 21)
AGES = {i: 20.0 + 3 * (i // 4) for i in range(4 * PEOPLE)}


@pytest.fixture(scope="module")
def world(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Evaluated at scales 1 (poor, two seeds) and 3 (better), with gender, age and an estimator's statements."""
    name = "evaluated_results"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    with new_world(server_url.rpartition("/")[0] + "/" + name, tmp_path_factory.mktemp("evaluated")) as made:
        made.vectors[8], made.vectors[16] = made.vectors[0], made.vectors[0]  # three people with one face
        for i in (8, 16):
            made.rows(
                "UPDATE face_embedding SET vector = :vector WHERE clip_id = :clip",
                vector=made.vectors[0], clip=int(made.clips[i]),
            )  # fmt: skip
        made.add_snapshot("test", GALLERY)
        generator = np.random.default_rng(5)
        (estimator,) = made.rows("SELECT id FROM constituent WHERE name = 'age_gender'")[0]
        for i, clip in enumerate(made.clips.tolist()):
            state(made, clip, "age", "age_gender", AGES[i], estimator)
            state(made, clip, "gender", "age_gender", "f" if i % 3 else "m", estimator)
            if i // 4 != 7:  # of the eighth person nobody but the estimator says the gender
                state(made, clip, "gender", "metadata", "f" if i // 4 % 2 else "m", None)
        for scale, seed, noise in ((1.0, 0, 160), (1.0, 1, 160), (3.0, 0, 80), (3.0, 1, 80)):
            for i in GALLERY:
                vector = made.vectors[i] + generator.integers(-noise, noise + 1, DIMENSION).astype(np.float32) / 4
                seen = not (scale == 1.0 and i in UNDETECTED)
                generation = made.add_generation(i, vector if seen else None, scale=scale, seed=seed)
                made.rows(
                    "INSERT INTO generation_attribute VALUES (:generation, :estimator, :age, :gender, NULL)",
                    generation=generation, estimator=estimator,
                    age=float(AGES[i] + generator.integers(-8, 9)) if seen else None,
                    gender=("f" if generator.random() < 0.6 else "m") if seen else None,
                )  # fmt: skip
        evaluate(made.store, "r", "test")
        yield made


def state(world: World, clip: int, name: str, source: str, value: str | float, constituent: int | None) -> None:
    column = "value_text" if isinstance(value, str) else "value_number"
    world.rows(
        f"INSERT INTO attribute (clip_id, name, source, {column}, constituent_id)"
        " VALUES (:clip, :name, :source, :value, :constituent)",
        clip=clip, name=name, source=source, value=value, constituent=constituent,
    )  # fmt: skip


def probes(world: World, **key: Any) -> list[dict[str, Any]]:
    """Rows of the view `probes` of one evaluation, by clip."""
    key = {"system": "full-input", "scale": 1.0, "seed": 0, "distance": "euclidean", **key}
    where = " AND ".join(f"{name} = :{name}" for name in key)
    return list(world.store.query(f"SELECT * FROM probes WHERE {where} ORDER BY clip_id", **key))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_matches_are_numpys_bit_for_bit(world: World, distance: str) -> None:
    """Vectors are multiples of 1/4, so that float32 sums are exact in any order; some faces are equal."""
    evaluate(world.store, "r", "test", scales=[3.0], seed=1, distance=distance, baselines=False)
    stored = world.rows(
        "SELECT match.probe_clip_id, match.rank, match.gallery_clip_id, match.distance FROM match"
        " JOIN evaluation e ON e.id = evaluation_id WHERE e.scale = 3 AND e.seed = 1 AND e.distance = :distance"
        " ORDER BY 1, 2",
        distance=distance,
    )
    found = {
        clip: np.array(json.loads(vector), np.float64)
        for clip, vector in world.rows(
            "SELECT clip_id, vector::text FROM generation JOIN generation_embedding ON generation_id = generation.id"
            " WHERE scale = 3 AND seed = 1"
        )
    }
    real = world.vectors[GALLERY].astype(np.float64)
    expected = []
    for clip, vector in sorted(found.items()):
        if distance == "euclidean":
            far = np.sqrt(((real - vector) ** 2).sum(axis=1))
        else:
            far = 1 - (real @ vector) / np.sqrt((real**2).sum(axis=1) * (vector**2).sum())
        for rank, at in enumerate(np.lexsort((world.clips[GALLERY], far))[:10], start=1):
            expected.append((clip, rank, world.clips[GALLERY[at]], far[at]))
    assert stored == expected
    recall = world.store.query("SELECT DISTINCT distance FROM recall_at_k WHERE scale = 3 AND seed = 1")
    assert {row["distance"] for row in recall} >= {distance}


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize(("unit", "exact"), [(candidates.UNIT, True), (2.0**-14, False)])
def test_proposals_of_a_matrix_product_change_no_match(
    world: World, monkeypatch: pytest.MonkeyPatch, distance: str, unit: float, exact: bool
) -> None:
    """Arithmetic as coarse as 2^-14 would leave probes to plain SQL: they are searched there."""
    stored = (
        "SELECT system, probe_clip_id, rank, gallery_clip_id, match.distance, hit FROM match"
        " JOIN evaluation e ON e.id = evaluation_id WHERE e.distance = :distance AND e.scale IN (0, 3) AND e.seed = 0"
        " ORDER BY 1, 2, 3"
    )
    asked: dict[str, Any] = {"scales": [3.0], "seed": 0, "distance": distance}
    evaluate(world.store, "r", "test", **asked)
    plain = world.rows(stored, distance=distance)
    settled: list[int] = []
    insert = matching._match_proposed

    def counted(*given: Any) -> np.ndarray:
        left = insert(*given)
        settled.append(int((~left).sum()))
        return left

    monkeypatch.setattr(matching, "_match_proposed", counted)
    monkeypatch.setattr(matching, "LARGE", 1)
    monkeypatch.setattr(matching, "PROPOSED", 12)
    monkeypatch.setattr(candidates, "UNIT", unit)
    evaluate(world.store, "r", "test", **asked)
    assert world.rows(stored, distance=distance) == plain
    assert len(plain) == 10 * (20 + 10)
    assert (settled[0] == 20) is exact
    assert settled[1] == 0  # no enlarged guide shows a face


def test_every_probe_has_an_outcome_and_undetected_ones_are_listed(world: World) -> None:
    rows = probes(world)
    assert [row["clip_id"] for row in rows] == [world.clips[i] for i in GALLERY]
    assert [row["clip_id"] for row in rows if not row["detected"]] == [world.clips[i] for i in UNDETECTED]
    found = world.rows(
        "SELECT probe_clip_id, min(rank) FROM match JOIN evaluation e ON e.id = evaluation_id"
        " WHERE hit AND scale = 1 AND seed = 0 AND e.distance = 'euclidean' GROUP BY 1"
    )
    first = dict(found)
    assert {row["clip_id"]: row["rank"] for row in rows} == {world.clips[i]: first.get(world.clips[i]) for i in GALLERY}
    assert all(row["psnr"] > 0 for row in rows)
    said = slf(world, "recall", "r", "--undetected")
    ours = [row for row in said if row["system"] == "full-input"]
    assert len(ours) == 4  # two clips, two seeds
    assert len(said) == 4 + len(GALLERY)  # and no enlarged guide shows a face


def test_recall_by_identity_counts_everybody_once(world: World) -> None:
    world.rows("DELETE FROM generation WHERE clip_id = :clip AND scale = 3 AND seed = 1", clip=int(world.clips[0]))
    evaluate(world.store, "r", "test", scales=[3.0], seed=1, baselines=False)
    rows = probes(world, scale=3.0, seed=1)
    people: dict[str, list[bool]] = {}
    for row in rows:
        people.setdefault(row["identity"], []).append(row["rank"] is not None and row["rank"] <= 3)
    (found,) = world.store.query("SELECT * FROM recall_at_k WHERE scale = 3 AND seed = 1 AND k = 3"
                                 " AND distance = 'euclidean' AND system = 'full-input'")  # fmt: skip
    assert found["identity_recall"] == pytest.approx(np.mean([np.mean(hits) for hits in people.values()]))
    assert found["recall"] == pytest.approx(np.mean([hit for hits in people.values() for hit in hits]))
    assert (found["identities"], found["n"]) == (10, 19)
    assert found["identity_ci_low"] <= found["identity_recall"] <= found["identity_ci_high"]


def test_groups_are_counted_with_their_size_and_source(world: World) -> None:
    rows = {(r["label"], r["k"]): r for r in slf(world, "recall", "r", "--by", "gender")
            if (r["system"], r["scale"], r["seed"]) == ("full-input", 1, 0)}  # fmt: skip
    members = {
        "f": [i for i in GALLERY if i // 4 % 2 and i // 4 != 7] + [i for i in GALLERY if i // 4 == 7 and i % 3],
        "m": [i for i in GALLERY if not i // 4 % 2] + [i for i in GALLERY if i // 4 == 7 and not i % 3],
    }
    rank = {row["clip_id"]: row["rank"] or 99 for row in probes(world)}
    for label, of_group in members.items():
        for k in KS:
            row = rows[label, k]
            assert row["recall"] == pytest.approx(np.mean([rank[world.clips[i]] <= k for i in of_group]))
            assert (row["n"], row["identities"]) == (len(of_group), len({i // 4 for i in of_group}))
            assert row["small"] is True
    assert rows["f", 1]["source"] == "age_gender, metadata"
    ages = world.store.query("SELECT label, n FROM recall_by_group WHERE attribute = 'age_group' AND k = 1"
                             " AND scale = 1 AND seed = 0 ORDER BY 1")  # fmt: skip
    assert [(row["label"], row["n"]) for row in ages] == [("20s", 8), ("30s", 6), ("40s", 6)]
    (language,) = world.store.query("SELECT DISTINCT label, source, n FROM recall_by_group"
                                    " WHERE attribute = 'language' AND scale = 1 AND seed = 0")  # fmt: skip
    assert language == {"label": "unknown", "source": "none", "n": 20}
    (random,) = world.store.query("SELECT * FROM recall_by_group WHERE system = 'random' AND label = 'm' AND k = 5"
                                  " AND distance = 'euclidean'")  # fmt: skip
    chance = chance_recall(np.full(len(members["m"]), 2), 20, 5)
    assert (random["recall"], random["ci_low"]) == (pytest.approx(chance.value), chance.low)
    (detected,) = world.store.query("SELECT value FROM metric_by_group WHERE metric = 'detected' AND label = '20s'"
                                    " AND scale = 1 AND seed = 0 AND system = 'full-input'")  # fmt: skip
    assert detected["value"] == pytest.approx(7 / 8)


def test_attributes_of_generated_faces_are_compared_with_both_truths(world: World) -> None:
    said = {clip: (age, gender) for clip, age, gender in world.rows(
        "SELECT clip_id, age, gender FROM generation_attribute JOIN generation ON id = generation_id"
        " WHERE scale = 1 AND seed = 0")}  # fmt: skip
    rows = {(r["system"], r["attribute"], r["truth"]): r for r in slf(world, "recall", "r", "--attributes")
            if r["seed"] == 0 and r["scale"] in (0, 1)}  # fmt: skip
    own = rows["full-input", "gender", "age_gender"]
    hits = [said[world.clips[i]][1] == ("f" if i % 3 else "m") for i in GALLERY]
    assert (own["value"], own["n"], own["missed"]) == (pytest.approx(np.mean(hits)), 20, 2)
    stated = rows["full-input", "gender", "metadata"]
    true = [said[world.clips[i]][1] == ("f" if i // 4 % 2 else "m") for i in GALLERY if i // 4 != 7]
    assert (stated["value"], stated["n"], stated["estimator"]) == (pytest.approx(np.mean(true)), 18, "age_gender")
    age = rows["full-input", "age", "age_gender"]
    errors = [said[world.clips[i]][0] - AGES[i] for i in GALLERY if i not in UNDETECTED]
    assert (age["value"], age["n"]) == (pytest.approx(np.sqrt(np.mean(np.square(errors)))), 18)
    decade = rows["full-input", "age_group", "age_gender"]
    assert decade["value"] == pytest.approx(
        np.mean([(said[world.clips[i]][0] or -10) // 10 == AGES[i] // 10 for i in GALLERY])
    )
    random = rows["random", "age", "age_gender"]
    everybody = np.array([AGES[i] for i in GALLERY])
    assert random["value"] == pytest.approx(np.sqrt(np.mean((everybody[:, None] - everybody) ** 2)))
    assert rows["bicubic-8x8", "gender", "age_gender"]["value"] == 0
    assert not [key for key in rows if key[1] == "ethnicity"]  # nobody states it
    by_group = {(r["label"], r["metric"], r["truth"]): r for r in world.store.query(
        "SELECT * FROM metric_by_group WHERE attribute = 'gender' AND system = 'full-input' AND scale = 1 AND seed = 0"
        " AND distance = 'euclidean' AND estimator = 'age_gender'")}  # fmt: skip
    stated = [i for i in GALLERY if i // 4 % 2 and i // 4 != 7]
    found = by_group["f", "gender_recall", "metadata"]
    assert found["value"] == pytest.approx(np.mean([said[world.clips[i]][1] == "f" for i in stated]))
    assert (found["n"], found["identities"]) == (len(stated), 5)  # the eighth person is f to the estimator, once
    women = stated + [i for i in GALLERY if i // 4 == 7 and i % 3]
    errors = [said[world.clips[i]][0] - AGES[i] for i in women if i not in UNDETECTED]
    assert by_group["f", "age_error", "age_gender"]["value"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_the_frechet_distance_is_that_of_the_stored_vectors(world: World) -> None:
    vectors = [json.loads(vector) for (vector,) in world.rows(
        "SELECT vector::text FROM generation_embedding JOIN generation ON generation.id = generation_id"
        " WHERE scale = 1 AND seed = 0 AND vector IS NOT NULL AND method = 'diffusion'")]  # fmt: skip
    (row,) = world.store.query("SELECT * FROM fidelity WHERE metric = 'frechet' AND scale = 1 AND seed = 0")
    assert row["value"] == pytest.approx(frechet_distance(np.array(vectors), world.vectors[GALLERY]))
    assert row["n"] == 18
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_two_systems_are_compared_on_the_same_clips(world: World) -> None:
    rows = {row["metric"]: row for row in slf(world, "compare", "r@3", "r@1", "--on", "test", "--seed", "0")}
    one, two = (np.array([row["rank"] or 99 for row in probes(world, scale=scale)]) for scale in (3.0, 1.0))
    people = [row["identity"] for row in probes(world)]
    for k in KS:
        change = (one <= k).astype(int) - (two <= k)
        by_person = np.array([change[[p == person for p in people]].sum() for person in sorted(set(people))])
        flips = np.array([np.dot(signs, by_person) for signs in product((1, -1), repeat=len(by_person))])
        row = rows[f"recall@{k}"]
        assert row["difference"] == pytest.approx(change.mean())
        assert (row["p"], row["test"]) == (pytest.approx(np.mean(np.abs(flips) >= abs(by_person.sum()))), "exact")
        assert (row["clips"], row["identities"]) == (20, 10)
        assert row["better"] == (by_person > 0).sum()
        assert row["low"] <= row["difference"] <= row["high"]
    assert rows["mean recall"]["difference"] == pytest.approx(np.mean([rows[f"recall@{k}"]["difference"] for k in KS]))
    assert rows["psnr"]["test"] == "random"
    both = compare(world.store, "r@1", "r:bicubic-8x8", "test")[0]  # seeds averaged
    seeds = [np.array([(row["rank"] or 99) <= 1 for row in probes(world, seed=seed)]) for seed in (0, 1)]
    assert both["a"] == pytest.approx(np.mean(seeds))
    for a, error, words in (
        ("r", ConfigError, "scale 1, 3"), ("r@7", NotFoundInStore, "not been evaluated"),
        ("r:random", ConfigError, "no faces"), ("@", ConfigError, "names no system"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            compare(world.store, a, "r@1", "test")


def test_strangers_in_the_gallery_lower_recall_as_counting_says(world: World) -> None:
    strangers = [i for i in range(4 * PEOPLE) if i // 4 >= 10]
    vectors = {clip: np.array(json.loads(vector)) for clip, vector in world.rows(
        "SELECT clip_id, vector::text FROM generation JOIN generation_embedding ON generation_id = generation.id"
        " WHERE scale = 1 AND seed = 0 AND vector IS NOT NULL AND method = 'diffusion'")}  # fmt: skip

    def recall(added: tuple[int, ...], k: int) -> float:
        hits = []
        for i in GALLERY:
            if world.clips[i] not in vectors:
                hits.append(False)
                continue
            faces = np.array([*GALLERY, *added])
            far = ((world.vectors[faces] - vectors[world.clips[i]]) ** 2).sum(axis=1)
            mine = far[world.identities[faces] == world.identities[i]].min()
            hits.append((far < mine).sum() < k)
        return float(np.mean(hits))

    added = ("--strangers", "0", "--strangers", "1", "--strangers", "8")
    said = slf(world, "evalset", "sizes", "r@1", "--on", "test", *added)
    rows = {(row["strangers"], row["k"]): row for row in said}
    for k in KS:
        assert rows[0, k]["recall"] == pytest.approx(recall((), k))
        assert rows[1, k]["recall"] == pytest.approx(np.mean([recall((stranger,), k) for stranger in strangers]))
        assert rows[8, k]["recall"] == pytest.approx(recall(tuple(strangers), k))
    assert rows[8, 1]["gallery_faces"] == 28
    assert rows[8, 3]["recall"] < rows[0, 3]["recall"] < 1
    with pytest.raises(ConfigError, match="the store has 8"):
        recall_by_gallery_size(world.store, "r@1", "test", [9])


def test_the_nearest_faces_of_a_face(world: World) -> None:
    rows = slf(world, "nearest", "id00000/v1/00001", "--k", "5")
    far = np.sqrt(((world.vectors - world.vectors[0]) ** 2).sum(axis=1))
    order = np.lexsort((world.clips, far))[:5]
    assert [row["clip_id"] for row in rows] == world.clips[order].tolist()
    assert [row["distance"] for row in rows] == pytest.approx(far[order])
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    found = nearest_faces(world.store, world.vectors[9], k=1, model="face_dlib")
    assert (found[0]["clip_id"], found[0]["distance"]) == (world.clips[9], 0)
    with pytest.raises(ConfigError, match="a vector of"):
        nearest_faces(world.store, world.vectors[9][:5])
    with pytest.raises(NotFoundInStore, match="no clip id00000/v1/9"):
        nearest_faces(world.store, "id00000/v1/9")
    with pytest.raises(SelectionError, match="permission denied"):
        run_text(world.store.engine, f"SELECT * FROM nearest_faces({world.clips[0]})", role="analyst")
    assert run_text(world.store.engine, "SELECT count(*) AS n FROM recall_by_group", role="analyst")[0]["n"] > 0


def test_embedding_models_stand_side_by_side(world: World) -> None:
    """One in which every generated face is the real one, beside one in which it is not."""
    other = FaceEmbedding(world.store.settings, model="facenet-casia-20180408")
    with world.store.engine.begin() as connection:
        key = register(connection, [other.spec])[other.name]
    vectors = np.random.default_rng(2).normal(size=(4 * PEOPLE, 512)).astype(np.float32)
    for i in GALLERY:
        clip = int(world.clips[i])
        world.rows("INSERT INTO face_embedding (constituent_id, clip_id, vector) VALUES (:key, :clip, :vector)",
                   key=key, clip=clip, vector=vectors[i])  # fmt: skip
        world.rows("INSERT INTO generation_embedding SELECT id, :key, :vector FROM generation"
                   " WHERE clip_id = :clip AND scale = 1 AND seed = 0",
                   key=key, clip=clip, vector=vectors[i])  # fmt: skip
    before = world.rows("SELECT count(*) FROM evaluation")[0][0]
    said = slf(world, "evaluate", "r", "--on", "test", "--scale", "1", "--seed", "0", "--model", "Dlib", "--model",
               "facenet-casia-20180408", "--distance", "euclidean", "--workers", "1")  # fmt: skip
    ours = {row["embedding"]: row for row in said if row["system"] == "full-input"}
    assert ours["face_facenet_casia_20180408"]["recall@1"] == 1
    assert 0 < ours["face_dlib"]["recall@1"] < 1
    assert world.rows("SELECT count(*) FROM evaluation")[0][0] == before + 4  # what was measured before stays
    assert len(slf(world, "compare", "r@1", "r:real-vs-real", "--on", "test", "--model", other.name,
                   "--distance", "euclidean")) == 5  # fmt: skip
    for i in GALLERY:
        world.rows("INSERT INTO generation_embedding VALUES (:generation, :key, :vector)", key=key, vector=vectors[i],
                   generation=world.add_generation(i, None, scale=2.0))  # fmt: skip
    assert evaluate(world.store, "r", "test", scales=[2.0], model=other.name, baselines=False)[0]["recall@1"] == 1
    assert best_scale(world.store, "r", "test", "all") == 3.0  # of the settings' model, which was not asked at scale 2


def test_what_cannot_be_asked_for_is_refused(world: World) -> None:
    world.rows("""UPDATE constituent SET version = 'other', spec = jsonb_set(spec, '{code_version}', '9')
                  WHERE name = 'age_gender'""")
    with pytest.raises(ConfigError, match="or evaluate with --no-attributes"):
        evaluate(world.store, "r", "test")
    assert evaluate(world.store, "r", "test", attributes=False, baselines=False)
    with pytest.raises(ConfigError, match="no distance 'manhattan'"):
        evaluate(world.store, "r", "test", distance="manhattan")
    with pytest.raises(ConfigError, match="Facenet9"):
        evaluate(world.store, "r", "test", model="Facenet9")
    with pytest.raises(NotFoundInStore, match="face_sface"):
        nearest_faces(world.store, "id00000/v1/00001", model="face_sface")
    for words in (["recall", "--by", "hair"], ["recall", "--by", "gender", "--attributes"]):
        assert CliRunner().invoke(app, ["--home", str(world.store.settings.home), *words]).exit_code == 2


def test_an_evaluation_set_and_the_estimate_of_a_picture(kept: Store, tmp_path: Path) -> None:
    frozen = create_evalset(kept, "slf", predicate="true", seed=3)
    members = kept.query("SELECT clip_id, identity, video FROM snapshot_clip JOIN clips USING (clip_id)"
                         " JOIN snapshot s ON s.id = snapshot_id WHERE s.name = 'slf'")  # fmt: skip
    assert frozen.clips == len(members) == len({row["identity"] for row in members}) > 0
    assert create_evalset(kept, "again", predicate="true", seed=3).hash == frozen.hash
    assert create_evalset(kept, "all", predicate="true", videos=0).clips >= frozen.clips
    with pytest.raises(SelectionError, match="-1 videos"):
        create_evalset(kept, "x", videos=-1)

    clips = np.array([row["clip_id"] for row in members], np.int64)
    (estimator,) = find_estimators(kept, clips)
    assert estimator.name == "age_gender"
    targets, _ = read_constituent(kept, "target", clips[:1])
    path = tmp_path / "face.png"
    path.write_bytes(encode_png(targets[0]))
    said = estimate_picture(path, extractor=estimator.extractor)
    assert said["gender"] in ("f", "m")
    assert 0 < said["age"] < 100
    assert nearest_faces(kept, path, 1)[0]["clip_id"] == clips[0]  # the very picture its embedding was made from
    path.write_bytes(encode_png(np.zeros((128, 128, 3), np.uint8)))
    assert estimate_picture(path, extractor=estimator.extractor) == {"age": None, "gender": None, "ethnicity": None}


def slf(world: World, *words: str) -> Any:
    """What a verb prints as JSON."""
    home = str(world.store.settings.home)
    url = world.store.engine.url.render_as_string(hide_password=False)
    done = CliRunner().invoke(app, ["--home", home, "--json", *words], env={"SLF_DATABASE_URL": url})
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)
