"""`slf evaluate`, `slf recall`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def evaluate(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Run whose generated faces are searched with.")],
    on: Annotated[str, typer.Option("--on", help="Snapshot whose real faces are searched in.")],
    scale: Annotated[
        list[float] | None, typer.Option("--scale", help="Conditional scale; repeat for more. All when left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the generations. All when left out.")] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=0, help="Solver steps of the generations, 0 = preset's. All when left out."),
    ] = None,
    part: Annotated[str, typer.Option("--part", help="Part of the snapshot: all, train or validation.")] = "all",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 = as SLF_WORKERS says.")] = 0,
) -> None:
    """Measure how well a run's faces are recognised: recall@k, PSNR, SSIM, with baselines beside."""
    from slf_store.evaluation import evaluate as measure
    from slf_store.evaluation import recall_rows
    from slf_store.evaluation.recall import one_line_each

    context: Context = ctx.obj
    with context.open_store() as store:
        with context.progress("embedding faces") as progress:
            rows = measure(
                store,
                run,
                on,
                scales=scale or None,
                seed=seed,
                steps=steps,
                part=part,
                workers=workers or store.settings.worker_count,
                progress=progress,
            )
        if context.json:
            context.show(rows)
            return
        measured = {(row["system"], row["scale"], row["seed"], row["steps"]) for row in rows}
        found = [
            row
            for row in recall_rows(store, run)
            if (row["gallery"], row["part"]) == (on, part)
            and (row["system"], row["scale"], row["seed"], row["steps"]) in measured
        ]
        context.show(one_line_each(found), title=f"{run} on {on}")


def recall(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Argument(help="Run; all when left out.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Only this k: 1, 3, 5 or 10.")] = None,
) -> None:
    """Print recall@k of evaluated runs, baselines beside."""
    from slf_store.evaluation import recall_rows
    from slf_store.evaluation.recall import one_line_each

    context: Context = ctx.obj
    with context.open_store() as store:
        rows = recall_rows(store, run, k)
    context.show(rows if context.json else one_line_each(rows), title="Recall")
