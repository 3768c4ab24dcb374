"""What the store holds and what could not be extracted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slf_store.evaluation.html import Html, join, tag
from slf_store.evaluation.reporting.table import Cell, Table

if TYPE_CHECKING:
    from slf_store.store import Store

COVERAGE = """
    SELECT constituent, version, state, reason, count(*) AS clips
    FROM coverage GROUP BY constituent, version, state, reason ORDER BY constituent, version, state, reason
"""

QUARANTINE = """
    SELECT reason, count(*) AS clips FROM clips WHERE state = 'quarantined' GROUP BY reason ORDER BY clips DESC, reason
"""


def holdings(store: Store) -> tuple[Html, list[Table]]:
    """The section and its tables."""
    states: dict[tuple[str, str], dict[str, int]] = {}
    reasons: list[list[Cell]] = []
    for row in store.query(COVERAGE):
        counts = states.setdefault((row["constituent"], row["version"]), {"done": 0, "failed": 0, "missing": 0})
        counts[row["state"]] += row["clips"]
        if row["state"] == "failed":
            reasons.append([row["constituent"], row["reason"], row["clips"]])
    quarantined: list[list[Cell]] = [[row["reason"], row["clips"]] for row in store.query(QUARANTINE)]
    held: list[list[Cell]] = [[name, version, *counts.values()] for (name, version), counts in states.items()]
    head = ["Constituent", "version", "done", "failed", "missing"]
    tables = [Table("coverage", "Clips by constituent,", head, held, "whole store.")]
    pieces = [tables[0].html()]
    for table, what in (
        (Table("failures", "Extraction failures.", ["Constituent", "reason", "clips"], reasons), "failures"),
        (Table("quarantine", "Quarantined at ingest.", ["Reason", "clips"], quarantined), "quarantined clips"),
    ):
        if table.rows:
            tables.append(table)
        pieces.append(table.html() if table.rows else tag("p", f"No {what}.", class_="note"))
    return join(*pieces), tables
