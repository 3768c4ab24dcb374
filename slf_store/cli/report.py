"""`slf report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def report(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(help="HTML file to write, or an existing folder.")],
    run: Annotated[list[str] | None, typer.Option("--run", help="Run; repeat for more. All when left out.")] = None,
    tables: Annotated[
        Path | None, typer.Option("--tables", help="Folder to write each table to as CSV and LaTeX, each plot as SVG.")
    ] = None,
) -> None:
    """Write the paper's tables and figures for some runs, or all, as one HTML page that needs nothing else."""
    from slf_store.evaluation import report as write

    context: Context = ctx.obj
    with context.open_store() as store, context.progress("writing the report") as progress:
        written = write(store, out, run or (), tables=tables, progress=progress)
    if context.json:
        context.show_one({"report": str(written.page), "tables": [str(path) for path in written.tables]})
        return
    context.say(f"report: {written.page}")
    if tables is not None:
        context.say(f"tables: {len(written.tables)} files in {tables}")
