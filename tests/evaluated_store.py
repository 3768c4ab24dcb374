"""Runs, faces and evaluations in the sample's store: real pictures and rows, made without training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sqlalchemy import text

from slf_store.evaluation import evaluate
from slf_store.evaluation.embedding import embedding_model
from slf_store.evaluation.picture import encode_png, write_whole
from slf_store.jobs.generation import save_face
from slf_store.jobs.training import create_run
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.query.values import read_constituent
from slf_store.store import Store

RUNS = {"explored-full": ("full-input", 0.15), "explored-no-audio": ("no-audio", 0.6)}
"""Runs: the system of each, and how far its faces are from the real ones."""
SCALES = (1.0, 2.0)
TRAIN, TEST = "explored-train", "explored-test"

NEW = text("""
    INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path)
    SELECT id, :clip, 'diffusion', :scale, 0, 0, 480, :path FROM run WHERE name = :run RETURNING id
""")
EMBED = text("INSERT INTO generation_embedding VALUES (:generation, :model, :vector)")
VECTOR = text("SELECT vector FROM face_embedding WHERE clip_id = :clip AND constituent_id = :model")
LOG = text("""
    INSERT INTO run_log (run_id, unet, samples_seen, loss, lr, samples_per_s, wait_share, memory_bytes, validation_loss)
    SELECT run.id, unet, 16 * step, 0.5 / step, 1e-4, 50, 0.1, 1e8, CASE WHEN step % 5 = 0 THEN 0.6 / step END
    FROM run, generate_series(1, 20) step, generate_series(1, 2) unet WHERE name = :run
""")


@contextmanager
def evaluations(store: Store) -> Iterator[Store]:
    """The store with two evaluated runs, :data:`RUNS`; everything is removed again at the end."""
    model = embedding_model(store).constituent_id
    generator = np.random.default_rng(0)
    try:
        train = freeze(store, select(store, "split = 'dev'", missing="skip"), TRAIN, validation=0.34)
        freeze(store, select(store, "split = 'test'", missing="skip", per_identity=1), TEST)
        assert train.validation == 4
        clips = store.query(
            "SELECT clip_id FROM snapshot_clip JOIN snapshot ON snapshot.id = snapshot_id"
            " WHERE name = :test OR (name = :train AND part = 'validation') ORDER BY clip_id",
            train=TRAIN,
            test=TEST,
        )
        ids = np.array([row["clip_id"] for row in clips], np.int64)
        targets, _ = read_constituent(store, "target", ids)
        for run, (system, noise) in RUNS.items():
            create_run(store, run, snapshot=TRAIN, system_name=system, preset="tiny", seed=0)
            write_whole(store.runs / run / "grids" / "unet1-480.png", encode_png(targets[0]))
            with store.engine.begin() as connection:
                connection.execute(LOG, {"run": run})
                for i, clip in enumerate(ids.tolist()):
                    stored = connection.execute(VECTOR, {"clip": clip, "model": model}).scalar_one()
                    real = stored.to_numpy()
                    for scale in SCALES:
                        path = store.runs / run / "generated" / f"{scale:g}" / f"{clip}.png"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        face = targets[i] * (1 - noise) + noise * generator.integers(0, 256, targets[i].shape)
                        save_face(path, face.astype(np.uint8), "a test")
                        row = {"run": run, "clip": clip, "scale": scale}
                        row["path"] = path.relative_to(store.settings.home).as_posix()
                        generation = connection.execute(NEW, row).scalar_one()
                        found = (run, i, scale) != ("explored-no-audio", 0, 1.0)  # in one picture no face is found
                        vector = real + noise * generator.normal(0, 0.05, real.shape) if found else None
                        connection.execute(EMBED, {"generation": generation, "model": model, "vector": vector})
            evaluate(store, run, TRAIN, part="validation", baselines=False)
            evaluate(store, run, TEST, baselines=system == "full-input")
        evaluate(store, "explored-full", TEST, scales=SCALES[:1], baselines=False, distance="cosine")
        yield store
    finally:
        with store.engine.begin() as connection:
            connection.execute(text("DELETE FROM run WHERE name = ANY(:runs)"), {"runs": list(RUNS)})
            connection.execute(
                text("DELETE FROM snapshot WHERE name IN (:train, :test)"), {"train": TRAIN, "test": TEST}
            )
        for run in RUNS:
            shutil.rmtree(store.runs / run, ignore_errors=True)
