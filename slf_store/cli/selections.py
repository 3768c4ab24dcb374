"""Verb of selection: select, with its report; freezes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def select(
    ctx: typer.Context,
    predicate: Annotated[str, typer.Argument(help="SQL condition over the view clips.")] = "true",
    system: Annotated[str, typer.Option(help="System whose inputs to ask for.")] = "full-input",
    layout: Annotated[str, typer.Option(help="Layout of the conditioning matrix, or a FILE.toml.")] = "slf-256x768",
    missing: Annotated[str, typer.Option(help="Clips that lack an input: error, skip or zero.")] = "error",
    per_identity: Annotated[int | None, typer.Option(min=1, help="At most so many clips of each identity.")] = None,
    balance: Annotated[
        str | None, typer.Option(help="Equal numbers of each combination, e.g. gender,ethnicity; unknown left out.")
    ] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="So many clips, drawn by --seed.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many clips in natural order.")] = None,
    freeze: Annotated[str | None, typer.Option(help="Freeze the selection under this name.")] = None,
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share of identities to validate on.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws and of the split.")] = 0,
) -> None:
    """Count what a predicate selects and what it lacks; freeze it into a snapshot."""
    from slf_store.query.snapshot import freeze as write

    context: Context = ctx.obj
    if missing not in ("error", "skip", "zero"):
        raise typer.BadParameter(f"{missing!r} is none of error, skip, zero", param_hint="--missing")
    with context.open_store() as store:
        chosen = store.select(
            predicate,
            system=system,
            layout=layout,
            missing=cast("Any", missing),
            per_identity=per_identity,
            balance=[name.strip() for name in balance.split(",")] if balance else (),
            sample=sample,
            limit=limit,
            seed=seed,
        )
        report = chosen.report()
        if not context.json:
            context.show_one(_for_people(report), "selected" if freeze else "selected (not frozen: add --freeze NAME)")
        if freeze is None:
            if context.json:
                context.show_one(report)
            return
        with context.progress("reading values") as progress:
            frozen = asdict(write(store, chosen, freeze, validation=validation, seed=seed, progress=progress))
        context.show_one(report | frozen if context.json else frozen, "frozen")


def _for_people(report: dict[str, Any]) -> dict[str, Any]:
    """The report with the three policies in words, a line each."""
    policies = report["policies"]
    masked = ", ".join(f"{name} {count}" for name, count in policies["zero"]["masked"].items())
    told = {
        "error": "would refuse to freeze" if policies["error"]["refused"] else f"{policies['error']['clips']} clips",
        "skip": f"{policies['skip']['clips']} clips, {policies['skip']['left_out']} left out",
        "zero": f"{policies['zero']['clips']} clips, {policies['zero']['left_out']} without a face left out"
        + (f"; masked: {masked}" if masked else ""),
    }
    lines = {key: value for key, value in report.items() if key not in ("policies", "missing")}
    lines["not_extracted_in_this_store"] = ", ".join(report["not_extracted_in_this_store"])
    chosen = {f"missing {name}{' (chosen)' if name == report['missing'] else ''}": text for name, text in told.items()}
    return lines | chosen
