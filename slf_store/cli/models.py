"""Verb of models: which weights there are, and fetching those that are not."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def models(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONSTITUENT]...", help="Only models that these need; `fid`: of evaluations."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what the profile, or the constituents named, lack.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 if the profile, or a constituent named, lacks one.")
    ] = False,
) -> None:
    """Models that extraction and evaluations use: needed by what, under which licence, where they are."""
    from slf_store.constituents.models import list_models, model_users

    context: Context = ctx.obj
    settings = context.settings
    needed = model_users(settings, names or ())
    if download:
        from slf_store.constituents.download import fetch

        with context.progress("fetching models, MB") as progress:
            fetch(needed, progress)
    rows = [row for row in list_models(settings) if not names or set(row.needed_by) & set(names)]
    if context.json:
        context.show([asdict(row) for row in rows])
    else:
        context.show(
            [
                {
                    "model": row.model,
                    "needed by": ", ".join(row.needed_by),
                    "profile": ", ".join(row.profiles),
                    "found": row.found,
                    "MB": round(row.megabytes, 1),
                    "licence": row.licence + (" (gated)" if row.gated else ""),
                    "where": row.where,
                }
                for row in rows
            ],
            f"models; profile {settings.profile}; folder {settings.models}",
        )
    asked = {user.name for user in needed}
    lacking = [row for row in rows if row.found != "yes" and asked & set(row.needed_by)]
    for row in lacking:
        context.say(f"{row.model} is missing: {row.next_step}")
    if check and lacking:
        raise typer.Exit(1)
