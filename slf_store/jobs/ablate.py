"""Ablation: every system and seed trained, its scale chosen on validation identities, measured on the gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from slf_store.errors import ConfigError, NotFoundInStore, SelectionError
from slf_store.faults import fault_point
from slf_store.jobs.sweep import Progress, measure_missing, require_validation, usable_scales
from slf_store.jobs.training import checkpoints, create_run, run_row, share_unet2, train
from slf_store.query.systems import SYSTEMS, find_system

if TYPE_CHECKING:
    from slf_store.diffusion.train import TrainLog
    from slf_store.store import Store

ALL = "all"
STAGES = 4
"""Of a run: U-Net 1, U-Net 2, the scale on validation identities, the gallery."""
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Conditional scales tried by default: the paper's systems are best between 1 and 6 (section on scalability)."""

SHARED_PEOPLE = text("""
    -- Identities of the gallery that are trained on.
    SELECT count(DISTINCT video.identity_id)
    FROM snapshot_clip member
    JOIN snapshot ON snapshot.id = member.snapshot_id
    JOIN clip ON clip.id = member.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE snapshot.name = :gallery
      AND video.identity_id IN (SELECT known.identity_id FROM snapshot_clip other
                                JOIN snapshot trained ON trained.id = other.snapshot_id
                                JOIN clip ON clip.id = other.clip_id
                                JOIN video known ON known.id = clip.video_id
                                WHERE trained.name = :on AND other.part = 'train')
""")


@dataclass(frozen=True)
class Ablation:
    """What to train and measure.

    Attributes:
        on: snapshot to train on; its validation part chooses the scales.
        gallery: snapshot of other people, to measure on.
        systems: their names; `("all",)` for those of the paper.
        seeds: of the trainings, the generations take the same.
        preset: tiny, base or paper.
        samples: budget of U-Net 1, samples seen.
        samples2: budget of U-Net 2; as `samples` when None.
        scales: conditional scales to choose from.
        all_scales: measure all of them on the gallery, for the curves, instead of the chosen one.
        steps: solver steps of each U-Net; as configured when None.
        device: torch device.
    """

    on: str
    gallery: str
    systems: Sequence[str] = (ALL,)
    seeds: Sequence[int] = (0,)
    preset: str = "tiny"
    samples: int = 30_000
    samples2: int | None = None
    scales: Sequence[float] = SCALES
    all_scales: bool = False
    steps: int | None = None
    device: str = "cpu"

    def runs(self, store: Store) -> Iterator[tuple[str, str, int]]:
        """(run, system, seed), seed by seed; systems that need no training are left out.

        Raises:
            SelectionError: no such system.
        """
        names = list(SYSTEMS) if ALL in self.systems else list(dict.fromkeys(self.systems))
        trained = [name for name in names if find_system(store, name).trained]
        for seed in dict.fromkeys(self.seeds):
            for system in trained:
                yield run_name(self.on, system, self.preset, seed), system, seed


@dataclass(frozen=True)
class AblatedRun:
    """One run after an ablation.

    Attributes:
        run, system, seed: which.
        scale: chosen on validation identities.
        recall: {k: recall on the gallery at that scale, 0 to 1}.
        done: what was done now; empty where everything was there.
    """

    run: str
    system: str
    seed: int
    scale: float
    recall: dict[int, float]
    done: tuple[str, ...]


def run_name(on: str, system: str, preset: str, seed: int) -> str:
    """Name of a run of an ablation: for seed 0, the one `slf train` gives by default, so that its work is found.

    >>> run_name("train", "no-audio", "tiny", 0), run_name("train", "no-audio", "tiny", 1)
    ('train-no-audio-tiny', 'train-no-audio-tiny-seed1')
    """
    return f"{on}-{system}-{preset}" + (f"-seed{seed}" if seed else "")


