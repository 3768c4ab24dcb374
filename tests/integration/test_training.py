"""Training as the store keeps it: lines, checkpoints, grids, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.db.readonly import run_text
from slf_store.errors import CheckpointError, ConfigError
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.generation import load_run
from slf_store.jobs.run_log import RunLog
from slf_store.jobs.training import checkpoints, create_run, run_row, train
from slf_store.jobs.training_record import TrainingRecord
from slf_store.jobs.verify import verify
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.store import Store

pytestmark = pytest.mark.integration

LINES = """
    SELECT samples_seen, loss, validation_loss, validation_levels FROM run_log JOIN run ON run.id = run_id
    WHERE name = 'a' ORDER BY samples_seen, run_log.id
"""
ROLES = "SELECT role, samples_seen, validation_loss, path FROM checkpoint JOIN run ON run.id = run_id WHERE name = 'a'"

PEOPLE = """
    SELECT part, count(*) AS clips, count(DISTINCT identity) AS people
    FROM snapshot_clip JOIN clips USING (clip_id) WHERE snapshot_id = :id GROUP BY part
"""


@pytest.fixture(scope="module")
def trained(extracted: Store) -> Iterator[Store]:
    """A run of 64 samples, with two lines the database was away for, and a checkpoint every step."""
    freeze(extracted, select(extracted, "split = 'dev'", missing="zero"), "training", validation=0.34)
    create_run(extracted, "a", snapshot="training", system_name="full-input", preset="tiny", seed=0, guide_dropout=0.1)
    with pytest.MonkeyPatch.context() as patch:
        flush, away = RunLog._flush, iter([True, True])

        def sometimes(self: RunLog) -> None:
            if next(away, False):
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            flush(self)

        patch.setattr(RunLog, "_flush", sometimes)
        train(extracted, "a", 1, samples=64, validate_every=16, keep=2, checkpoint_every_s=0.0, micro_batch=6)
    yield extracted
    with extracted.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM run WHERE name = 'a'")


def test_every_line_and_checkpoint_has_its_row(trained: Store) -> None:
    lines = trained.query(LINES)
    assert [line["samples_seen"] for line in lines] == [16, 32, 48, 64]
    assert all(len(line["validation_levels"]) == 8 for line in lines)
    rows = {(row["role"], row["samples_seen"]): row for row in trained.query(ROLES)}
    best = min(lines, key=lambda line: line["validation_loss"])
    assert rows.keys() == {("last", 64), ("earlier", 48), ("best", best["samples_seen"])}
    assert rows["best", best["samples_seen"]]["validation_loss"] == best["validation_loss"]
    run = run_row(trained, "a")
    assert checkpoints(trained, run)[1]["samples_seen"] == 64
    assert checkpoints(trained, run, "best")[1]["path"] == "runs/a/unet1-best.safetensors"
    assert [f for f in verify(trained).findings if f.file and "runs/a" in f.file] == []
    count = f"SELECT count(*) AS n FROM run_log WHERE run_id = {run['id']}"
    assert run_text(trained.engine, count, role="researcher") == [{"n": 4}]
    undocumented = """
        SELECT attname FROM pg_attribute WHERE attrelid = 'run_log'::regclass AND attnum > 0
                                           AND col_description(attrelid, attnum) IS NULL
    """
    assert trained.query(undocumented) == []


def test_a_run_is_shown_with_all_there_is_to_know(trained: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLF_DATABASE_URL", trained.engine.url.render_as_string(hide_password=False))

    def slf(*words: str) -> str:
        done = CliRunner().invoke(app, ["--home", str(trained.settings.home), *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    shown: dict[str, Any] = json.loads(slf("--json", "run", "show", "a"))
    first, second = shown["unets"]
    assert (first["parameters"] > 1_000_000, len(first["loss_curve"]), len(first["validation_levels"])) == (True, 4, 8)
    assert {row["role"] for row in first["checkpoints"]} == {"last", "earlier", "best"}
    assert (second["loss"], second["checkpoints"]) == (None, [])
    assert shown["grids"] == [f"runs/a/grids/unet1-{seen:09}.png" for seen in (16, 32, 48, 64)]
    assert "U-Net 1" in slf("run", "show", "a")
    assert [row["samples_seen"] for row in json.loads(slf("--json", "runs")) if row["name"] == "a"] == [64]


def test_the_card_and_the_header_say_what_it_is_and_whose_faces(trained: Store) -> None:
    from slf_store.diffusion.checkpoint import load_checkpoint

    card = (trained.runs / "a" / "README.md").read_text("utf-8")
    run = run_row(trained, "a")
    facts = load_checkpoint(trained.runs / "a", 1, parts=()).extra
    people = {part["part"]: part for part in trained.query(PEOPLE, id=run["snapshot_id"])}
    assert (facts["clips"], facts["identities"]) == (people["train"]["clips"], people["train"]["people"])
    assert facts["validation_identities"] == people["validation"]["people"] > 0
    for told in (run["snapshot_hash"], "full-input", "Apache-2.0", "synthetic", "torch: ", "diffusers: ", '"tiny"'):
        assert told in card
    names = [row["identity"] for row in trained.query("SELECT DISTINCT identity FROM clips")]
    assert not [name for name in names if name in card + json.dumps(facts)]


def test_what_is_not_as_the_run_was_made_is_refused(trained: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"guide dropout 0\.1, not 0\.5"):
        create_run(
            trained, "a", snapshot="training", system_name="full-input", preset="tiny", seed=0, guide_dropout=0.5
        )
    monkeypatch.setattr("slf_store.diffusion.ranks.world_size", lambda: 3)
    monkeypatch.setattr("slf_store.diffusion.ranks.Ranks.__init__", lambda self, device: vars(self).update(world=3))
    with pytest.raises(ConfigError, match="3 processes cannot share batches of 16 samples evenly"):
        train(trained, "a", 1, samples=80)


def test_gc_keeps_grids_and_an_incomplete_snapshot_gets_no_more(trained: Store) -> None:
    import numpy as np

    assert not [name for name in collect_garbage(trained).files if name.startswith("runs/a/")]
    record = TrainingRecord(trained, run_row(trained, "a"), 1)
    path = trained.runs / "a" / "grids" / "unet1-000000099.png"
    change = "UPDATE snapshot SET erased_clips = {} WHERE name = 'training'"
    with trained.engine.begin() as connection:
        connection.exec_driver_sql(change.format(1))
    record.grid(path, np.zeros((8, 8, 3), np.uint8), "a test")
    assert not path.exists()
    with trained.engine.begin() as connection:
        connection.exec_driver_sql(change.format(0))
    record.grid(path, np.zeros((8, 8, 3), np.uint8), "a test")
    assert path.exists()


def test_going_on_from_a_checkpoint_removes_later_lines(trained: Store) -> None:
    with trained.engine.begin() as connection:
        connection.exec_driver_sql("""
            INSERT INTO run_log (run_id, unet, samples_seen, loss, lr, samples_per_s, wait_share, memory_bytes)
            SELECT id, 1, 9999, 1, 1, 1, 1, 1 FROM run WHERE name = 'a'
        """)
    assert train(trained, "a", 1, samples=80).samples_seen == 80
    assert [line["samples_seen"] for line in trained.query(LINES)] == [16, 32, 48, 64, 80]
    assert {row["role"] for row in trained.query(ROLES)} == {"last", "best"}


def test_faces_come_from_the_last_checkpoint_or_from_the_best(trained: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from slf_store.diffusion.validation import Validation

    row = run_row(trained, "a")
    train(trained, "a", 2, samples=12)
    best = checkpoints(trained, row, "best")[1]["samples_seen"]
    monkeypatch.setattr("slf_store.diffusion.train.validate", lambda *_: Validation(9.0, (9.0,)))
    train(trained, "a", 1, samples=96)
    last, chosen = load_run(trained, row, "cpu"), load_run(trained, row, "cpu", "best")
    assert (last.samples_seen, chosen.samples_seen) == (96, best)
    assert best < 96
    weights = zip(last.unet1.parameters(), chosen.unet1.parameters(), strict=True)
    assert any(not a.equal(b) for a, b in weights)
    with trained.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM checkpoint WHERE role = 'best' AND run_id = {row['id']}")
    with pytest.raises(CheckpointError, match="never validated"):
        load_run(trained, row, "cpu", "best")
