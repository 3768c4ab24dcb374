"""Verbs of evaluation sets: create, sizes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

app = typer.Typer(name="evalset", help="Evaluation sets: draw one, see what larger galleries do.", no_args_is_help=True)


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the snapshot.")],
    where: Annotated[str, typer.Option("--where", help="SQL condition over the view clips.")] = "split = 'test'",
    videos: Annotated[int, typer.Option("--videos", min=0, help="Of each identity; 0 = all.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw.")] = 0,
    system: Annotated[str, typer.Option("--system", help="System whose inputs the clips must have.")] = "full-input",
    missing: Annotated[str, typer.Option("--missing", help="Clips that lack an input: error, skip or zero.")] = "skip",
) -> None:
    """Freeze one clip of one video of each test speaker, drawn by seed, as a snapshot."""
    from slf_store.evaluation.evalset import create_evalset

    context: Context = ctx.obj
    if missing not in ("error", "skip", "zero"):
        raise typer.BadParameter(f"{missing!r} is none of error, skip, zero", param_hint="--missing")
    with context.open_store() as store, context.progress("reading values") as progress:
        frozen = create_evalset(
            store,
            name,
            predicate=where,
            videos=videos,
            seed=seed,
            system=system,
            missing=cast("Any", missing),
            progress=progress,
        )
    context.show_one(asdict(frozen), "evaluation set")


@app.command()
def sizes(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(help="RUN, or RUN@SCALE, evaluated on the snapshot.")],
    on: Annotated[str, typer.Option("--on", help="Snapshot it was evaluated on.")],
    strangers: Annotated[
        list[int] | None, typer.Option("--strangers", min=0, help="Faces to add; repeat for more [default: a range].")
    ] = None,
    part: Annotated[str, typer.Option("--part", help="Part of the snapshot: all, train or validation.")] = "all",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the generations.")] = 0,
    steps: Annotated[int | None, typer.Option("--steps", min=0, help="Solver steps of the generations.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Face embedding [default: SLF_FACE_MODEL].")] = None,
    distance: Annotated[str, typer.Option("--distance", help="euclidean or cosine.")] = "euclidean",
) -> None:
    """Recall when faces of strangers (all other people of the store) are added to the gallery: exact expectation."""
    from slf_store.evaluation.gallery_size import recall_by_gallery_size

    context: Context = ctx.obj
    with context.open_store() as store:
        rows = recall_by_gallery_size(
            store, run, on, strangers or None, part=part, seed=seed, steps=steps, embedding=model, distance=distance
        )
    context.show(rows, title=f"{run} on {on}, strangers added")
