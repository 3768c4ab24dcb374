"""Verbs of layouts: list them, show one as a table or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context
    from slf_store.query.layout import Layout

app = typer.Typer(
    name="layout",
    help="List layouts of the conditioning matrix; show one as a table or a picture.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_layouts(ctx: typer.Context) -> None:
    """The built-in layouts; a FILE.toml can stand wherever a layout's name can."""
    from slf_store.query.layout import LAYOUTS

    context: Context = ctx.obj
    rows = [
        {
            "name": layout.name,
            "blocks": len(layout.blocks),
            "rows used": sum(block.rows for block in layout.blocks),
            "inputs": ", ".join(block.name for block in layout.blocks),
        }
        for layout in LAYOUTS.values()
    ]
    context.show(rows, "layouts")


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A built-in layout, or a FILE.toml.")],
    picture: Annotated[Path | None, typer.Option(help="Draw it into this file, .png or .svg.")] = None,
    clip: Annotated[
        str | None, typer.Option(help="Draw this clip's values and mask, too: id or source/identity/video/clip.")
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Take the clip's values and statistics from it.")] = None,
) -> None:
    """Where each input's rows go. A FILE is held against the store's constituents where there is a store."""
    from slf_store.query.clip_matrix import clip_matrix
    from slf_store.query.layout import LAYOUTS, layout
    from slf_store.query.layout_picture import FORMATS, draw_layout

    context: Context = ctx.obj
    if picture is not None and picture.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{picture}: end its name in {' or '.join(FORMATS)}", param_hint="--picture")
    if clip is not None and picture is None:
        raise typer.BadParameter("a clip's values are drawn: give --picture FILE, too", param_hint="--clip")
    if snapshot is not None and clip is None:
        raise typer.BadParameter("give --clip, too", param_hint="--snapshot")
    settings = context.settings
    there = settings.database_url is not None or settings.home.is_dir()
    matrix = None
    if clip is not None or (there and name not in LAYOUTS):
        with context.open_store() as store:
            chosen = layout(name, store)
            matrix = clip_matrix(store, chosen, clip, snapshot) if clip is not None else None
    else:
        chosen = layout(name)
    if picture is not None:
        draw_layout(chosen, picture, matrix)
        context.say(f"drawn: {picture}")
    context.show(describe(chosen), f"layout {chosen.name}", columns=None if context.json else COLUMNS_SHOWN)


COLUMNS_SHOWN = ("first", "last", "rows", "input", "columns", "column", "skip", "scaling", "factor")


def describe(layout: Layout) -> list[dict[str, Any]]:
    """A layout as rows of a table, in the order of the matrix; free rows have no input.

    >>> from slf_store.query.layout import LAYOUTS
    >>> [(row["input"], row["first"], row["last"]) for row in describe(LAYOUTS["slf-256x768"])][-2:]
    [('mel', 141, 251), (None, 252, 255)]
    """
    from slf_store.query.layout import ROWS

    rows: list[dict[str, Any]] = []
    end = 0
    for block in sorted(layout.blocks, key=lambda block: block.first):
        if block.first > end:
            rows.append(_free(end, block.first))
        end = block.first + block.rows
        rows.append(
            {
                "first": block.first,
                "last": end - 1,
                "rows": block.rows,
                "input": block.name,
                "columns": block.columns,
                "column": block.column,
                "skip": block.skip,
                "scaling": block.scaling,
                "factor": block.factor if block.scaling == "factor" else None,
            }
        )
    return [*rows, _free(end, ROWS)] if end < ROWS else rows


def _free(first: int, end: int) -> dict[str, Any]:
    return {"first": first, "last": end - 1, "rows": end - first} | dict.fromkeys(COLUMNS_SHOWN[3:])
