"""Evaluate a run: embed, compare, match, count, keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, text

from slf_store.evaluation.bicubic import bicubic_probes
from slf_store.evaluation.chance import chance_recall
from slf_store.evaluation.embedding import Progress, embed_generations, embedding_model
from slf_store.evaluation.gallery import Gallery, open_gallery
from slf_store.evaluation.interval import Estimate, bootstrap_mean
from slf_store.evaluation.likeness import measure_likeness
from slf_store.evaluation.matching import first_hits, match
from slf_store.evaluation.probes import Probes, Run, find_run, generated_probes, real_probes

if TYPE_CHECKING:
    from slf_store.store import Store

KS = (1, 3, 5, 10)
"""Matches looked at (paper, section 4: recall@1, 3, 5, 10)."""
Metrics = dict[tuple[str, int], Estimate]
"""Estimates by metric name and k (0 where the metric has none)."""

LOCK = text("""
    -- One evaluator of a run at a time writes.
    SELECT id FROM run WHERE id = :run FOR NO KEY UPDATE
""")

FORGET = text("""
    -- Matches and metrics go with it. The key is that of the table.
    DELETE FROM evaluation
    WHERE run_id = :run AND gallery_id = :snapshot AND part = :part AND system = :system
      AND scale = :scale AND seed = :seed AND steps = :steps AND constituent_id = :embedding
""")

KEEP = text("""
    INSERT INTO evaluation (run_id, gallery_id, part, system, scale, seed, steps, constituent_id, checkpoint_samples,
                            probes, gallery_faces, undetected)
    SELECT :run, :snapshot, :part, :system, :scale, :seed, :steps, :embedding, :samples_seen, :probes, :gallery_faces,
           (SELECT count(*) FROM generation_embedding
            WHERE generation_id = ANY(CAST(:generations AS bigint[])) AND constituent_id = :embedding
              AND vector IS NULL)
    RETURNING id, undetected
""")

KEEP_METRIC = text("""
    INSERT INTO metric (evaluation_id, name, k, value, ci_low, ci_high, n)
    VALUES (:evaluation, :name, :k, :value, :low, :high, :n)
""")

LIKENESS = text("""
    -- Pixel measures of the probes, by clip.
    SELECT clip_id, psnr, ssim FROM generation
    WHERE id = ANY(CAST(:generations AS bigint[])) AND psnr IS NOT NULL AND ssim IS NOT NULL
    ORDER BY clip_id
""")


def evaluate(
    store: Store,
    run: str,
    gallery: str,
    *,
    scales: Sequence[float] | None = None,
    seed: int | None = None,
    steps: int | None = None,
    part: str = "all",
    workers: int = 1,
    baselines: bool = True,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Measure how well a run's generated faces are recognised (design §9), and keep the numbers.

    Every face the run generated for the clips of a snapshot is a probe; the gallery is the real faces of the same
    clips. A clip without a real face embedding is not in the gallery, but its generated face stays a probe (a miss,
    unless the identity has another clip there); a generated face in which no face is detected is a miss too, and
    counted as `undetected`. Nothing is dropped. Each (scale, seed, steps) is measured for itself; measuring
    again replaces the old numbers in one transaction, and embeds only what was not embedded yet.

    Beside it stand, with scale 0 and seed 0: `random` (exact expectation; the interval holds 95 % of what chance
    reaches), `bicubic-8x8` (the enlarged image guide), both for every clip the run made a face of, and
    `real-vs-real` (the ceiling: one other real face of each person).

    Args:
        store: open store.
        run: name of the run.
        gallery: name of the snapshot searched in.
        scales: conditional scales; None = all that were generated.
        seed: of the generations; None = all.
        steps: solver steps they were made with, 0 = as the preset says; None = all.
        part: `train` or `validation`: probes and gallery are that part of the snapshot; `all` for both.
        workers: embedding processes at most.
        baselines: measure the baselines too.
        progress: told (done, total) of the faces to embed.

    Returns:
        One dictionary per evaluation: run, system, scale, seed, steps, gallery, part, embedding, probes, gallery_faces,
        undetected, then `recall@1` … `recall@10` (0 to 1), `psnr` (dB) and `ssim` where they apply.

    Raises:
        NotFoundInStore: no such run or snapshot, nothing generated, no real faces embedded, a picture is gone.
        CheckpointError: faces of one (scale, seed, steps) come from different checkpoints.
        ConfigError: no such part, or the settings name another embedding model than the stored one.
        ModelUnavailable: the embedding model cannot be loaded.

    Example::

        evaluate(store, "full-1", "test", scales=[3.0])[0]["recall@10"]
    """
    found = find_run(store, run)
    where = open_gallery(store, gallery, part, embedding_model(store))
    generated = generated_probes(store, found, where, scales, seed, steps)
    measured = list(generated)
    if baselines:
        clips, first = np.unique(np.concatenate([probes.clips for probes in generated]), return_index=True)
        identities = np.concatenate([probes.identities for probes in generated])[first]
        measured += [bicubic_probes(store, found, clips, identities), real_probes(store, where)]
        chance = Probes("random", 0.0, 0, 0, 0, clips, identities, np.zeros(0, np.int64))
    generations = np.concatenate([probes.generations for probes in measured]).tolist()
    embed_generations(store, generations, where.embedding, workers=workers, progress=progress)
    measure_likeness(store, generations)
    rows = [_record(store, found, where, probes) for probes in measured if len(probes)]
    if baselines:
        rows.append(_record_chance(store, found, where, chance))
    return rows


