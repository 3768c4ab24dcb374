"""A run over conditional scales: generate and evaluate what is missing, choose the best on validation identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from slf_store.errors import SelectionError
from slf_store.jobs.generation import check_scales, generate_run
from slf_store.jobs.training import checkpoints, run_row

if TYPE_CHECKING:
    from slf_store.query.manifest import Part
    from slf_store.store import Store

Progress = Callable[[int, int], None]

UNCONDITIONED = (1.0,)
"""Scales of a system without inputs: with nothing to follow, every scale gives the same face."""

EVALUATED = text("""
    -- Scales at which the faces of a run's newest checkpoint are evaluated already, every one of them.
    SELECT evaluation.scale
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id AND run.system = evaluation.system
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    WHERE run.id = :run AND gallery.name = :gallery AND evaluation.part = :part AND evaluation.seed = :seed
      AND evaluation.steps = :steps AND evaluation.checkpoint_samples = :samples_seen
      AND evaluation.constituent_id = :embedding AND evaluation.distance = 'euclidean'
      AND evaluation.probes = (SELECT count(*) FROM generation
                               JOIN snapshot_clip member ON member.clip_id = generation.clip_id
                               WHERE member.snapshot_id = gallery.id AND evaluation.part IN ('all', member.part)
                                 AND generation.run_id = run.id AND generation.method = 'diffusion'
                                 AND generation.scale = evaluation.scale AND generation.seed = evaluation.seed
                                 AND generation.steps = evaluation.steps)
""")
HAS_BASELINES = text("""
    -- Whether random, bicubic and real faces were measured on a gallery, beside any run: they are the same for all.
    SELECT EXISTS (SELECT FROM evaluation
                   JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
                   WHERE gallery.name = :gallery AND evaluation.part = :part AND evaluation.system = 'random'
                     AND evaluation.constituent_id = :embedding AND evaluation.distance = 'euclidean')
""")
VALIDATION_CLIPS = text("""
    SELECT count(*) FROM snapshot_clip member JOIN snapshot ON snapshot.id = member.snapshot_id
    WHERE snapshot.name = :snapshot AND member.part = 'validation'
""")


@dataclass(frozen=True)
class Sweep:
    """What a call of :func:`sweep` came to.

    Attributes:
        run: its name.
        scale: the best scale on the validation identities.
        scales: scales looked at.
        made: faces generated now.
        evaluated: scales evaluated now, over both galleries.
    """

    run: str
    scale: float
    scales: tuple[float, ...]
    made: int
    evaluated: int


def sweep(
    store: Store,
    run: str,
    scales: Sequence[float],
    *,
    gallery: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Sweep:
    """Measure a run at each conditional scale, and choose the best on validation identities, never on test ones.

    What is there is neither generated nor evaluated again. A system without inputs is the same at every scale, and
    is measured at scale 1 alone.

    Args:
        store: open store.
        run: trained run.
        scales: conditional scales w.
        gallery: snapshot to measure on as well, for the curve; the choice never looks at it.
        seed: of the generations.
        steps: solver steps of each U-Net; as configured by default.
        device: torch device.
        progress: told (done, total) of the faces of each stage.

    Raises:
        SelectionError: the run's snapshot has no validation part, or holds clips of the test split there.
        NotFoundInStore, CheckpointError, ConfigError: as `generate_run` and `evaluate`.
    """
    from slf_store.evaluation import best_scale

    row = run_row(store, run)
    require_validation(store, row["snapshot"])
    wanted = usable_scales(row, scales)
    made, evaluated = measure_missing(
        store, run, row["snapshot"], "validation", wanted, seed=seed, steps=steps, device=device, progress=progress
    )
    best = best_scale(store, run, row["snapshot"])
    if gallery is not None:
        more = measure_missing(
            store, run, gallery, "all", wanted, seed=seed, steps=steps, device=device, progress=progress
        )
        made, evaluated = made + more[0], evaluated + more[1]
    return Sweep(run, best, wanted, made, evaluated)


def usable_scales(run: dict[str, Any], scales: Sequence[float]) -> tuple[float, ...]:
    """The scales without repetition; 1 alone for a run without inputs (:func:`slf_store.jobs.training.run_row`)."""
    wanted = check_scales(scales)
    return wanted if run["inputs"] else UNCONDITIONED


def require_validation(store: Store, snapshot: str) -> None:
    """Refuse a training snapshot on which no scale can be chosen.

    Raises:
        SelectionError: it has no validation part.
    """
    with store.engine.connect() as connection:
        clips = connection.execute(VALIDATION_CLIPS, {"snapshot": snapshot}).scalar_one()
    if not clips:
        raise SelectionError(
            f"snapshot {snapshot!r} has no validation part, so no conditional scale can be chosen for its runs",
            hint="freeze it with --validation 0.05, and train on that",
        )


def measure_missing(
    store: Store,
    run: str,
    snapshot: str,
    part: Part,
    scales: Sequence[float],
    *,
    seed: int,
    steps: int | None,
    device: str,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Generate and evaluate a run on a gallery at the scales where that is missing: (faces made, scales evaluated).

    Baselines are measured once for each gallery, and not at all on validation identities.
    """
    from slf_store.evaluation import evaluate
    from slf_store.evaluation.embedding import embedding_model

    row = run_row(store, run)
    place = {"gallery": snapshot, "part": part, "embedding": embedding_model(store).constituent_id}
    made = generate_run(
        store, run, snapshot, part=part, scales=scales, seed=seed, steps=steps, device=device, progress=progress
    ).made
    seen = checkpoints(store, row)[1]["samples_seen"]
    key = {**place, "run": row["id"], "seed": seed, "steps": steps or 0, "samples_seen": seen}
    with store.engine.connect() as connection:
        there = set(connection.execute(EVALUATED, key).scalars())
        baselines = part != "validation" and not connection.execute(HAS_BASELINES, place).scalar_one()
    missing = [scale for scale in scales if scale not in there]
    if missing or baselines:
        evaluate(
            store, run, snapshot, scales=missing or scales, seed=seed, steps=steps or 0, part=part,
            workers=store.settings.worker_count, baselines=baselines, progress=progress,
        )  # fmt: skip
    return made, len(missing)
