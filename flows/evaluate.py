"""Flow `evaluate`: how well a run's generated faces are recognised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows import words
from flows.progress import ProgressPage
from slf_store.settings import load_settings
from slf_store.store import Store


@flow(
    name="evaluate",
    flow_run_name=words.evaluate_name,
    description="Search the real faces with a run's generated ones: recall@k, PSNR, SSIM, baselines beside.",
    persist_result=False,
    timeout_seconds=24 * 3600,
)
def evaluate_flow(
    home: Path,
    run: str,
    on: str,
    scales: Sequence[float] = (),
    seed: int | None = None,
    part: Literal["all", "train", "validation"] = "all",
) -> list[dict[str, Any]]:
    """Measure and keep: one dictionary for each evaluation, baselines beside.

    Args:
        home: the store.
        run: run whose generated faces are searched with.
        on: snapshot whose real faces are searched in.
        scales: conditional scales; all that were generated when empty.
        seed: seed of the generations; all when left out.
        part: part of the snapshot.
    """
    from slf_store.evaluation import evaluate

    with Store.open(settings=load_settings(home)) as store:
        page = ProgressPage("evaluating", "faces embedded")
        rows = evaluate(
            store, run, on, scales=list(scales) or None, seed=seed, part=part,
            workers=store.settings.worker_count, progress=page,
        )  # fmt: skip
    create_table_artifact(
        key="recall", table=[{k: str(v) for k, v in row.items()} for row in rows], description=f"{run} on {on}"
    )
    get_run_logger().info(f"{len(rows)} evaluations kept; read them with `slf recall {run}`")
    return rows
