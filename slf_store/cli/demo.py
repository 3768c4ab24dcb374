"""The main job on the synthetic sample, within a time budget: every stage real, each one timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slf_store.errors import NotFoundInStore
from slf_store.settings import load_settings

if TYPE_CHECKING:
    from slf_store.cli.context import Context
    from slf_store.store import Store

SCALES = (1.0, 1.5, 2.0, 3.0)
"""Conditional scales tried on the validation identities; the best one is used on the test identities."""

CONSTITUENTS = (
    "camplusplus",
    "mel",
    "pyaudioanalysis",
    "face",
    "target",
    "image_guide",
    "age_gender",
    "face_dlib",
)
"""What the demo extracts: one speaker embedding, and nothing about the language of voices that speak none."""


@dataclass(frozen=True)
class DemoPlan:
    """How the time is spent.

    Attributes:
        dev, test: identities drawn, each in two videos.
        validation: of the dev identities, how many are kept from training to choose the conditional scale on.
        voice_alone: whether no-image-guide is trained beside full-input.
        reserve_s: seconds kept for generating, evaluating and the report.
        shares: parts of the training time for U-Net 1 of full-input, U-Net 2, U-Net 1 of no-image-guide.
    """

    dev: int
    test: int
    validation: int
    voice_alone: bool
    reserve_s: float
    shares: tuple[float, float, float]


def plan_demo(minutes: float) -> DemoPlan:
    """A plan for a budget: more time buys more identities, and from 20 minutes on a system that has only the voice.

    >>> plan_demo(7).dev < plan_demo(45).dev
    True
    """
    if minutes < 20:
        return DemoPlan(
            dev=max(20, min(120, int(16 * minutes))),
            test=48,
            validation=12,
            voice_alone=False,
            reserve_s=70,
            shares=(0.7, 0.3, 0),
        )
    return DemoPlan(
        dev=min(600, int(9 * minutes)),
        test=100,
        validation=24,
        voice_alone=True,
        reserve_s=240,
        shares=(0.45, 0.2, 0.35),
    )


class Stages:
    """Runs stages one after the other and keeps their times."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.start = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        self.context.say(f"[{self.elapsed:5.0f} s] {name} …")
        began = time.monotonic()
        with self.context.progress(name) as progress:
            yield progress
        self.seconds[name] = round(time.monotonic() - began, 1)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start


def run_demo(context: Context, folder: Path, minutes: float, *, keep_server: bool) -> None:
    """Run the main job; a second run of the same length goes on where the first one stopped."""
    from slf_store.db.embedded import EmbeddedServer
    from slf_store.store import Store

    settings = load_settings(folder / "store")
    stages, plan = Stages(context), plan_demo(minutes)
    context.say(
        f"synthetic sample: drawn faces, synthesised voices, no real person. {plan.dev} + {plan.test} identities."
    )
    try:
        with stages.stage("start PostgreSQL"):
            store = Store.create(settings=settings, tethered=not keep_server)
        with store:
            names = _features(stages, store, folder / "sample", plan)
            runs = _train(stages, store, plan, names, minutes * 60 - plan.reserve_s)
            best = {run: _evaluate(stages, store, run, *names) for run in runs}
            with stages.stage("report"):
                from slf_store.evaluation import report

                page = report(store, folder / "report.html", runs).page
            _summary(context, stages, store, best, page)
    finally:
        if not keep_server and settings.database_url is None and settings.home.is_dir():
            EmbeddedServer(settings.home, settings.pg_bin).stop()


