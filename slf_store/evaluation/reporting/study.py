"""Stored evaluations as the report's tables need them: runs of one snapshot and preset, measured on one gallery."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slf_store.errors import NotFoundInStore
from slf_store.evaluation.interval import Estimate
from slf_store.evaluation.scores import Scores
from slf_store.query.systems import SYSTEMS

if TYPE_CHECKING:
    from slf_store.store import Store

BASELINES = ("random", "bicubic-8x8", "real-vs-real")

EVALUATIONS = """
    -- What was measured, and with what.
    SELECT evaluation.id, run.name AS run, run.system AS trained_system, run.preset, run.seed AS run_seed, run.guide,
           evaluation.system, evaluation.scale, evaluation.seed, evaluation.steps, evaluation.part,
           evaluation.checkpoint_samples AS samples_seen,
           evaluation.probes, evaluation.gallery_faces, evaluation.undetected, evaluation.created_at,
           gallery.name AS gallery, gallery.hash AS gallery_hash, gallery.clips AS gallery_clips,
           trained.name AS snapshot, trained.hash AS snapshot_hash,
           constituent.name || ' ' || constituent.version AS embedding, evaluation.distance,
           constituent.name AS embedding_name,
           (SELECT coalesce(sum(seconds), 0) FROM checkpoint
            WHERE checkpoint.run_id = run.id AND role = 'last') AS training_s
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN snapshot trained ON trained.id = run.snapshot_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    ORDER BY run.created_at, run.name, evaluation.scale, evaluation.seed, evaluation.steps
"""

METRICS = """
    SELECT evaluation_id, name, k, value, ci_low, ci_high, n
    FROM metric WHERE evaluation_id = ANY(CAST(:evaluations AS bigint[]))
"""


@dataclass(frozen=True)
class Result:
    """One evaluation: a row of `evaluation` with the names of what it points to, and its numbers."""

    id: int
    run: str
    trained_system: str
    preset: str
    run_seed: int
    guide: bool
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
    distance: str
    embedding_name: str
    training_s: float
    metrics: dict[tuple[str, int], Estimate] = field(repr=False)

    @property
    def is_baseline(self) -> bool:
        """Whether it stands beside a system instead of being one."""
        return self.system != self.trained_system

    @property
    def is_choice(self) -> bool:
        """Whether it served to choose the scale: validation identities of the snapshot that was trained on."""
        return self.part == "validation" and self.gallery == self.snapshot

    def recall(self, k: int) -> Estimate | None:
        """Recall@k, 0 to 1."""
        return self.metrics.get(("recall", k))


@dataclass(frozen=True)
class Study:
    """What stands in one table: all runs of one snapshot and preset, on one gallery, with one embedding model.

    Attributes:
        store: open store, for what is read later.
        results: of the runs, at every scale.
        baselines: {name: result}; the same for every run.
        chosen: {run: scale chosen on validation identities}.
        several: whether the report has other studies besides.
    """

    store: Store
    results: Sequence[Result]
    baselines: dict[str, Result]
    chosen: dict[str, float]
    several: bool = False
    _scores: dict[int, Scores] = field(default_factory=dict, repr=False)

    @property
    def first(self) -> Result:
        """The first result, for what they all share."""
        return self.results[0]

    @property
    def where(self) -> str:
        """The gallery in words."""
        return self.first.gallery + ("" if self.first.part == "all" else f", {self.first.part} part")

    @property
    def title(self) -> str:
        """What was trained and where it was measured."""
        distance = "" if self.first.distance == "euclidean" else f", {self.first.distance} distance"
        return f"Trained on {self.first.snapshot} ({self.first.preset}), measured on {self.where}{distance}"

    @cached_property
    def shown(self) -> list[Result]:
        """One result for each run, in the paper's order: at its chosen scale, else at the smallest measured."""
        best: dict[str, Result] = {}
        for result in self.results:
            wanted = self.chosen.get(result.run)
            if result.run not in best or (result.scale == wanted and best[result.run].scale != wanted):
                best[result.run] = result
        order = list(SYSTEMS)
        return sorted(
            best.values(),
            key=lambda r: (order.index(r.system) if r.system in order else len(order), r.system, r.run_seed, r.run),
        )

    @cached_property
    def one_seed(self) -> list[Result]:
        """As `shown`, the first run of each system alone."""
        return list({result.system: result for result in reversed(self.shown)}.values())[::-1]

    def at(self, run: str, scale: float) -> Result | None:
        """A run's result at a scale."""
        return next((r for r in self.results if r.run == run and r.scale == scale), None)

    def label(self, result: Result) -> str:
        """Its name in a table: with the seed or the run where the system alone would not do."""
        same = [r for r in self.shown if r.system == result.system]
        if result.is_baseline or len(same) == 1:
            return result.system
        seeds = {r.run_seed for r in same}
        return f"{result.system}, " + (f"seed {result.run_seed}" if len(seeds) == len(same) else result.run)

    def scores(self, result: Result) -> Scores:
        """What each of its faces scored, read once."""
        if result.id not in self._scores:
            self._scores[result.id] = Scores.read(self.store, result.id)
        return self._scores[result.id]