def _record(store: Store, run: Run, gallery: Gallery, probes: Probes) -> dict[str, Any]:
    """Match, count and keep one evaluation, replacing an older one, in one transaction."""
    seed = store.settings.seed
    with store.engine.begin() as connection:
        evaluation, row = _replace(connection, run, gallery, probes)
        match(connection, evaluation, gallery, probes)
        first = first_hits(connection, evaluation, probes)
        metrics: Metrics = {("recall", k): bootstrap_mean(first <= k, probes.identities, seed=seed) for k in KS}
        metrics |= _likeness(connection, probes, seed)
        _keep(connection, evaluation, metrics)
    return row | _named(metrics)


def _record_chance(store: Store, run: Run, gallery: Gallery, probes: Probes) -> dict[str, Any]:
    """Keep the exact expectation of random selection; it has no matches."""
    same = gallery.same(probes.identities)
    metrics: Metrics = {("recall", k): chance_recall(same, gallery.faces, k) for k in KS}
    with store.engine.begin() as connection:
        evaluation, row = _replace(connection, run, gallery, probes)
        _keep(connection, evaluation, metrics)
    return row | _named(metrics)


def _replace(connection: Connection, run: Run, gallery: Gallery, probes: Probes) -> tuple[int, dict[str, Any]]:
    """A new `evaluation` row in place of the old one: its key, and what it says."""
    key = {
        "run": run.id,
        "snapshot": gallery.snapshot_id,
        "part": gallery.part,
        "system": probes.system,
        "scale": probes.scale,
        "seed": probes.seed,
        "steps": probes.steps,
        "embedding": gallery.embedding.constituent_id,
    }
    connection.execute(LOCK, {"run": run.id})
    connection.execute(FORGET, key)
    counts = {"probes": len(probes), "gallery_faces": gallery.faces}
    made = {"samples_seen": probes.samples_seen, "generations": probes.generations.tolist()}
    evaluation, undetected = connection.execute(KEEP, key | counts | made).one()
    shown = {"run": run.name} | {name: key[name] for name in ("system", "scale", "seed", "steps")}
    place = {"gallery": gallery.name, "part": gallery.part, "embedding": gallery.embedding.name}
    return evaluation, shown | place | counts | {"undetected": undetected}


def _likeness(connection: Connection, probes: Probes, seed: int) -> Metrics:
    rows = connection.execute(LIKENESS, {"generations": probes.generations.tolist()}).all()
    if not rows:
        return {}
    identity = dict(zip(probes.clips.tolist(), probes.identities.tolist(), strict=True))
    clusters = np.array([identity[row.clip_id] for row in rows])
    return {
        (name, 0): bootstrap_mean(np.array([getattr(row, name) for row in rows]), clusters, seed=seed)
        for name in ("psnr", "ssim")
    }


def _keep(connection: Connection, evaluation: int, metrics: Metrics) -> None:
    rows = [
        {"evaluation": evaluation, "name": name, "k": k, "n": estimate.n}
        | {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        for (name, k), estimate in metrics.items()
    ]
    connection.execute(KEEP_METRIC, rows)


def _named(metrics: Mapping[tuple[str, int], Estimate]) -> dict[str, float]:
    return {f"{name}@{k}" if k else name: estimate.value for (name, k), estimate in metrics.items()}
