"""Every metric by gender, age group, ethnicity and language of the real person."""

from __future__ import annotations

from typing import Any

from slf_store.evaluation.html import Html, join, tag
from slf_store.evaluation.interval import Estimate
from slf_store.evaluation.reporting import metrics
from slf_store.evaluation.reporting.attributes import qualified
from slf_store.evaluation.reporting.study import Study
from slf_store.evaluation.reporting.table import Cell, Table, number

ATTRIBUTES = ("gender", "age_group", "ethnicity", "language")
MIN_PEOPLE = 10
"""Groups of fewer people are greyed: as in the view `metric_by_group`."""
FOLDED = 40
"""Rows above which a table is folded on the screen; it is printed whole."""

GROUPS = """
    -- As metric_by_group has them, for some evaluations.
    SELECT evaluation_id, attribute, label, name, k, truth, estimator, value, ci_low, ci_high, n, identities, source
    FROM group_metric WHERE evaluation_id = ANY(CAST(:evaluations AS bigint[]))
    ORDER BY label = 'unknown', label, truth <> 'none', truth <> 'metadata', truth, name, k
"""
CAVEATS = (
    "Groups are what a metadata file or a model says of people (the source is named), not what they say of "
    "themselves. A model's labels have errors of their own, and these are not the same for every group: a gap here "
    "may be the labels'. Such systems are generative and correlative: they draw what goes with an input in the "
    "training data, also where it has nothing to do with it, so a gap may come from who is in the training snapshot "
    "and who is not. An aspect that cannot follow from the input (hair, clothes) is invented and must not be relied "
    "on. A small group says little: its interval tells how little."
)


def fairness(study: Study) -> tuple[Html, list[Table]]:
    """The section, and its tables; empty where no group was measured."""
    shown = [*study.one_seed, *study.baselines.values()]
    rows = study.store.query(GROUPS, evaluations=[result.id for result in shown])
    if not rows:
        note = "No metric by group is stored for these evaluations: run `slf evaluate` again."
        return tag("p", note, class_="note"), []
    by_attribute: dict[str, list[dict[str, Any]]] = {name: [] for name in ATTRIBUTES}
    for row in rows:
        by_attribute[row["attribute"]].append(row)
    names = {result.id: study.label(result) for result in shown}
    tables: list[Table] = []
    pieces: list[Html] = [tag("p", CAVEATS)]
    for attribute, own in by_attribute.items():
        labels = {row["label"] for row in own} - {"unknown"}
        title = attribute.replace("_", " ")
        if not labels:
            pieces.append(tag("p", f"By {title}: nobody states it for these clips.", class_="note"))
            continue
        tables.append(_table(attribute, title, own, names))
        shown_table = tables[-1].html()
        if len(tables[-1].rows) > FOLDED:
            shown_table = tag("details", tag("summary", f"By {title}: {len(tables[-1].rows)} rows"), shown_table)
        pieces.append(shown_table)
    absent = [
        study.label(result) for result in study.one_seed if result.id not in {row["evaluation_id"] for row in rows}
    ]
    if absent:
        note = f"Not in these tables, as an older program measured it: {', '.join(absent)}. Run `slf evaluate` again."
        pieces.append(tag("p", note, class_="note"))
    return join(*pieces), tables


def _table(attribute: str, title: str, rows: list[dict[str, Any]], names: dict[int, str]) -> Table:
    truths = {row["truth"] for row in rows} - {"none"}
    estimators = {row["estimator"] for row in rows} - {"none"}
    order: dict[str, tuple[bool, bool, str, int]] = {}
    lines: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for evaluation, name in names.items():
        for row in rows:
            if row["evaluation_id"] == evaluation:
                for head in qualified(metrics.label(row["name"], row["k"]), row, truths, estimators):
                    lines.setdefault((name, row["label"]), {})[head] = row
                    order[head] = (row["truth"] != "none", row["name"] != "recall", row["name"], row["k"])
    heads = sorted(order, key=lambda head: (order[head], head))
    cells: list[list[Cell]] = []
    grey: set[int] = set()
    for (name, label), found in lines.items():
        some = next(iter(found.values()))
        if some["identities"] < MIN_PEOPLE:
            grey.add(len(cells))
        values = [_value(found.get(head)) for head in heads]
        cells.append([name, label, some["identities"], *values])
    sources = sorted({row["source"] for row in rows if row["source"] != "none"})
    note = (
        f"Who says so: {', '.join(sources)}. Percent for recall and detected, with 95 % interval over people. Pale: "
        f"fewer than {MIN_PEOPLE} people, conclude nothing from it."
    )
    return Table(
        f"by-{attribute.replace('_', '-')}", f"By {title}.", ["System", title, "people", *heads], cells, note,
        frozenset(grey),
    )  # fmt: skip


def _value(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return None
    name = row["name"]
    share = metrics.is_share(name)
    estimate = Estimate(row["value"], row["ci_low"], row["ci_high"], row["n"])
    return number(estimate, metrics.DIGITS.get(name, 1), 100 if share else 1)