def read_studies(store: Store, runs: Sequence[str] = ()) -> list[Study]:
    """Everything measured for some runs, or for all.

    Evaluations that chose the scale are left out, unless a run has no other.

    Raises:
        NotFoundInStore: nothing has been evaluated, or not one of the runs.
    """
    rows = store.query(EVALUATIONS)
    absent = sorted(set(runs) - {row["run"] for row in rows})
    if absent or not rows:
        what = f"run {', '.join(map(repr, absent))}" if absent else "the store"
        raise NotFoundInStore(f"{what} has no evaluation", hint="run `slf evaluate RUN --on SNAPSHOT` first")
    metrics: dict[int, dict[tuple[str, int], Estimate]] = {row["id"]: {} for row in rows}
    for row in store.query(METRICS, evaluations=list(metrics)):
        estimate = Estimate(row["value"], row["ci_low"], row["ci_high"], row["n"])
        metrics[row["evaluation_id"]][row["name"], row["k"]] = estimate
    results = [Result(**row, metrics=metrics[row["id"]]) for row in rows]
    choices = store.query("SELECT run, embedding, scale FROM chosen_scale ORDER BY embedding DESC")
    wanted = _wanted([r for r in results if not r.is_baseline and (not runs or r.run in runs)])

    def place(result: Result) -> tuple[str, ...]:
        return (result.snapshot, result.preset, *_place(result))

    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in wanted:  # in the order the runs were made
        groups.setdefault(place(result), []).append(result)
    return [
        Study(store, group, _baselines(results, at[2:]), _chosen(choices, group[0].embedding_name), len(groups) > 1)
        for at, group in groups.items()
    ]


def _chosen(choices: Sequence[dict[str, Any]], embedding: str) -> dict[str, float]:
    """{run: scale}: what the same face embedding chose, else another; as the views have it."""
    own_last = sorted(choices, key=lambda row: bool(row["embedding"] == embedding))
    return {row["run"]: row["scale"] for row in own_last}


def _wanted(systems: Iterable[Result]) -> list[Result]:
    systems = list(systems)
    measured = {r.run for r in systems if not r.is_choice}
    return [r for r in systems if not (r.is_choice and r.run in measured)]


def _place(result: Result) -> tuple[str, ...]:
    return result.gallery, result.part, result.embedding, result.distance


def _baselines(results: Sequence[Result], place: tuple[str, ...]) -> dict[str, Result]:
    here = [r for r in results if r.is_baseline and _place(r) == place]
    found = {r.system: r for r in sorted(here, key=lambda r: r.created_at)}  # the newest
    return {name: found[name] for name in (*BASELINES, *sorted(set(found) - set(BASELINES))) if name in found}
