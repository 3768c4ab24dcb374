"""Evaluation against a real PostgreSQL: numbers equal numpy's, end up in the views, and stay when repeated."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluation_world import DIMENSION, PEOPLE, World, new_world

from slf_store.errors import CheckpointError, ConfigError, NotFoundInStore, SelectionError
from slf_store.evaluation import best_scale, evaluate, recall_rows, report
from slf_store.evaluation.chance import chance_recall
from slf_store.evaluation.embedding import embed_generations, embedding_model
from slf_store.evaluation.fidelity import psnr, ssim
from slf_store.evaluation.measure import KS
from slf_store.evaluation.recall import one_line_each

pytestmark = pytest.mark.integration


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with new_world(database_url, tmp_path) as made:
        yield made


def nearest(world: World, gallery: list[int], probe: np.ndarray) -> list[int]:
    """Numbers of the ten nearest gallery clips by brute force; equal distances by clip."""
    squared = ((world.vectors[gallery].astype(np.float64) - probe.astype(np.float64)) ** 2).sum(axis=1)
    return [gallery[i] for i in np.lexsort((world.clips[gallery], squared))[:10]]


def test_sql_matches_what_numpy_finds_with_ties_and_undetected_faces(world: World) -> None:
    gallery = list(range(0, 4 * PEOPLE, 2))
    world.vectors[20], world.vectors[22], world.vectors[8] = world.vectors[4], world.vectors[4], world.vectors[4]
    for i in (8, 20, 22):
        world.rows(
            "UPDATE face_embedding SET vector = :vector WHERE clip_id = :clip",
            vector=world.vectors[i], clip=int(world.clips[i]),
        )  # fmt: skip
    world.add_snapshot("test", gallery)
    generator = np.random.default_rng(1)
    probes: dict[int, np.ndarray | None] = {}
    for i in gallery:
        probes[i] = world.vectors[i] + generator.integers(-6, 7, DIMENSION).astype(np.float32)
    probes[4] = world.vectors[4]  # at distance 0 of four gallery faces of three people
    probes[10] = probes[30] = None  # no face detected
    for i, vector in probes.items():
        world.add_generation(i, vector)

    rows = evaluate(world.store, "r", "test", baselines=False)

    expected, first = [], []
    for i, vector in probes.items():
        found = [] if vector is None else nearest(world, gallery, vector)
        same = [bool(world.identities[j] == world.identities[i]) for j in found]
        first.append(same.index(True) + 1 if any(same) else 99)
        expected += [
            (world.clips[i], rank, world.clips[j], pytest.approx(np.linalg.norm(world.vectors[j] - vector)), hit)
            for rank, (j, hit) in enumerate(zip(found, same, strict=True), start=1)
        ]
    stored = world.rows(
        "SELECT probe_clip_id, rank, gallery_clip_id, distance, hit FROM match ORDER BY probe_clip_id, rank"
    )
    assert stored == expected
    assert len(rows) == 1
    assert (rows[0]["probes"], rows[0]["gallery_faces"], rows[0]["undetected"]) == (24, 24, 2)
    for k in KS:
        assert rows[0][f"recall@{k}"] == pytest.approx((np.array(first) <= k).mean())


def test_numbers_end_up_in_the_views_with_baselines_beside(world: World) -> None:
    gallery = list(range(0, 4 * PEOPLE, 4))  # one clip of each person
    world.add_snapshot("test", gallery)
    generations = [world.add_generation(i, world.vectors[i]) for i in gallery]
    world.rows("DELETE FROM face_embedding WHERE clip_id = :clip", clip=int(world.clips[8]))

    evaluate(world.store, "r", "test")

    rows = recall_rows(world.store, "r")
    systems = list(dict.fromkeys(row["system"] for row in rows))
    assert systems == ["full-input", "bicubic-8x8", "random", "real-vs-real"]
    by = {(row["system"], row["k"]): row for row in rows}
    full = by["full-input", 1]
    assert full["recall"] == pytest.approx(11 / 12)  # one person is not in the gallery: a miss, not left out
    assert full["ci_low"] <= full["recall"] <= full["ci_high"]
    assert (full["n"], full["gallery_faces"], full["gallery"], full["scale"]) == (12, 11, "test", 1.0)
    assert (full["checkpoint_samples"], full["snapshot_hash"]) == (500, "hash-of-training")
    same = np.ones(12, np.int64)
    same[2] = 0
    for k in KS:
        chance = chance_recall(same, 11, k)
        random = by["random", k]
        assert (random["recall"], random["ci_low"], random["ci_high"]) == (chance.value, chance.low, chance.high)
    assert by["bicubic-8x8", 10]["n"] == 12
    assert by["bicubic-8x8", 10]["undetected"] == 12  # the targets are noise
    assert by["bicubic-8x8", 10]["recall"] == 0
    assert by["real-vs-real", 1]["n"] == 11  # of the people in the gallery
    probes = world.rows(
        "SELECT DISTINCT match.probe_clip_id FROM match JOIN evaluation e ON e.id = evaluation_id"
        " WHERE system = 'real-vs-real' ORDER BY 1"
    )
    assert [clip for (clip,) in probes] == [world.clips[i + 2] for i in gallery if i != 8]  # first of the other video
    assert len(one_line_each(rows)) == 4

    fidelity = {row["metric"]: row for row in world.store.query("SELECT * FROM fidelity WHERE system = 'full-input'")}
    stored = world.rows("SELECT psnr, ssim FROM generation WHERE id = ANY(:ids) ORDER BY id", ids=generations)
    assert fidelity["psnr"]["value"] == pytest.approx(np.mean([row[0] for row in stored]))
    assert fidelity["ssim"]["n"] == 12
    face = np.random.default_rng([gallery[0], 0, 10]).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    truth = world.targets[gallery[0]]
    assert stored[0] == pytest.approx((psnr(face, truth), ssim(face, truth)))


def test_evaluating_again_replaces_the_numbers_and_embeds_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = list(range(0, 4 * PEOPLE, 4))
    world.add_snapshot("test", gallery)
    for i in gallery:
        world.add_generation(i, world.vectors[i])
    first = evaluate(world.store, "r", "test")
    counts = "SELECT (SELECT count(*) FROM evaluation), (SELECT count(*) FROM match), (SELECT count(*) FROM metric), \
        (SELECT count(*) FROM generation), (SELECT count(*) FROM generation_embedding)"
    before = world.rows(counts)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("slf_store.media.face.embed_face", lambda *a, **k: pytest.fail("embedded again"))
    again = evaluate(world.store, "r", "test", progress=lambda done, total: told.append((done, total)))
    assert again == first
    assert world.rows(counts) == before
    assert told == []


def test_a_generation_that_was_made_again_is_measured_again(world: World) -> None:
    world.add_snapshot("test", [0, 4])
    for i in (0, 4):
        world.add_generation(i, world.vectors[4 - i])
    assert evaluate(world.store, "r", "test", baselines=False)[0]["recall@1"] == 0
    world.rows("DELETE FROM generation")
    for i in (0, 4):
        world.add_generation(i, world.vectors[i])
    assert evaluate(world.store, "r", "test", baselines=False)[0]["recall@1"] == 1


def test_real_faces_inside_the_gallery_never_find_themselves(world: World) -> None:
    everything = list(range(4 * PEOPLE))
    world.add_snapshot("test", everything)
    world.add_generation(0, world.vectors[0])
    rows = evaluate(world.store, "r", "test")
    ceiling = next(row for row in rows if row["system"] == "real-vs-real")
    assert ceiling["probes"] == PEOPLE
    assert world.rows(
        "SELECT count(*) FROM match JOIN evaluation e ON e.id = evaluation_id"
        " WHERE system = 'real-vs-real' AND probe_clip_id = gallery_clip_id"
    ) == [(0,)]


def test_each_scale_and_seed_is_measured_for_itself(world: World) -> None:
    world.add_snapshot("test", [0, 4, 8])
    for scale in (1.0, 3.0):
        for seed in (0, 1):
            for i in (0, 4, 8):
                world.add_generation(i, world.vectors[i] if scale == 3.0 else None, scale=scale, seed=seed)
    rows = evaluate(world.store, "r", "test", baselines=False)
    assert [(row["scale"], row["seed"], row["recall@1"]) for row in rows] == [
        (1.0, 0, 0), (1.0, 1, 0), (3.0, 0, 1), (3.0, 1, 1),
    ]  # fmt: skip
    assert len(evaluate(world.store, "r", "test", scales=[3.0], seed=1, baselines=False)) == 1
    with pytest.raises(NotFoundInStore, match="at scale 7"):
        evaluate(world.store, "r", "test", scales=[3.0, 7.0], baselines=False)


def test_numbers_of_steps_stand_side_by_side_and_mixed_checkpoints_are_refused(world: World) -> None:
    world.add_snapshot("test", [0, 4])
    for steps, vector in ((12, 8), (25, None)):
        for i in (0, 4):
            world.add_generation(i, world.vectors[i if vector is None else vector], steps=steps)
    few, many = evaluate(world.store, "r", "test", baselines=False)
    assert (few["steps"], few["recall@1"], many["steps"], many["recall@1"]) == (12, 0.5, 25, 1)
    assert [row["steps"] for row in recall_rows(world.store, "r", 1)] == [12, 25]
    assert evaluate(world.store, "r", "test", steps=25, baselines=False) == [many]
    world.add_generation(0, world.vectors[0], scale=2.0, seen=500)
    world.add_generation(4, world.vectors[4], scale=2.0, seen=900)
    with pytest.raises(CheckpointError, match="500, 900 samples seen"):
        evaluate(world.store, "r", "test", baselines=False)


def test_a_part_of_the_snapshot_is_probes_and_gallery(world: World) -> None:
    members = list(range(0, 4 * PEOPLE, 4))
    validation = set(members[6:])
    world.add_snapshot("both", members, validation)
    for i in members:
        world.add_generation(i, world.vectors[i])
    row = evaluate(world.store, "r", "both", part="validation", baselines=False)[0]
    assert (row["probes"], row["gallery_faces"], row["part"]) == (6, 6, "validation")
    with pytest.raises(ConfigError, match="no part 'test'"):
        evaluate(world.store, "r", "both", part="test")


def test_the_scale_is_chosen_on_validation_and_never_on_test(world: World) -> None:
    members = list(range(0, 4 * PEOPLE, 4))
    world.add_snapshot("both", members, set(members))
    right = {1.0: 4, 2.0: 9, 4.0: 9, 8.0: 6}
    for scale, count in right.items():
        for n, i in enumerate(members):
            world.add_generation(i, world.vectors[i] if n < count else None, scale=scale)
    with pytest.raises(NotFoundInStore, match="has not been evaluated"):
        best_scale(world.store, "r", "both")
    evaluate(world.store, "r", "both", part="validation")
    assert best_scale(world.store, "r", "both") == 2.0
    world.rows("UPDATE video SET split = 'test'")
    with pytest.raises(SelectionError, match="test split"):
        best_scale(world.store, "r", "both")


def test_other_embedding_weights_are_refused(world: World) -> None:
    world.add_snapshot("test", [0])
    world.add_generation(0, world.vectors[0])
    world.rows("""UPDATE constituent SET spec = jsonb_set(spec, '{weights}', '{"other.dat": "1"}')""")
    with pytest.raises(ConfigError, match="another weights"):
        evaluate(world.store, "r", "test")


def test_what_is_not_there_is_named(world: World) -> None:
    world.add_snapshot("test", [0])
    for run, gallery, words in (("x", "test", "no run 'x'"), ("r", "x", "no snapshot 'x'"), ("r", "test", "generate")):
        with pytest.raises(NotFoundInStore, match=words):
            evaluate(world.store, run, gallery)
    with pytest.raises(NotFoundInStore, match="no recall"):
        recall_rows(world.store, "r")
    with pytest.raises(NotFoundInStore, match="no evaluation"):
        report(world.store, world.store.settings.home / "r.html")
    assert not (world.store.settings.home / "r.html").exists()


def test_the_report_says_what_was_done_and_escapes_everything(world: World, tmp_path: Path) -> None:
    gallery = list(range(0, 4 * PEOPLE, 4))
    world.add_snapshot("test", gallery)
    for i in gallery:
        world.add_generation(i, None if i == 4 else world.vectors[i], scale=3.0)
    world.rows(
        "INSERT INTO checkpoint (run_id, unet, samples_seen, path, checksum, seconds)"
        " SELECT id, 1, 500, 'c', 'c', 4000 FROM run"
    )
    world.rows(
        "UPDATE extraction SET state = 'failed', error_code = '<b>no_face', shard_id = NULL WHERE clip_id = :clip",
        clip=int(world.clips[1]),
    )
    world.rows(
        "UPDATE clip SET state = 'quarantined', reason = 'un<i>readable' WHERE id = :clip", clip=int(world.clips[2])
    )
    evaluate(world.store, "r", "test")

    path, files = report(world.store, tmp_path / "page.html", ["r"], tables=tmp_path / "tables")

    page = path.read_text("utf-8")
    for words in (
        "hash-of-test", "hash-of-training", "full-input: not chosen", "tiny", "1 h 7 min", "bicubic-8x8", "random",
        "real-vs-real", "face_dlib", "no face detected", "found at rank 1", "of real people", "<svg", "PSNR",
        "&lt;script&gt;", "&lt;b&gt;no_face", "un&lt;i&gt;readable", "prefers-color-scheme: dark", "@media print",
    ):  # fmt: skip
        assert words in page, words
    for words in ("<script", "<b>no_face", "un<i>", "http://127", 'src="http'):
        assert words not in page, words
    assert page.count("data:image/png;base64,") == 3 * 12
    shown = world.rows("SELECT report.path, count(*) FROM report JOIN report_clip ON report_id = report.id GROUP BY 1")
    assert shown == [(str(path), 12)]  # an erasure of one of them removes the page
    assert not list(tmp_path.glob(".page*"))
    assert {file.suffix for file in files} == {".csv", ".tex", ".svg"}
    with (tmp_path / "tables" / "table-2.csv").open() as file:
        written = {row["System"]: row for row in csv.DictReader(file)}
    for row in recall_rows(world.store, "r"):
        ends = [written[row["system"]][f"recall@{row['k']}{end}"] for end in ("", " low", " high")]
        assert [float(end) / 100 for end in ends] == pytest.approx([row["recall"], row["ci_low"], row["ci_high"]])

    world.rows("UPDATE source SET synthetic = true")
    page = report(world.store, tmp_path).page.read_text("utf-8")
    assert (tmp_path / "report.html").is_file()
    assert "every face on this page is drawn" in page
    assert "of real people." not in page


def test_pictures_are_embedded_by_several_processes_and_gone_ones_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slf_store.evaluation.picture_pool.FACES_PER_PROCESS", 1)
    generations = [world.add_generation(i, None) for i in (0, 4, 8)]
    world.rows("DELETE FROM generation_embedding")
    model = embedding_model(world.store)
    told: list[tuple[int, int]] = []
    assert embed_generations(world.store, generations, model, workers=2, progress=lambda *at: told.append(at)) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert world.rows("SELECT count(*), count(vector) FROM generation_embedding") == [(3, 0)]
    world.rows("DELETE FROM generation_embedding")
    (world.store.settings.home / "runs/r/1.0-0-12/4.png").unlink()
    with pytest.raises(NotFoundInStore, match=r"4\.png cannot be read"):
        embed_generations(world.store, generations, model, workers=2)
