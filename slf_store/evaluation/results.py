"""Stored evaluations, read for the report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.evaluation.interval import Estimate
from slf_store.evaluation.recall import best_scale

if TYPE_CHECKING:
    from slf_store.store import Store

EVALUATIONS = """
    -- What was measured, and with what. Baselines come after the system they stand beside.
    SELECT evaluation.id, run.name AS run, run.system AS trained_system, run.preset, evaluation.system,
           evaluation.scale, evaluation.seed, evaluation.steps, evaluation.part,
           evaluation.checkpoint_samples AS samples_seen,
           evaluation.probes, evaluation.gallery_faces, evaluation.undetected, evaluation.created_at,
           gallery.name AS gallery, gallery.hash AS gallery_hash, gallery.clips AS gallery_clips,
           trained.name AS snapshot, trained.hash AS snapshot_hash,
           constituent.name || ' ' || constituent.version
           || CASE evaluation.distance WHEN 'euclidean' THEN '' ELSE ', ' || evaluation.distance END AS embedding,
           (SELECT coalesce(sum(seconds), 0) FROM checkpoint
            WHERE checkpoint.run_id = run.id AND role = 'last') AS training_s
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN snapshot trained ON trained.id = run.snapshot_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    WHERE cardinality(CAST(:runs AS text[])) = 0 OR run.name = ANY(CAST(:runs AS text[]))
    ORDER BY run.created_at, run.name, gallery.name, evaluation.part, embedding,
             evaluation.system IN ('random', 'bicubic-8x8', 'real-vs-real'), evaluation.system,
             evaluation.scale, evaluation.seed, evaluation.steps
"""

METRICS = """
    SELECT evaluation_id, name, k, value, ci_low, ci_high, n
    FROM metric WHERE evaluation_id = ANY(CAST(:evaluations AS bigint[]))
"""

VALIDATED = """
    -- Snapshots on whose validation part a run was evaluated.
    SELECT DISTINCT gallery.name FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    WHERE run.name = :run AND evaluation.part = 'validation'
    ORDER BY gallery.name
"""


@dataclass(frozen=True)
class Result:
    """One evaluation: a row of `evaluation` with the names of what it points to, and its numbers."""

    id: int
    run: str
    trained_system: str
    preset: str
    system: str
    scale: float
    seed: int
    steps: int
    part: str
    samples_seen: int
    probes: int
    gallery_faces: int
    undetected: int
    created_at: dt.datetime
    gallery: str
    gallery_hash: str
    gallery_clips: int
    snapshot: str
    snapshot_hash: str
    embedding: str
    training_s: float
    metrics: dict[tuple[str, int], Estimate]

    @property
    def is_baseline(self) -> bool:
        """Whether it stands beside a system instead of being one."""
        return self.system != self.trained_system

    @property
    def label(self) -> str:
        """Its name in tables and charts."""
        if self.is_baseline:
            return self.system
        return f"{self.system}, scale {self.scale:g}" + (f", {self.steps} steps" if self.steps else "")


@dataclass(frozen=True)
class Comparison:
    """What stands in one table: a run on one gallery with one embedding model, and its baselines."""

    results: Sequence[Result]

    @property
    def first(self) -> Result:
        """The first result, for what they all share."""
        return self.results[0]

    @property
    def where(self) -> str:
        """The gallery in words."""
        part = "" if self.first.part == "all" else f", {self.first.part} part"
        return f"{self.first.gallery}{part}"

    def shown(self, preferred: float | None) -> Result | None:
        """The result that chart and pictures show: at the preferred scale, else at the smallest; the first seed."""
        systems = [result for result in self.results if not result.is_baseline]
        return next((result for result in systems if result.scale == preferred), systems[0] if systems else None)


def read_comparisons(store: Store, runs: Sequence[str] = ()) -> list[Comparison]:
    """Everything measured for some runs, or for all.

    Raises:
        NotFoundInStore: nothing has been evaluated, or not one of the runs.
    """
    rows = store.query(EVALUATIONS, runs=list(runs))
    absent = sorted(set(runs) - {row["run"] for row in rows})
    if absent or not rows:
        what = f"run {', '.join(map(repr, absent))}" if absent else "the store"
        raise NotFoundInStore(f"{what} has no evaluation", hint="run `slf evaluate RUN --on SNAPSHOT` first")
    metrics: dict[int, dict[tuple[str, int], Estimate]] = {row["id"]: {} for row in rows}
    for row in store.query(METRICS, evaluations=list(metrics)):
        estimate = Estimate(row["value"], row["ci_low"], row["ci_high"], row["n"])
        metrics[row["evaluation_id"]][row["name"], row["k"]] = estimate
    results = [Result(**row, metrics=metrics[row["id"]]) for row in rows]
    groups = groupby(results, key=lambda result: (result.run, result.gallery, result.part, result.embedding))
    return [Comparison(list(group)) for _, group in groups]


def validated_scale(store: Store, run: str) -> float | None:
    """The run's best scale on the validation part it was evaluated on; None where that was not done."""
    for row in store.query(VALIDATED, run=run):
        try:
            return best_scale(store, run, row["name"])
        except (NotFoundInStore, SelectionError):
            continue
    return None
