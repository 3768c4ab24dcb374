"""docs/cookbook.md as data: its questions, with the answers written there.

`python tests/cookbook.py HOME FIRST LAST` writes the answers of questions FIRST to LAST anew, from the store at HOME.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

PAGE = Path(__file__).parents[1] / "docs" / "cookbook.md"
QUESTION = re.compile(
    r"^### (?P<number>\d+)\. (?P<title>.+?)\n\n\*(?P<role>researcher|analyst)\*.*?^```sql\n(?P<sql>.*?)^```\n"
    r"(?P<answer>(?:\n(?:\|[^\n]*\n)+)?)",
    re.M | re.S,
)


@dataclass(frozen=True)
class Question:
    """One question of the page: number, who may ask it, the statement, and the answer's columns and rows as text."""

    number: int
    title: str
    role: str
    sql: str
    columns: list[str]
    rows: list[list[str]]


def questions() -> list[Question]:
    """All of them, in order."""
    return [_question(found) for found in QUESTION.finditer(PAGE.read_text("utf-8"))]


def shown(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Values as the page writes them."""
    return [["–" if value is None else str(value) for value in row.values()] for row in rows]


def _question(found: re.Match[str]) -> Question:
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in found["answer"].strip().splitlines()]
    return Question(
        int(found["number"]), found["title"], found["role"], found["sql"], lines[0] if lines else [], lines[2:]
    )


def _write(home: Path, first: int, last: int) -> None:
    from slf_store.db.readonly import run_text
    from slf_store.store import Store

    with Store.open(home) as store:

        def answered(found: re.Match[str]) -> str:
            if not first <= int(found["number"]) <= last:
                return found[0]
            rows = run_text(store.engine, found["sql"], role=cast("Any", found["role"]))
            if not rows:
                raise SystemExit(f"question {found['number']}: no rows")
            lines = [list(rows[0]), ["---"] * len(rows[0]), *shown(rows)]
            answer = "".join("| " + " | ".join(line) + " |\n" for line in lines)
            return found[0].removesuffix(found["answer"]) + "\n" + answer

        PAGE.write_text(QUESTION.sub(answered, PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
