"""Flow `ablate`: what each input is worth. Trains, generates and evaluates what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows import words
from flows.progress import ProgressPage
from flows.runtime import Progress, watched_by
from slf_store.jobs.ablate import ALL, SCALES, Ablation
from slf_store.settings import load_settings
from slf_store.store import Store


@flow(
    name="ablate",
    flow_run_name=words.ablate_name,
    description="Train every system, choose its scale on validation identities, measure it: what is missing of it.",
    persist_result=False,
    timeout_seconds=30 * 24 * 3600,
)
def ablate_flow(
    home: Path,
    on: str,
    gallery: str,
    systems: Sequence[str] = (ALL,),
    seeds: Sequence[int] = (0,),
    preset: str = "tiny",
    samples: int = 30_000,
    samples2: int | None = None,
    scales: Sequence[float] = SCALES,
    all_scales: bool = False,
    steps: int | None = None,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Do what is missing: one dictionary for each run. A run that is interrupted goes on where it was.

    Args:
        home: the store.
        on: snapshot to train on; its validation part chooses the scales.
        gallery: snapshot of other people, to measure on.
        systems: their names; all of the paper's by default.
        seeds: of the trainings.
        preset: tiny, base or paper.
        samples: budget of U-Net 1, samples seen.
        samples2: budget of U-Net 2; as `samples` when left out.
        scales: conditional scales to choose from.
        all_scales: measure every scale on the gallery.
        steps: solver steps of each U-Net.
        device: cpu, cuda, ...
    """
    from slf_store.jobs.ablate import ablate

    plan = Ablation(on, gallery, systems, seeds, preset, samples, samples2, scales, all_scales, steps, device)
    log = get_run_logger()
    with Store.open(settings=load_settings(home)) as store:
        page = ProgressPage("ablating", "stages done")
        rows = [asdict(run) for run in ablate(store, plan, progress=page, on_stage=log.info)]
    create_table_artifact(
        key="ablation",
        table=[{k: str(v) for k, v in row.items()} for row in rows],
        description=f"Trained on {on}, measured on {gallery}",
    )
    log.info(f"{len(rows)} runs are complete; read them with `slf significance` and `slf report`")
    return rows


def run_ablate(home: Path, plan: Ablation, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Run the flow here."""
    with watched_by(progress):
        rows: list[dict[str, Any]] = ablate_flow(home, **asdict(plan))
    return rows
