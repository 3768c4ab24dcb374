"""Evaluate a run: embed, compare, match, count, keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.errors import ConfigError
from slf_store.evaluation.attribute_recall import Truths, attribute_rows, chance_attribute_rows, keep_attributes, score
from slf_store.evaluation.bicubic import bicubic_probes
from slf_store.evaluation.chance import chance_identity_recall, chance_recall
from slf_store.evaluation.embedding import Progress, embed_generations, embedding_model
from slf_store.evaluation.estimate import Estimator, estimate_generations, find_estimators
from slf_store.evaluation.fid import Fid, open_fid
from slf_store.evaluation.frechet import frechet_estimate
from slf_store.evaluation.gallery import Gallery, generated_vectors, open_gallery, real_vectors
from slf_store.evaluation.groups import attribute_group_rows, chance_rows, find_groups, group_rows, keep_groups
from slf_store.evaluation.interval import Estimate, bootstrap_means, identity_means
from slf_store.evaluation.likeness import measure_likeness
from slf_store.evaluation.matching import MATCH, match
from slf_store.evaluation.outcomes import Outcomes, keep_outcomes
from slf_store.evaluation.probes import Probes, Run, find_run, generated_probes, real_probes

if TYPE_CHECKING:
    from slf_store.store import Store

KS = (1, 3, 5, 10)
"""Matches looked at (paper, section 4, eq. 2: recall@1, 3, 5, 10)."""
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
      AND scale = :scale AND seed = :seed AND steps = :steps AND constituent_id = :embedding AND distance = :distance
""")

KEEP = text("""
    INSERT INTO evaluation (run_id, gallery_id, part, system, scale, seed, steps, constituent_id, distance,
                            checkpoint_samples, probes, gallery_faces, undetected)
    SELECT :run, :snapshot, :part, :system, :scale, :seed, :steps, :embedding, :distance,
           :samples_seen, :probes, :gallery_faces,
           (SELECT count(*) FROM generation_embedding
            WHERE generation_id = ANY(CAST(:generations AS bigint[])) AND constituent_id = :embedding
              AND vector IS NULL)
    RETURNING id, undetected
""")

KEEP_METRIC = text("""
    INSERT INTO metric (evaluation_id, name, k, value, ci_low, ci_high, n)
    VALUES (:evaluation, :name, :k, :value, :low, :high, :n)
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
    model: str | None = None,
    distance: str = "euclidean",
    attributes: bool = True,
    fid: bool = True,
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

    Kept beside recall: what became of every probe (view `probes`), the same recall averaged over people, PSNR and SSIM,
    the Fréchet distance of the embeddings, FID where its weights have been fetched (`slf models fid --download`),
    gender, ethnicity and age against the real ones (view `attribute_recall`), and all but the two distances by group of
    people (views `metric_by_group`, `recall_by_group`).

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
        model: face embedding, as :func:`slf_store.evaluation.embedding.embedding_model`; the settings' when left out.
            Evaluations with several models stand side by side.
        distance: between two embeddings, `euclidean` (as the paper) or `cosine`; they stand side by side.
        attributes: have the store's attribute constituents look at the faces too, where they looked at real ones.
        fid: compute FID too, where its weights are.
        workers: processes that embed or estimate, at most.
        baselines: measure the baselines too.
        progress: told (done, total) of the faces to embed, of those to estimate attributes of, and of each set that FID
            compares.

    Returns:
        One dictionary per evaluation: run, system, scale, seed, steps, gallery, part, embedding, distance, probes,
        gallery_faces, undetected, then `recall@1` … `recall@10` and `identity_recall@1` … (0 to 1), `psnr` (dB),
        `ssim`, `frechet` and `fid` where they apply.

    Raises:
        NotFoundInStore: no such run or snapshot, nothing generated, no real faces embedded, a picture is gone.
        CheckpointError: faces of one (scale, seed, steps) come from different checkpoints.
        ConfigError: no such part, distance or model, or stored values come from other code or weights than are here.
        ModelUnavailable: a model cannot be loaded.

    Example::

        evaluate(store, "full-1", "test", scales=[3.0])[0]["recall@10"]
    """
    if distance not in MATCH:
        raise ConfigError(f"no distance {distance!r}", hint=f"choose {' or '.join(MATCH)}")
    found = find_run(store, run)
    where = open_gallery(store, gallery, part, embedding_model(store, model))
    generated = generated_probes(store, found, where, scales, seed, steps)
    inception = open_fid(store, where, progress) if fid else None
    measured = list(generated)
    if baselines:
        clips, first = np.unique(np.concatenate([probes.clips for probes in generated]), return_index=True)
        identities = np.concatenate([probes.identities for probes in generated])[first]
        measured += [bicubic_probes(store, found, clips, identities), real_probes(store, where)]
        chance = Probes("random", 0.0, 0, 0, 0, clips, identities, np.zeros(0, np.int64))
    generations = np.concatenate([probes.generations for probes in measured]).tolist()
    embed_generations(store, generations, where.embedding, workers=workers, progress=progress)
    measure_likeness(store, generations)
    estimators = find_estimators(store, where.clips) if attributes else []
    for estimator in estimators:
        estimate_generations(store, generations, estimator, workers=workers, progress=progress)
    measurement = _Measurement(store, found, where, distance, estimators, inception)
    rows = [measurement.record(probes) for probes in measured if len(probes)]
    if baselines:
        rows.append(measurement.record_chance(chance))
    return rows


@dataclass(frozen=True)
class _Measurement:
    """What all evaluations of one call share."""

    store: Store
    run: Run
    gallery: Gallery
    distance: str
    estimators: Sequence[Estimator]
    fid: Fid | None

    def record(self, probes: Probes) -> dict[str, Any]:
        """Match, count and keep one evaluation, replacing an older one, in one transaction."""
        seed, gallery = self.store.settings.seed, self.gallery
        fid = {} if self.fid is None else _distance("fid", self.fid.estimate(probes, seed=seed))
        with self.store.engine.begin() as connection:
            evaluation, row = _replace(connection, self.run, gallery, probes, self.distance)
            match(connection, evaluation, gallery, probes, self.distance)
            outcomes = keep_outcomes(connection, evaluation, gallery.embedding.constituent_id, probes)
            metrics = _counted(outcomes, probes.identities, seed)
            metrics |= _frechet(connection, gallery, probes, seed) | fid
            _keep(connection, evaluation, metrics)
            groups = find_groups(connection, probes.clips)
            keep_groups(connection, evaluation, group_rows(groups, outcomes, probes.identities, KS, seed=seed))
            for estimator in self.estimators if len(probes.generations) else ():
                scored = score(connection, probes, Truths.read(connection, probes.clips, estimator), estimator)
                keep_attributes(connection, evaluation, attribute_rows(scored, probes.identities, seed=seed))
                rows = attribute_group_rows(groups, scored, probes.identities, seed=seed)
                keep_groups(connection, evaluation, rows)
        return row | _named(metrics)

    def record_chance(self, probes: Probes) -> dict[str, Any]:
        """Keep the exact expectation of random selection; it has no matches."""
        gallery, identities = self.gallery, probes.identities
        same = gallery.same(identities)
        metrics: Metrics = {("recall", k): chance_recall(same, gallery.faces, k) for k in KS}
        metrics |= {("identity_recall", k): chance_identity_recall(same, identities, gallery.faces, k) for k in KS}
        with self.store.engine.begin() as connection:
            evaluation, row = _replace(connection, self.run, gallery, probes, self.distance)
            _keep(connection, evaluation, metrics)
            groups = find_groups(connection, probes.clips)
            keep_groups(connection, evaluation, chance_rows(groups, same, identities, gallery.faces, KS))
            for estimator in self.estimators:
                truths = Truths.read(connection, np.union1d(probes.clips, gallery.clips), estimator)
                keep_attributes(connection, evaluation, chance_attribute_rows(probes.clips, gallery.clips, truths))
        return row | _named(metrics)


def _replace(
    connection: Connection, run: Run, gallery: Gallery, probes: Probes, distance: str
) -> tuple[int, dict[str, Any]]:
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
        "distance": distance,
    }
    connection.execute(LOCK, {"run": run.id})
    connection.execute(FORGET, key)
    counts = {"probes": len(probes), "gallery_faces": gallery.faces}
    made = {"samples_seen": probes.samples_seen, "generations": probes.generations.tolist()}
    evaluation, undetected = connection.execute(KEEP, key | counts | made).one()
    shown = {"run": run.name} | {name: key[name] for name in ("system", "scale", "seed", "steps")}
    place = {"gallery": gallery.name, "part": gallery.part, "embedding": gallery.embedding.name, "distance": distance}
    return evaluation, shown | place | counts | {"undetected": undetected}


