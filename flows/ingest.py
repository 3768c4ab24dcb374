"""Flow `ingest`: register the clips of a source, or look at every registered source again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from flows import words
from flows.progress import ProgressPage
from flows.runtime import Progress, watched_by, worth_retrying
from slf_store.errors import DatasetError
from slf_store.jobs.ingest import ingest
from slf_store.jobs.rescan import registered_sources
from slf_store.settings import load_settings
from slf_store.store import Store

TIMEOUT_S = 24 * 3600


@task(
    name="register clips",
    task_run_name="register the clips of source {number}",
    description="Walk the tree, probe what is new or changed, write it in batches.",
    retries=3,
    retry_delay_seconds=exponential_backoff(10),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
    timeout_seconds=TIMEOUT_S,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def register_clips(
    home: Path,
    root: Path,
    meta: Path | None,
    name: str | None,
    split: str,
    number: int,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Walk, probe and write; resumable, so a retry goes on where it stopped."""
    with Store.open(settings=load_settings(home)) as store:
        page = ProgressPage("ingesting", "clips looked at")
        report = ingest(store, root, meta=meta, columns=columns, name=name, split=split, progress=page).as_dict()
    get_run_logger().info(
        f"{report['found']:,} clips found: {report['new']:,} new, {report['changed']:,} changed, "
        f"{report['unchanged']:,} known and unchanged; {sum(report['quarantined'].values()):,} cannot be used"
    )
    return report


@flow(
    name="ingest",
    flow_run_name=words.ingest_name,
    description="Register new and changed clips. Files that were seen before and have not changed are not opened.",
    persist_result=False,
)
def ingest_flow(
    home: Path,
    root: Path | None = None,
    meta: Path | None = None,
    name: str | None = None,
    split: str = "dev",
    columns: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Register every clip below a root: counts of new, changed, unchanged and quarantined clips of each source.

    Args:
        home: the store.
        root: tree of clips; every source that is registered already when left out.
        meta: metadata file of the root.
        name: name of the source; the root folder's by default.
        split: split of a plain folder's clips.
        columns: {meaning: column} of the metadata file, where its columns have other names.

    Raises:
        DatasetError: a root cannot be understood; with several sources, after the others were registered.
    """
    reports, broken = [], list[DatasetError]()
    if root is not None:
        reports.append(register_clips(home, root, meta, name, split, 1, columns))
    else:
        reports, broken = _again(home, split)
    create_markdown_artifact(words.ingest_page(reports, len(broken)), key="ingest", description="What was ingested")
    if broken:
        raise broken[0]
    return reports


def run_ingest(
    home: Path, root: Path, meta: Path | None = None, name: str | None = None, split: str = "dev", *,
    progress: Progress | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run the flow here for one source."""
    with watched_by(progress):
        return ingest_flow(home, root, meta, name, split, columns)[0]


def _again(home: Path, split: str) -> tuple[list[dict[str, Any]], list[DatasetError]]:
    """Reports of the registered sources, and the errors of those that cannot be read."""
    with Store.open(settings=load_settings(home)) as store:
        sources = registered_sources(store)
    get_run_logger().info(f"{len(sources)} sources are registered")
    reports: list[dict[str, Any]] = []
    broken: list[DatasetError] = []
    for number, (name, root) in enumerate(sources.items(), 1):
        try:
            reports.append(register_clips(home, root, None, name, split, number))
        except DatasetError as error:
            broken.append(error)
    return reports, broken
