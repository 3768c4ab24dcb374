"""Ablation and scale sweep: only what is missing is done, and the scale is chosen on validation identities."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from sqlalchemy import text
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.db.readonly import run_text
from slf_store.errors import ConfigError, NotFoundInStore, SelectionError
from slf_store.evaluation import best_scale, report
from slf_store.evaluation.reporting.study import read_studies
from slf_store.evaluation.significance import significance
from slf_store.jobs.ablate import Ablation, ablate
from slf_store.jobs.sweep import sweep
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.store import Store

pytestmark = pytest.mark.integration

ON, GALLERY = "ablated on", "ablated for"
PLAN = Ablation(
    ON, GALLERY, systems=("full-input", "no-image-guide", "random"), samples=32, scales=(1.0,), steps=2
)  # fmt: skip
KILLED = """
import sys
from slf_store.jobs.ablate import ablate
from slf_store.store import Store
sys.path.insert(0, sys.argv[1])
from test_ablation import PLAN
with Store.open() as store:
    ablate(store, PLAN)
"""
STATE = """
    SELECT (SELECT array_agg((run_id, unet, samples_seen, path, checkpoint.created_at)::text ORDER BY run_id, unet)
            FROM checkpoint JOIN run ON run.id = run_id WHERE run.name LIKE 'ablated on-%') AS checkpoints,
           (SELECT array_agg(generation.id ORDER BY generation.id) FROM generation JOIN run ON run.id = run_id
            WHERE run.name LIKE 'ablated on-%') AS generations,
           (SELECT array_agg(evaluation.id ORDER BY evaluation.id) FROM evaluation JOIN run ON run.id = run_id
            WHERE run.name LIKE 'ablated on-%') AS evaluations
