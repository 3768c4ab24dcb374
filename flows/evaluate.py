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
    steps: int | None = None,
    part: Literal["all", "train", "validation"] = "all",
    models: Sequence[str] = (),
    distance: Literal["euclidean", "cosine"] = "euclidean",
    attributes: bool = True,
    fid: bool = True,
    baselines: bool = True,
) -> list[dict[str, Any]]:
    """Measure and keep: one dictionary for each evaluation, baselines beside.

    Args:
        home: the store.
        run: run whose generated faces are searched with.
        on: snapshot whose real faces are searched in.
        scales: conditional scales; all that were generated when empty.
        seed: seed of the generations; all when left out.
        steps: solver steps of the generations, 0 = as the preset says; all when left out.
        part: part of the snapshot.
        models: face embeddings, measured one after the other; that of the settings when empty.
        distance: between two embeddings.
        attributes: estimate age, gender and ethnicity of the faces too.
        fid: compute FID too, where its weights are.
        baselines: measure random selection, the enlarged image guide and other real faces too.
    """
    from slf_store.evaluation import evaluate

    with Store.open(settings=load_settings(home)) as store:
        page = ProgressPage("evaluating", "faces embedded")
        rows: list[dict[str, Any]] = []
        for model in models or [store.settings.face_model]:
            rows += evaluate(
                store, run, on, scales=list(scales) or None, seed=seed, steps=steps, part=part, model=model,
                distance=distance, attributes=attributes, fid=fid, baselines=baselines,
                workers=store.settings.worker_count, progress=page,
            )  # fmt: skip
    create_table_artifact(
        key="recall", table=[{k: str(v) for k, v in row.items()} for row in rows], description=f"{run} on {on}"
    )
    get_run_logger().info(f"{len(rows)} evaluations kept; read them with `slf recall {run}`")
    return rows
