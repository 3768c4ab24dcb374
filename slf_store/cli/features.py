"""Verbs of features: extract, coverage, gc."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def extract(
    ctx: typer.Context,
    only: Annotated[list[str] | None, typer.Option(help="Constituents to extract; repeat for several.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    direct: Annotated[bool, typer.Option("--direct", help="Run without Prefect.")] = False,
) -> None:
    """Extract every missing constituent of every clip, in a pool of processes."""
    from slf_store.jobs.extract import ChunkReport, fetch_models, plan

    context: Context = ctx.obj
    with context.open_store() as store:
        with context.progress("fetching models, MB") as progress:
            fetch_models(store, only or (), progress)
        with context.progress("extracting clips") as progress:
            if not plan(store, only or (), retry_failed=retry_failed):
                report = asdict(ChunkReport())
            elif direct:
                from slf_store.jobs.pool import extract as run

                report = asdict(run(store, only or (), progress=progress))
            else:
                from flows.runtime import prepare

                home = store.settings.home
                prepare(home)
                from flows.extract import run_extract

                report = run_extract(home, only or (), progress=progress)
    report.pop("broken")
    report.pop("places")
    for part in ("seconds", "media_seconds"):
        report[part] = {name: round(seconds, 2) for name, seconds in report[part].items()}
    report["busy_seconds"] = round(report["busy_seconds"], 2)
    context.show_one(report, "extracted" if report["clips"] else "nothing to do")
    if report["reasons"]:
        raise typer.Exit(3)


def coverage(
    ctx: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    reasons: Annotated[bool, typer.Option("--reasons", help="Only the table of reasons (with --json).")] = False,
) -> None:
    """Which clips have which constituents, and why the others do not."""
    from slf_store.jobs.coverage import coverage_reasons, coverage_summary

    context: Context = ctx.obj
    with context.open_store() as store:
        if not (context.json and reasons):
            context.show(coverage_summary(store, source), "clips by constituent")
        if reasons or not context.json:
            context.show(coverage_reasons(store, source), "why clips lack a constituent")