"""


@pytest.fixture(scope="module")
def ablated(extracted: Store) -> Store:
    """The extracted store in one thread, with what the ablation takes frozen."""
    store = Store(extracted.settings.model_copy(update={"threads": 1, "workers": 1}), extracted.engine)
    freeze(store, select(store, "split = 'dev'"), ON, validation=0.17)
    freeze(store, select(store, "split = 'test'", per_identity=1), GALLERY)
    return store


@pytest.fixture
def variables(ablated: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ablated.settings.database_url is not None
    monkeypatch.setenv("SLF_HOME", str(ablated.settings.home))
    monkeypatch.setenv("SLF_THREADS", "1")
    monkeypatch.setenv("SLF_WORKERS", "1")
    monkeypatch.setenv("SLF_DATABASE_URL", ablated.settings.database_url.get_secret_value())


def slf(*words: object) -> Result:
    return CliRunner().invoke(app, ["--json", *map(str, words)])


def test_an_ablation_killed_between_two_stages_goes_on_and_does_nothing_twice(ablated: Store, variables: None) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent)],
        env={**os.environ, "SLF_FAULT": "ablate.stage:2"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = ablated.query(STATE)[0]

    told: list[tuple[int, int]] = []
    full, voice = ablate(ablated, PLAN, progress=lambda *at: told.append(at))

    assert full.done == (
        "generated 2 faces for validation",
        "evaluated 1 scales on validation",
        f"generated 3 faces for {GALLERY}",
        f"evaluated 1 scales on {GALLERY}",
    )
    assert voice.done == (
        "trained U-Net 1", f"took U-Net 2 of {full.run}", "generated 2 faces for validation",
        "evaluated 1 scales on validation", f"generated 3 faces for {GALLERY}", f"evaluated 1 scales on {GALLERY}",
    )  # fmt: skip
    assert told == [(n, 8) for n in range(1, 9)]
    after = ablated.query(STATE)[0]
    assert set(before["checkpoints"]) < set(after["checkpoints"])  # nothing of it was made again
    assert (before["generations"], before["evaluations"]) == (None, None)
    assert full.scale == best_scale(ablated, full.run, ON)
    assert set(full.recall) == {1, 3, 5, 10}
    beside = ablated.query(
        "SELECT system FROM evaluation JOIN snapshot g ON g.id = gallery_id WHERE g.name = 'ablated for'"
    )
    assert sorted(row["system"] for row in beside) == [
        "bicubic-8x8", "full-input", "no-image-guide", "random", "real-vs-real",
    ]  # fmt: skip

    again = slf("ablate", "--on", ON, "--gallery", GALLERY, "--systems", "full-input,no-image-guide", "--samples", 32,
                "--scales", 1, "--steps", 2, "--direct")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert [row["done"] for row in json.loads(again.stdout)] == [[], []]
    assert ablated.query(STATE)[0] == after


def test_a_sweep_makes_only_new_scales_and_never_chooses_on_its_gallery(ablated: Store, variables: None) -> None:
    (full,) = ablate(ablated, replace(PLAN, systems=("full-input",)))
    words = ("sweep", full.run, "--scales", "1,3", "--on", GALLERY, "--steps", 2)
    first, second = (json.loads(slf(*words).stdout) for _ in range(2))
    assert (first["made"], first["evaluated"]) == (2 + 3, 1 + 1)  # scale 1 was there, on both
    assert (second["made"], second["evaluated"], second["scale"]) == (0, 0, best_scale(ablated, full.run, ON))
    chosen = {(row["part"], row["scale"]) for row in second["rows"] if row["chosen"]}
    assert chosen == {("validation", second["scale"]), ("all", second["scale"])}
    assert {row["scale"] for row in second["rows"] if row["gallery"] == GALLERY} == {1, 3}
    named = text("SELECT scale FROM chosen_scale WHERE run = :run")
    with ablated.engine.connect() as connection:  # rolled back
        assert connection.execute(named, {"run": full.run}).scalars().all() == [second["scale"]]
        connection.execute(text("UPDATE video SET split = 'test'"))
        assert connection.execute(named, {"run": full.run}).scalars().all() == []


def test_the_report_has_the_papers_tables_and_figures_of_an_ablation(
    ablated: Store, variables: None, tmp_path: Path
) -> None:
    runs = ablate(ablated, PLAN)
    sweep(ablated, runs[0].run, (1, 3), gallery=GALLERY, steps=2)
    chosen = [word for run in runs for word in ("--run", run.run)]
    done = slf("report", tmp_path / "page.html", "--tables", tmp_path / "tables", *chosen)
    assert done.exit_code == 0, done.output
    written = json.loads(done.stdout)
    names = {Path(name).name for name in written["tables"]}
    tables = {f"table-{number}" for number in (2, 3, 4, 5, 6, 7, 8)} | {"findings", "significance", "by-gender"}
    assert {f"{name}.{kind}" for name in tables for kind in ("csv", "tex")} <= names
    assert {"figure-8a.svg", "figure-8b.svg", "recall-over-k.svg"} <= names
    with (tmp_path / "tables" / "table-6.csv").open() as file:
        rows = {row["System"]: row for row in csv.DictReader(file)}
    for run in runs:
        assert float(rows[run.system]["Scale"]) == run.scale
        shown = {k: float(rows[run.system][f"recall@{k}"]) / 100 for k in run.recall}
        assert shown == pytest.approx(run.recall)
    assert rows["random"]["n"] == "3"
    page = Path(written["report"]).read_text("utf-8")
    assert page.count("data:image/png") == 3 * 4 + 2 * (1 + 2 + 1)  # figure 6: two systems; 7: two scales
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(ConfigError, match="it is a file"):
        report(ablated, tmp_path / "other.html", tables=tmp_path / "page.html")
    assert not (tmp_path / "other.html").exists()


OTHER_MODEL = """
    -- Another face embedding looked at one run at one scale, on validation identities and on the gallery.
    WITH model AS (
        INSERT INTO constituent (name, version, spec, kind, shape, dtype)
        VALUES ('face_other', '1', '{}', 'embedding', '{512}', 'float32') RETURNING id
    ), measured AS (
        INSERT INTO evaluation (run_id, gallery_id, part, system, scale, seed, constituent_id, checkpoint_samples,
                                probes, gallery_faces, undetected)
        SELECT run_id, gallery_id, part, system, scale, seed, model.id, 9, 9, 9, 0 FROM evaluation, model
        WHERE scale = 3 AND run_id = (SELECT id FROM run WHERE name = 'full-input-0') RETURNING id
    )
    INSERT INTO metric SELECT id, 'recall', 1, 0.5, 0, 1, 9 FROM measured
