"""Verbs of constituents: list them, retire one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context

app = typer.Typer(
    name="constituents",
    help="List constituents with coverage and size; retire a version.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def constituents(
    ctx: typer.Context,
    retired: Annotated[bool, typer.Option("--retired", help="Retired versions too.")] = False,
    known: Annotated[
        bool, typer.Option("--known", help="What could be extracted here, plug-ins included, instead of what was.")
    ] = False,
) -> None:
    """Every constituent and version: what it is, how many clips have it, how much room it takes."""
    if ctx.invoked_subcommand is not None:
        return
    context: Context = ctx.obj
    if known:
        from slf_store.constituents.registry import known_extractors

        extractors = known_extractors(context.settings).values()
        profile = context.settings.profile
        context.show(
            [
                {
                    "name": extractor.name,
                    "by default": profile in extractor.profiles,
                    "profiles": ", ".join(sorted(extractor.profiles)) or "only by name",
                    "parameters": ", ".join(
                        f"{k}={v}" for k, v in extractor.parameters.items() if not isinstance(v, dict)
                    ),
                    "models": ", ".join(weights.model for weights in extractor.weights) or None,
                }
                for extractor in extractors
            ],
            f"constituents that can be extracted; profile {profile}",
        )
        return
    from slf_store.jobs.constituents import list_constituents

    with context.open_store() as store:
        rows = [dict(row) for row in list_constituents(store) if retired or row["status"] == "active"]
    if not context.json:
        for row in rows:
            row["shape"] = "×".join(map(str, row["shape"])) or None
            row["MB"] = round(row.pop("bytes") / 1e6, 3)
            row["superseded MB"] = round(row.pop("superseded_bytes") / 1e6, 3)
            row["created_at"] = f"{row['created_at']:%Y-%m-%d %H:%M}"
            del row["paper"]
    context.show(rows, "constituents")


@app.command()
def retire(
    ctx: typer.Context,
    which: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="As `slf constituents` lists it.")],
    force: Annotated[bool, typer.Option("--force", help="Also when snapshots or evaluations use it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Free a version: its shards, rows and vectors. Extracting under the same settings makes it anew."""
    from slf_store.jobs.retire import retire as run

    context: Context = ctx.obj
    if not yes:
        typer.confirm(f"remove every value of {which}?", abort=True, err=True)
    with context.open_store() as store:
        retired = run(store, which, force=force)
    context.show_one(asdict(retired), "retired")
