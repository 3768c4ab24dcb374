"""docs/cookbook.md and the analyst's notebook, as they are written, on a store with two evaluated runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from cookbook import Question, questions, shown
from evaluated_store import RUNS, evaluations

from slf_store.db.readonly import run_text
from slf_store.errors import SelectionError
from slf_store.store import Store

pytestmark = pytest.mark.integration

SAMPLE = range(1, 11)
"""Questions whose answers are those of the sample, value by value."""
NOTEBOOK = Path(__file__).parents[2] / "examples" / "analyst.ipynb"


@pytest.fixture(scope="module")
def evaluated(extracted: Store) -> Iterator[Store]:
    with evaluations(extracted) as store:
        yield store


def test_there_are_twenty_questions() -> None:
    assert [question.number for question in questions()] == list(range(1, 21))


@pytest.mark.parametrize("question", questions(), ids=lambda question: str(question.number))
def test_a_question_has_the_answer_of_the_page(evaluated: Store, question: Question) -> None:
    rows = run_text(evaluated.engine, question.sql, role=cast("Any", question.role))
    assert rows, "the store of the tests answers every question"
    assert list(rows[0]) == question.columns
    assert question.rows
    if question.number in SAMPLE:
        assert shown(rows) == question.rows


def test_only_researchers_may_ask_what_is_marked_so(evaluated: Store) -> None:
    for question in questions():
        if question.role == "researcher":
            with pytest.raises(SelectionError, match="permission denied"):
                run_text(evaluated.engine, question.sql, role="analyst")


def test_the_notebook_runs(evaluated: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert evaluated.settings.database_url is not None
    monkeypatch.setenv("SLF_DATABASE_URL", evaluated.settings.database_url.get_secret_value())
    monkeypatch.setenv("SLF_HOME", str(evaluated.settings.home))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells[1:])
    names: dict[str, Any] = {}
    exec("\n\n".join("".join(cell["source"]) for cell in cells), names)
    assert set(names["recall"]["run"]) >= set(RUNS)  # other tests have runs in this store, too
    assert {"recall", "ci_low", "ci_high"} <= set(names["recall"].columns)
