"""Gender, ethnicity, age group and age of generated faces, as columns of a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slf_store.evaluation.interval import Estimate
from slf_store.evaluation.reporting.study import Result, Study
from slf_store.evaluation.reporting.table import Cell, number

HEADS = {
    "gender": "gender recall, %",
    "ethnicity": "ethnicity recall, %",
    "age_group": "age-group recall, %",
    "age": "age RMSE, years",
}

ATTRIBUTES = """
    SELECT evaluation_id, attribute, truth, estimator, value, ci_low, ci_high, n
    FROM attribute_metric WHERE evaluation_id = ANY(CAST(:evaluations AS bigint[]))
    ORDER BY array_position(ARRAY['gender', 'age_group', 'age', 'ethnicity'], attribute), truth <> 'metadata', truth,
             estimator = 'none', estimator
"""


@dataclass(frozen=True)
class Attributes:
    """Columns of attributes.

    Attributes:
        heads: of the columns; a truth or an estimator is named where there are several.
        cells: {evaluation: {head: cell}}.
        note: who says what the real face is, and who looks at the generated one.
    """

    heads: Sequence[str]
    cells: dict[int, dict[str, Cell]]
    note: str


def read_attributes(study: Study, results: Sequence[Result]) -> Attributes:
    """The attributes of some results; no columns where none was measured."""
    rows = study.store.query(ATTRIBUTES, evaluations=[result.id for result in results])
    truths = {row["truth"] for row in rows}
    estimators = {row["estimator"] for row in rows} - {"none"}
    cells: dict[int, dict[str, Cell]] = {}
    heads: dict[str, None] = {}
    for row in rows:
        for head in qualified(HEADS.get(row["attribute"], row["attribute"]), row, truths, estimators):
            times = 1 if row["attribute"] == "age" else 100
            estimate = Estimate(row["value"], row["ci_low"], row["ci_high"], row["n"])
            cells.setdefault(row["evaluation_id"], {}).setdefault(head, number(estimate, 1, times))
            heads[head] = None
    said, saw = ", ".join(sorted(truths)), ", ".join(sorted(estimators))
    who = f"Attributes of real faces as {said} states them, of generated ones as {saw} sees them."
    return Attributes(list(heads), cells, who if rows else "")


def qualified(head: str, row: Mapping[str, Any], truths: Collection[str], estimators: Collection[str]) -> list[str]:
    """Heads a number stands under: with its truth and its estimator where there are several of them.

    What chance gives has no estimator and stands beside each.

    >>> qualified("age", {"truth": "metadata", "estimator": "none"}, ["metadata"], ["a", "b"])
    ['age (seen by a)', 'age (seen by b)']
    """
    if row["truth"] == "none":
        return [head]
    named = [row["truth"]] if len(truths) > 1 else []
    seen = [row["estimator"]] if row["estimator"] != "none" else sorted(estimators) or ["none"]
    words = [[*named, *([f"seen by {estimator}"] if len(estimators) > 1 else [])] for estimator in seen]
    return [f"{head} ({', '.join(each)})" if each else head for each in words]
