"""`slf generate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def generate(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="Trained run.")],
    on: Annotated[str, typer.Option("--on", help="Snapshot whose clips to generate for.")],
    part: Annotated[str, typer.Option(help="all, train or validation.")] = "all",
    scale: Annotated[
        list[float] | None, typer.Option(help="Conditional scale; repeat for several [default: 1].")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps of each U-Net.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Generate one face for each clip and conditional scale; what is there is not made again."""
    from slf_store.jobs.generation import generate_run

    context: Context = ctx.obj
    if part not in ("all", "train", "validation"):
        raise typer.BadParameter(f"{part!r} is none of all, train, validation", param_hint="--part")
    with context.open_store() as store, context.progress("generating faces") as progress:
        made = generate_run(
            store,
            run,
            on,
            part=cast("Any", part),
            scales=scale or [1.0],
            seed=seed,
            steps=steps,
            device=device,
            progress=progress,
        )
    context.show_one({"run": run, "made": made}, "generated")
