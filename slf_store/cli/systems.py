"""Verbs of systems: list, show, add, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

app = typer.Typer(name="system", help="Which inputs a system sees: list, show, add, remove.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="System, as `slf system list` says.")]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """Every system, built in or this store's own."""
    from slf_store.query.systems import list_systems

    context: Context = ctx.obj
    with context.open_store() as store:
        rows: list[dict[str, Any]] = list_systems(store)
    if not context.json:
        rows = [{key: ", ".join(v) if isinstance(v, list) else v for key, v in row.items()} for row in rows]
    context.show(rows, "systems")


@app.command()
def show(
    ctx: typer.Context,
    name: Name,
    layout: Annotated[str, typer.Option(help="Layout whose blocks to look at.")] = "slf-256x768",
) -> None:
    """Which blocks of a layout a system sees."""
    from slf_store.query.layout import layout as find_layout

    context: Context = ctx.obj
    with context.open_store() as store:
        found = store.system(name)
    sees = found.sees(find_layout(layout))
    values = {"name": name, "guide": found.guide, "trained": found.trained, "layout": layout}
    context.show_one({**values, "inputs": sees if context.json else ", ".join(sees)}, f"system {name}")


@app.command()
def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="TOML file: name, include, guide; exclude if need be.")],
) -> None:
    """Add a system of one's own."""
    from slf_store.query.systems import add_system

    context: Context = ctx.obj
    with context.open_store() as store:
        added = add_system(store, file)
    context.show_one({"name": added.name, "guide": added.guide}, f"system {added.name} added")


@app.command()
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a system of one's own; runs made with it keep it as it was."""
    from slf_store.query.systems import remove_system

    context: Context = ctx.obj
    with context.open_store() as store:
        runs = remove_system(store, name)
    context.show_one({"name": name, "runs": runs if context.json else ", ".join(runs)}, f"system {name} removed")