"""


def test_each_face_embedding_chooses_its_own_scale(measured: Store) -> None:
    with measured.engine.begin() as connection:
        connection.execute(text(OTHER_MODEL))
    chosen = "SELECT DISTINCT embedding, scale FROM scale_sweep WHERE chosen AND run = 'full-input-0' ORDER BY 1"
    assert [tuple(row.values()) for row in measured.query(chosen)] == [("face_dlib", 2.0), ("face_other", 3.0)]
    dlib, other = (
        study for study in read_studies(measured) if study.first.embedding_name in ("face_dlib", "face_other")
    )
    assert (dlib.chosen["full-input-0"], other.chosen["full-input-0"]) == (2.0, 3.0)
    assert other.chosen["no-audio-0"] == 2.0  # which the other model did not look at
    assert {(r.embedding_name, r.scale) for study in (dlib, other) for r in study.shown} == {
        ("face_dlib", 2.0), ("face_other", 3.0),
    }  # fmt: skip
    assert {row["embedding"] for row in significance(measured)} == {"face_dlib"}


def test_what_cannot_be_ablated_is_said_before_anything_is_trained(ablated: Store, variables: None) -> None:
    runs = ablated.query("SELECT count(*) FROM run")
    for plan, error, words in (
        (replace(PLAN, systems=("no-such",)), SelectionError, "no system 'no-such'"),
        (replace(PLAN, gallery=ON), ConfigError, "identities of snapshot 'ablated on' are trained on"),
        (replace(PLAN, on=GALLERY, gallery=ON), SelectionError, "no validation part"),
        (replace(PLAN, gallery="nowhere"), NotFoundInStore, "nowhere"),
        (replace(PLAN, systems=("random",)), SelectionError, "no system that is trained"),
    ):
        with pytest.raises(error, match=words):
            ablate(ablated, plan)
    assert ablated.query("SELECT count(*) FROM run") == runs
    assert slf("ablate", "--on", ON, "--gallery", GALLERY, "--seeds", "one").exit_code == 2
    assert slf("sweep", "x", "--scales", "3:1:1").exit_code == 2
    assert slf("significance", "--weights", "a,b").exit_code == 2


RECALLS: dict[tuple[str, int], tuple[float, ...]] = {
    # (system, training seed): recall@1, 3, 5, 10 at the chosen scale
    ("full-input", 0): (0.2, 0.4, 0.6, 0.8),
    ("full-input", 1): (0.3, 0.5, 0.6, 0.9),
    ("no-audio", 0): (0.1, 0.3, 0.5, 0.8),
    ("no-audio", 1): (0.2, 0.4, 0.5, 0.6),
    ("no-image-guide", 0): (0.0, 0.1, 0.2, 0.4),
}


@pytest.fixture
def measured(store: Store) -> Store:
    """A store of numbers alone: five runs, three validation scales each, measured at the gallery at two of them."""
    with store.engine.begin() as connection:
        (embedding,) = connection.execute(
            text(
                "INSERT INTO constituent (name, version, spec, kind, shape, dtype)"
                " VALUES ('face_dlib', '1', '{}', 'embedding', '{128}', 'float32') RETURNING id"
            )
        ).one()
        snapshots = {
            name: connection.execute(
                text(
                    "INSERT INTO snapshot (name, hash, predicate, layout, blocks, missing, seed, clips, normalisation)"
                    " VALUES (:name, :name, 'true', 'slf-256x768', '[]', 'skip', 0, 9, '{}') RETURNING id"
                ),
                {"name": name},
            ).scalar_one()
            for name in ("train", "test")
        }
        for (system, seed), recalls in RECALLS.items():
            row = {"name": f"{system}-{seed}", "on": snapshots["train"], "system": system, "seed": seed}
            row |= {"inputs": ["mel", "age"] if system != "no-audio" else ["age"], "guide": system != "no-image-guide"}
            run = connection.execute(
                text(
                    "INSERT INTO run (name, snapshot_id, system, preset, config, seed, inputs, guide)"
                    " VALUES (:name, :on, :system, 'tiny', '{}', :seed, :inputs, :guide) RETURNING id"
                ),
                row,
            ).scalar_one()
            best = (recalls, (0.0,) * 4)
            for gallery, part, scale, values in (
                ("train", "validation", 1.0, (0.1,) * 4), ("train", "validation", 2.0, (0.9,) * 4),
                ("train", "validation", 3.0, (0.9,) * 4), ("test", "all", 2.0, best[0]), ("test", "all", 3.0, best[1]),
            ):  # fmt: skip
                place = {"run": run, "gallery": snapshots[gallery], "part": part, "system": system, "scale": scale}
                evaluation = connection.execute(
                    text(
                        "INSERT INTO evaluation (run_id, gallery_id, part, system, scale, seed, constituent_id,"
                        " checkpoint_samples, probes, gallery_faces, undetected)"
                        " VALUES (:run, :gallery, :part, :system, :scale, 0, :embedding, 9, 9, 9, 0) RETURNING id"
                    ),
                    {**place, "embedding": embedding},
                ).scalar_one()
                for k, value in zip((1, 3, 5, 10), values, strict=True):
                    connection.execute(
                        text("INSERT INTO metric VALUES (:evaluation, 'recall', :k, :value, 0, 1, 9)"),
                        {"evaluation": evaluation, "k": k, "value": value},
                    )
    return store


def by_hand(seed: int, without: str, weights: tuple[float, ...]) -> float:
    increases = [100 * (a - b) / b for a, b in zip(RECALLS["full-input", seed], RECALLS[without, seed], strict=True)]
    return float(np.dot(weights, increases) / sum(weights))


def test_significance_is_the_papers_equation_at_the_chosen_scale(measured: Store) -> None:
    from scipy.stats import t

    assert best_scale(measured, "full-input-0", "train") == 2
    found = run_text(measured.engine, "SELECT run, scale, scales_tried FROM chosen_scale", role="analyst")
    assert {(row["scale"], row["scales_tried"]) for row in found} == {(2.0, 3)}
    sweep = run_text(measured.engine, "SELECT scale FROM scale_sweep WHERE chosen", role="analyst")
    assert {row["scale"] for row in sweep} == {2.0}

    guide, audio = significance(measured)
    s = [by_hand(seed, "no-audio", (1, 1 / 3, 1 / 5, 1 / 10)) for seed in (0, 1)]
    assert (audio["input"], audio["seeds"], audio["band"]) == ("audio", 2, "considerable")
    assert audio["s"] == pytest.approx(np.mean(s))
    half = t.ppf(0.975, 1) * np.std(s, ddof=1) / np.sqrt(2)
    assert (audio["ci_low"], audio["ci_high"]) == (
        pytest.approx(np.mean(s) - half, 1e-4),
        pytest.approx(np.mean(s) + half, 1e-4),
    )
    assert audio["weightings"]["k = 10 alone"] == (pytest.approx(25), "moderate")
    assert (guide["s"], guide["band"]) == (None, None)  # nobody is found at rank 1 without the guide
    assert guide["weightings"]["k = 10 alone"] == (pytest.approx(100), "profound")
    own = significance(measured, (0, 1, 0, 0), "test")[1]
    assert own["s"] == pytest.approx(np.mean([by_hand(seed, "no-audio", (0, 1, 0, 0)) for seed in (0, 1)]))
    bands = run_text(
        measured.engine,
        "SELECT array_agg(significance_band(s)) AS b FROM unnest(ARRAY[-1, 0, 20, 40, 60, 80, 81]::float8[]) AS s",
    )[0]["b"]
    assert bands == ["harmful", "negligible", "minor", "moderate", "considerable", "significant", "profound"]
    quantiles = measured.query("SELECT student_t_975(d) AS q, d FROM generate_series(1, 40) AS d")
    assert [row["q"] for row in quantiles] == pytest.approx([t.ppf(0.975, row["d"]) for row in quantiles], abs=2e-4)
    with pytest.raises(NotFoundInStore, match="no input has a significance"):
        significance(measured, gallery="train")
    for wrong in ((1, 1, 1), (0, 0, 0, 0), (-1, 1, 1, 1)):
        with pytest.raises(ConfigError, match="weights"):
            significance(measured, wrong)
