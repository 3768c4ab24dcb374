"""Verbs of snapshots: list, show, diff, export, import."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

app = typer.Typer(name="snapshot", help="List, show, compare, export and import snapshots.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Snapshot, as `slf snapshot list` says.")]

LIST = """
    SELECT snapshot.name, snapshot.clips, count(*) FILTER (WHERE part = 'validation') AS validation,
           left(snapshot.hash, 16) AS hash, snapshot.layout, snapshot.missing, snapshot.predicate, snapshot.created_at,
           CASE WHEN snapshot.erased_clips > 0 THEN snapshot.erased_clips || ' clips erased: no longer complete' END
               AS erased
    FROM snapshot LEFT JOIN snapshot_clip ON snapshot_clip.snapshot_id = snapshot.id
    GROUP BY snapshot.id ORDER BY snapshot.created_at
"""


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """Every snapshot: clips, hash, layout, predicate, whether people in it were erased since."""
    context: Context = ctx.obj
    with context.open_store() as store:
        context.show(store.query(LIST), "snapshots")


@app.command()
def show(ctx: typer.Context, name: Name) -> None:
    """What a snapshot holds, and what changed under it since. Exit status 1 when something did."""
    from slf_store.query.about import about

    context: Context = ctx.obj
    with context.open_store() as store:
        found = about(store, name)
    changes = found["changes"]
    if context.json:
        context.show_one(found)
    else:
        context.show_one(_for_people(found), f"snapshot {name}")
        context.show(found["constituents"], "constituents")
        if changes:
            context.show(changes, "changed since it was frozen")
    if changes:
        raise typer.Exit(1)


@app.command()
def diff(
    ctx: typer.Context,
    one: Annotated[str, typer.Argument(metavar="A", help="A snapshot.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """How two snapshots differ: clips, parts, attributes, constituents, data, layout, statistics."""
    from slf_store.query.about import diff as compare

    context: Context = ctx.obj
    with context.open_store() as store:
        found = compare(store, one, other)
    if context.json:
        context.show_one(found)
        return
    examples = {f"{kind}, e.g.": ", ".join(keys) for kind, keys in found.pop("examples").items()}
    context.show_one(_for_people(found) | examples, f"{one} → {other}")
    if found["constituents"]:
        context.show(found["constituents"], "constituents that differ")


@app.command()
def export(
    ctx: typer.Context,
    name: Name,
    folder: Annotated[Path, typer.Argument(help="New folder to write it into.")],
) -> None:
    """Copy a snapshot into a folder that trains on a machine with no database. Recorded in the audit log."""
    from slf_store.query.export import export_snapshot

    context: Context = ctx.obj
    with context.open_store() as store, context.progress("copying values") as progress:
        exported = export_snapshot(store, name, folder, progress)
    context.show_one(asdict(exported), f"exported; {folder / 'NOTICE.txt'} says what may be done with it")


@app.command("import")
def import_(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder that `slf snapshot export` wrote.")],
    name: Annotated[str | None, typer.Option(help="Name of the snapshot here [default: its own].")] = None,
) -> None:
    """Bring an exported snapshot into this store, with the same hash. Twice is once."""
    from slf_store.jobs.import_snapshot import import_snapshot

    context: Context = ctx.obj
    with context.open_store() as store, context.progress("importing files") as progress:
        imported = import_snapshot(store, folder, name=name, progress=progress)
    context.show_one(asdict(imported), "imported" if imported.new else "it is here already: nothing was done")


def _for_people(values: dict[str, Any]) -> dict[str, Any]:
    """Without the tables; lists and times as text."""
    told = {key: value for key, value in values.items() if key not in ("constituents", "changes")}
    told |= {key: ", ".join(value) for key, value in told.items() if isinstance(value, list)}
    return told | {key: f"{value:%Y-%m-%d %H:%M}" for key, value in told.items() if isinstance(value, dt.datetime)}