def _counted(outcomes: Outcomes, identities: NDArray[np.int64], seed: int) -> Metrics:
    """Recall by clip and by identity, PSNR and SSIM."""
    hits = np.stack([outcomes.rank <= k for k in KS], axis=1).astype(np.float64)
    metrics: Metrics = {
        ("recall", k): found for k, found in zip(KS, bootstrap_means(hits, identities, seed=seed), strict=True)
    }
    by_identity = identity_means(hits, identities)
    found = bootstrap_means(by_identity, np.arange(len(by_identity)), seed=seed)
    metrics |= {("identity_recall", k): estimate for k, estimate in zip(KS, found, strict=True)}
    paired = ~np.isnan(outcomes.psnr)
    if paired.any():
        likeness = np.stack([outcomes.psnr, outcomes.ssim], axis=1)[paired]
        metrics["psnr", 0], metrics["ssim", 0] = bootstrap_means(likeness, identities[paired], seed=seed)
    return metrics


def _frechet(connection: Connection, gallery: Gallery, probes: Probes, seed: int) -> Metrics:
    """Fréchet distance between the embeddings of the probes and of the gallery."""
    embedding = gallery.embedding.constituent_id
    if len(probes.generations):
        clips, vectors = generated_vectors(connection, embedding, probes.generations)
    else:
        clips, vectors = probes.clips, real_vectors(connection, embedding, probes.clips)
    whose = dict(zip(probes.clips.tolist(), probes.identities.tolist(), strict=True))
    identities = np.array([whose[clip] for clip in np.sort(clips).tolist()], np.int64)
    real = real_vectors(connection, embedding, gallery.clips)
    return _distance("frechet", frechet_estimate(vectors, identities, real, seed=seed))


def _distance(name: str, found: Estimate | None) -> Metrics:
    return {} if found is None else {(name, 0): found}


def _keep(connection: Connection, evaluation: int, metrics: Metrics) -> None:
    rows = [
        {"evaluation": evaluation, "name": name, "k": k, "n": estimate.n}
        | {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        for (name, k), estimate in metrics.items()
    ]
    connection.execute(KEEP_METRIC, rows)


def _named(metrics: Mapping[tuple[str, int], Estimate]) -> dict[str, float]:
    return {f"{name}@{k}" if k else name: estimate.value for (name, k), estimate in metrics.items()}
