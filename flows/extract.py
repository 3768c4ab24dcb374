"""Flow `extract`: back-fill every missing constituent, chunk by chunk, in processes here or on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from flows import runners, words
from flows.progress import ProgressPage
from flows.runtime import Progress, give_back_leases, shared_server, watched_by, worth_retrying
from slf_store.jobs.coverage import coverage_reasons, coverage_summary
from slf_store.jobs.lanes import Lane, lanes
from slf_store.jobs.pool import drain, in_flight
from slf_store.jobs.process import run_chunk, use_large_pages
from slf_store.settings import load_settings
from slf_store.store import Store

CLIP_TIMEOUT_S = 60
"""A chunk may take this long for each of its clips (about 60 times what one takes), ten minutes at least."""
GPU_TAG = "slf-gpu"
"""Tag of chunks that need this machine's GPU: its limit is how many may run at once. Ray counts GPUs itself."""


@task(
    name="extract chunk",
    task_run_name=words.chunk_name,
    description="Claim a chunk of clips, extract what they lack, seal the shards and commit them.",
    retries=3,
    retry_delay_seconds=exponential_backoff(5),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def extract_chunk(home: Path, only: tuple[str, ...], device: str, clips: int, number: int) -> dict[str, Any]:
    """Claim, extract, seal and commit one chunk of clips."""
    report = run_chunk(load_settings(home), only)
    report["places"] = {f"{device.upper()} work on {runners.place()}": report["clips"]}
    made, failed = sum(report["done"].values()), sum(report["failed"].values())
    get_run_logger().info(
        f"{report['clips']} clips on {runners.place()}: {made} values made, {failed} could not be made, "
        f"{report['busy_seconds']:.1f} s"
        if report["clips"]
        else "no clip was left to claim"
    )
    return report


@flow(
    name="extract",
    flow_run_name=words.extract_name,
    description="Compute every constituent that a clip lacks. Stops and starts at will: what is done is in the store.",
    persist_result=False,
    task_runner=runners.runner(),
    on_cancellation=[give_back_leases],
    on_crashed=[give_back_leases],
)
def extract_flow(home: Path, only: Sequence[str] = (), retry_failed: bool = False) -> dict[str, Any]:
    """Extract what is missing: counts by constituent, and failures by reason.

    Args:
        home: the store.
        only: constituents to make; all of the profile when empty.
        retry_failed: try again what failed before.
    """
    use_large_pages()
    with Store.open(settings=load_settings(home)) as store:
        began = time.monotonic()
        report = _extract(store, tuple(only), retry_failed)
        coverage, reasons = coverage_summary(store), coverage_reasons(store)
    create_table_artifact(key="coverage", table=list(coverage), description="Clips by constituent after this run")
    create_table_artifact(key="failures", table=words.failures(reasons), description="Why clips lack a constituent")
    create_table_artifact(key="throughput", table=words.throughput(report), description="What this run made")
    create_markdown_artifact(
        words.extract_page(report, time.monotonic() - began), key="extraction", description="What this run came to"
    )
    return report


def run_extract(
    home: Path, only: Sequence[str] = (), *, retry_failed: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the flow here, with the processes or on the cluster that the store's settings say."""
    placed = extract_flow.with_options(task_runner=runners.runner(load_settings(home)))
    with watched_by(progress):
        return placed(home, list(only), retry_failed)


def _extract(store: Store, only: tuple[str, ...], retry_failed: bool) -> dict[str, Any]:
    """Drain the queue through Prefect's task runner."""
    settings, flying, submitted = store.settings, set[Any](), 0
    split = lanes(settings, only)

    def submit(lane: Lane) -> Any:
        nonlocal submitted
        submitted += 1
        chunk = extract_chunk.with_options(
            tags=[GPU_TAG] if lane.device == "gpu" and settings.ray_address is None else [],
            timeout_seconds=max(600, CLIP_TIMEOUT_S * settings.chunk_size),
        )
        with runners.needs(settings, lane):
            future = chunk.submit(settings.home, lane.only, lane.device, settings.chunk_size, submitted)
        flying.add(future)
        future.add_done_callback(flying.discard)
        return future

    def run_chunks(count: int) -> Iterable[dict[str, Any]]:
        return in_flight([partial(submit, lane) for lane in split], count, runners.at_once(settings))

    # Nodes of a cluster may not reach a temporary server on this machine.
    server = shared_server() if settings.ray_address is None else nullcontext()
    with server, runners.ending_chunks(settings, flying):
        page = ProgressPage("extracting", "clips extracted")
        page.log.info(words.extract_plan(split, runners.described(settings)))
        return asdict(drain(store, only, run_chunks, retry_failed=retry_failed, progress=page))
