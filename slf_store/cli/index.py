"""Verbs of indexes over real faces: build, measure, list, drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

app = typer.Typer(
    name="index", help="Indexes for `slf nearest --approximate`: build, measure, list, drop.", no_args_is_help=True
)

Model = Annotated[str | None, typer.Argument(help="Face embedding [default: SLF_FACE_MODEL].")]
Ef = Annotated[int, typer.Option("--ef", min=1, help="Candidates a search looks at.")]
Probes = Annotated[int, typer.Option("--probes", min=1, help="Faces to measure with; each is searched exactly too.")]


@app.command()
def build(
    ctx: typer.Context,
    model: Model = None,
    m: Annotated[int, typer.Option("--m", help="Links of a face in the graph.")] = 16,
    ef_construction: Annotated[
        int, typer.Option("--ef-construction", help="Candidates looked at for each face that is added.")
    ] = 64,
    ef: Ef = 256,
    probes: Probes = 200,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="PostgreSQL's processes; 0 = as SLF_WORKERS says.")
    ] = 0,
) -> None:
    """Build an HNSW index over a model's real faces, and measure at once how many of the nearest it finds.

    Only `slf nearest --approximate` uses it: recall and nearest_faces stay exact. Extraction of the model waits.
    """
    from slf_store.evaluation.approximate import build_index

    context: Context = ctx.obj
    with context.open_store() as store:
        with context.progress("faces placed, then probes searched") as progress:
            build_index(
                store,
                model,
                m=m,
                ef_construction=ef_construction,
                ef=ef,
                probes=probes,
                workers=workers or store.settings.worker_count,
                progress=progress,
            )
        _show(context, store, model, ef)


@app.command()
def measure(ctx: typer.Context, model: Model = None, ef: Ef = 256, probes: Probes = 200) -> None:
    """Measure an index against the exact search: at another ef, or after many faces were added."""
    from slf_store.evaluation.approximate import measure_index

    context: Context = ctx.obj
    with context.open_store() as store:
        with context.progress("probes searched") as progress:
            measure_index(store, model, ef=ef, probes=probes, progress=progress)
        _show(context, store, model, ef)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List indexes, with what was measured at each ef."""
    from slf_store.evaluation.face_index import list_indexes

    context: Context = ctx.obj
    with context.open_store() as store:
        context.show([row for index in list_indexes(store) for row in index.rows()], "indexes")


@app.command()
def drop(ctx: typer.Context, model: Model = None) -> None:
    """Drop an index; nothing else changes."""
    from slf_store.evaluation.face_index import drop_index

    context: Context = ctx.obj
    with context.open_store() as store:
        dropped = drop_index(store, model)
    context.show_one({"model": dropped.model, "version": dropped.version, "bytes": dropped.bytes}, "dropped")


def _show(context: Context, store: Any, model: str | None, ef: int) -> None:
    from slf_store.evaluation.face_index import find_index

    (row,) = (row for row in find_index(store, model).rows() if row["ef"] == ef)
    context.show_one(row, f"index of {row['model']}, against the exact search")
