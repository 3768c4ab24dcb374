"""`slf quality`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


class Split(StrEnum):
    """The splits of a source."""

    DEV = "dev"
    TEST = "test"


PLACE = ("constituent", "version", "source", "split")
THERE = (*PLACE, "clips", "done", "failed", "missing", "coverage", "failures")
VALUES = (*PLACE, "measured", "null", "zero row", "identical", "min", "mean", "max", "p01", "p05", "p50", "p95", "p99")
SHARES = ("coverage", "null_rate", "zero_row_rate", "identical_rate", "equal_rate")


def quality(
    ctx: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    split: Annotated[Split | None, typer.Option(help="Only this split.")] = None,
    constituent: Annotated[str | None, typer.Option(help="Only this constituent.")] = None,
    outliers: Annotated[
        bool, typer.Option("--outliers", help="List values far from what is usual instead, by clip.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most outliers to list, the furthest first.")] = 20,
) -> None:
    """Whether what was extracted looks right: failures, empty and repeated values, their distribution."""
    from dataclasses import asdict

    from slf_store.jobs.quality import Part
    from slf_store.jobs.quality import outliers as find_outliers
    from slf_store.jobs.quality import quality as measure

    context: Context = ctx.obj
    part = Part(source, split and split.value, constituent)
    with context.open_store() as store:
        if outliers:
            context.show(find_outliers(store, part, limit=limit), "outliers")
            return
        found = measure(store, part)
    if context.json:
        context.show_one(asdict(found))
        return
    rows = _readable(found.constituents)
    context.show(rows, "what is there", THERE)
    context.show([row for row in rows if row["kind"] != "attribute"], "what the values look like", VALUES)
    context.show(_readable(found.attributes), "attributes")
    context.show(_readable(found.agreement), "how far two sources of an attribute agree")
    old = sum(row["done"] - row["measured"] for row in found.constituents)
    if old:
        context.say(f"{old} values were extracted by an older program, which did not measure them")


def _readable(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with short names, shares in percent and counts by label in words."""
    return [{_name(name): _cell(name, value) for name, value in row.items()} for row in rows]


def _name(name: str) -> str:
    return name.removeprefix("value_").removesuffix("_rate").replace("_", " ")


def _cell(name: str, value: Any) -> Any:
    if name in SHARES and value is not None:
        return f"{100 * value:.4g} %"
    if isinstance(value, dict):
        return ", ".join(f"{label} {count}" for label, count in sorted(value.items())) or None
    return value