def _features(stages: Stages, store: Store, sample: Path, plan: DemoPlan) -> tuple[str, str]:
    """Sample, ingest, extract, freeze: names of the training and the test snapshot."""
    from flows.runtime import prepare

    prepare(store.settings.home)
    with stages.stage("write sample") as progress:
        from slf_store.dataset.synthetic.tree import write_sample

        write_sample(
            sample,
            dev_identities=plan.dev,
            test_identities=plan.test,
            workers=store.settings.worker_count,
            progress=progress,
        )
    with stages.stage("ingest (Prefect flow)") as progress:
        from flows.ingest import run_ingest

        run_ingest(store.settings.home, sample, progress=progress)
    with stages.stage("extract (Prefect flow)") as progress:
        from flows.extract import run_extract

        run_extract(store.settings.home, CONSTITUENTS, progress=progress)
    with stages.stage("select and freeze"):
        train, test = f"train-{plan.dev}", f"test-{plan.test}"
        _freeze(store, train, "split = 'dev' AND synthetic", validation=plan.validation / plan.dev)
        _freeze(store, test, "split = 'test' AND synthetic", per_identity=1)
    return train, test


def _freeze(
    store: Store, name: str, predicate: str, *, validation: float = 0.0, per_identity: int | None = None
) -> None:
    from slf_store.query.selection import select
    from slf_store.query.snapshot import freeze, snapshot_row

    try:
        snapshot_row(store, name)
    except NotFoundInStore:
        chosen = select(store, predicate, missing="skip", per_identity=per_identity)
        freeze(store, chosen, name, validation=validation)


def _train(stages: Stages, store: Store, plan: DemoPlan, names: tuple[str, str], until_s: float) -> list[str]:
    """Train within what is left of the budget; names of the runs."""
    from slf_store.cli.training import train_line
    from slf_store.jobs.training import create_run, share_unet2, train

    left = max(30.0, until_s - stages.elapsed) / 60
    first, second, third = (share * left for share in plan.shares)
    snapshot, log = names[0], train_line(stages.context)
    runs = ["full-input"]
    create_run(store, "full-input", snapshot=snapshot, system_name="full-input", preset="tiny", seed=0)
    with stages.stage("train U-Net 1 (→ 32×32)"):
        train(store, "full-input", 1, minutes=first, on_log=log)
    with stages.stage("train U-Net 2 (→ 128×128)"):
        train(store, "full-input", 2, minutes=second, on_log=log)
    if plan.voice_alone:
        runs.append("no-image-guide")
        create_run(store, "no-image-guide", snapshot=snapshot, system_name="no-image-guide", preset="tiny", seed=0)
        with stages.stage("train U-Net 1 of no-image-guide"):
            train(store, "no-image-guide", 1, minutes=third, on_log=log)
        share_unet2(store, "no-image-guide", "full-input")
    return runs


def _evaluate(stages: Stages, store: Store, run: str, snapshot: str, gallery: str) -> float:
    """Choose the conditional scale on validation identities, then evaluate it on the test identities."""
    from slf_store.evaluation import best_scale, evaluate
    from slf_store.jobs.generation import generate_run

    workers = store.settings.worker_count
    with stages.stage(f"choose the scale of {run}") as progress:
        generate_run(store, run, snapshot, part="validation", scales=SCALES, progress=progress)
        evaluate(store, run, snapshot, part="validation", workers=workers, baselines=False, attributes=False)
        scale = best_scale(store, run, snapshot)
    with stages.stage(f"generate {run} at scale {scale:g}") as progress:
        generate_run(store, run, gallery, scales=[scale], progress=progress)
    with stages.stage(f"evaluate {run}") as progress:
        evaluate(store, run, gallery, scales=[scale], workers=workers, progress=progress)
    return scale


def _summary(context: Context, stages: Stages, store: Store, best: dict[str, float], page: Path) -> None:
    from slf_store.evaluation import recall_rows
    from slf_store.evaluation.recall import one_line_each

    rows = [row for run in best for row in recall_rows(store, run) if row["part"] == "all"]
    if context.json:
        scales = {"scale_chosen_on_validation": best}
        context.show_one({"seconds": stages.seconds, "total_s": round(stages.elapsed, 1), **scales, "recall": rows})
        return
    context.show(one_line_each(rows), "recall on unseen identities")
    context.show([{"stage": name, "seconds": seconds} for name, seconds in stages.seconds.items()], "time")
    context.say(f"total {stages.elapsed:.0f} s; report: {page}")