def ablate(
    store: Store,
    plan: Ablation,
    *,
    progress: Progress | None = None,
    on_stage: Callable[[str], None] | None = None,
    on_log: Callable[[TrainLog], None] | None = None,
) -> list[AblatedRun]:
    """Do what is missing of an ablation (paper, section on the ablation study). Interrupted, it goes on where it was.

    Two systems that differ only in the image guide share one U-Net 2, as the guide enters U-Net 1 alone.

    Args:
        store: open store.
        plan: what to train and measure.
        progress: told (stages done, stages in all).
        on_stage: told each stage before it begins, in words.
        on_log: told of training's progress.

    Raises:
        ConfigError: people of the gallery are trained on, or a run of that name is another.
        SelectionError: no such system, or no validation identities to choose the scale on.
        NotFoundInStore: no such snapshot.

    Example::

        ablate(store, Ablation("train", "test", systems=("full-input", "no-audio"), seeds=(0, 1), samples=20_000))
    """
    runs = list(plan.runs(store))
    _check(store, plan, runs)
    done, total, found = 0, STAGES * len(runs), list[AblatedRun]()

    def stage(name: str) -> None:
        nonlocal done
        if on_stage:
            on_stage(f"{done + 1} of {total}: {name}")
        done += 1

    def finished() -> None:
        fault_point("ablate.stage")
        if progress:
            progress(done, total)

    for name, system, seed in runs:
        create_run(store, name, snapshot=plan.on, system_name=system, preset=plan.preset, seed=seed)
        did: list[str] = []
        for unet, samples in ((1, plan.samples), (2, plan.samples2 or plan.samples)):
            stage(f"train U-Net {unet} of {name}")
            mates = [mate for mate, _, other in runs if other == seed and mate != name]
            did += _train(store, name, 1 if unet == 1 else 2, samples, mates, plan.device, on_log)
            finished()
        stage(f"choose the scale of {name} on validation identities")
        row = run_row(store, name)
        scales = usable_scales(row, plan.scales)
        how: dict[str, Any] = {"seed": seed, "steps": plan.steps, "device": plan.device}
        did += _counted("validation", measure_missing(store, name, plan.on, "validation", scales, **how))
        scale = _chosen(store, name, plan.on)
        finished()
        stage(f"measure {name} on {plan.gallery} at scale {scale:g}")
        at = scales if plan.all_scales else (scale,)
        did += _counted(plan.gallery, measure_missing(store, name, plan.gallery, "all", at, **how))
        finished()
        found.append(AblatedRun(name, system, seed, scale, _recall(store, name, plan, seed, scale), tuple(did)))
    return found


def _check(store: Store, plan: Ablation, runs: Sequence[tuple[str, str, int]]) -> None:
    """Everything that can be wrong before hours of training."""
    from slf_store.evaluation.embedding import embedding_model
    from slf_store.query.snapshot import snapshot_row

    if not runs:
        raise SelectionError("no system that is trained, or no seed", hint="see `slf system list`")
    for snapshot in (plan.on, plan.gallery):
        snapshot_row(store, snapshot)
    require_validation(store, plan.on)
    with store.engine.connect() as connection:
        shared = connection.execute(SHARED_PEOPLE, {"gallery": plan.gallery, "on": plan.on}).scalar_one()
    if shared:
        raise ConfigError(
            f"{shared} identities of snapshot {plan.gallery!r} are trained on in {plan.on!r}",
            hint="measure on people that no run has seen, e.g. split = 'test'",
        )
    embedding_model(store)


def _train(
    store: Store,
    name: str,
    unet: Literal[1, 2],
    samples: int,
    mates: Sequence[str],
    device: str,
    on_log: Callable[[TrainLog], None] | None,
) -> list[str]:
    """Train one U-Net up to its budget, or share U-Net 2 with a run of the same inputs; what was done."""
    row = run_row(store, name)
    if _seen(store, row, unet) >= samples:
        return []
    if unet == 2:
        for mate in mates:
            try:
                other = run_row(store, mate)
            except NotFoundInStore:
                continue
            if set(other["inputs"]) == set(row["inputs"]) and _seen(store, other, 2) >= samples:
                share_unet2(store, name, mate)
                return [f"took U-Net 2 of {mate}"]
    train(store, name, unet, samples=samples, device=device, on_log=on_log)
    return [f"trained U-Net {unet}"]


def _seen(store: Store, row: dict[str, Any], unet: int) -> int:
    found = checkpoints(store, row).get(unet)
    return int(found["samples_seen"]) if found else 0


def _chosen(store: Store, run: str, snapshot: str) -> float:
    from slf_store.evaluation import best_scale

    return best_scale(store, run, snapshot)


def _counted(where: str, counts: tuple[int, int]) -> list[str]:
    made, evaluated = counts
    generated = [f"generated {made} faces for {where}"] if made else []
    return generated + ([f"evaluated {evaluated} scales on {where}"] if evaluated else [])


RECALL = """
    SELECT k, avg(recall) AS recall FROM recall_at_k
    WHERE run = :run AND system = :system AND gallery = :gallery AND part = 'all' AND scale = :scale AND seed = :seed
      AND steps = :steps AND distance = 'euclidean'
    GROUP BY k ORDER BY k
"""


def _recall(store: Store, run: str, plan: Ablation, seed: int, scale: float) -> dict[int, float]:
    system = run_row(store, run)["system"]
    place = {"gallery": plan.gallery, "scale": scale, "seed": seed, "steps": plan.steps or 0}
    return {row["k"]: float(row["recall"]) for row in store.query(RECALL, run=run, system=system, **place)}
