"""What others report: only figures whose source is cited (`literature.toml`)."""

from __future__ import annotations

import tomllib
from importlib import resources

from slf_store.evaluation.html import Html, join, tag
from slf_store.evaluation.reporting.table import Table

NOTE = (
    "These are positions, not a contest: training data, test people, gallery size, face model, resolution and what "
    "the picture shows differ from work to work, and each of them moves the numbers. Random selection on the same "
    "gallery says how hard a test is."
)
ABSENT = (
    "Speech2Face (Oh et al. 2019), Wav2Pix (Duarte et al. 2019) and others stand in the paper's Tables 9 and 10, but "
    "no figure of theirs is here: those tables' cells are not in the text that could be read."
)


def literature() -> tuple[Html, Table]:
    """The section and its table."""
    data = tomllib.loads(resources.files(__package__).joinpath("literature.toml").read_text("utf-8"))
    columns = ("work", "task", "test", "value", "source")
    rows = [[figure[column] for column in columns] for figure in data["figure"]]
    head = ["Work", "task", "tested on", "reported", "source"]
    found = Table("literature", "What others report.", head, rows, "Each figure with where it was read.")
    return join(tag("p", NOTE), found.html(), tag("p", ABSENT, class_="note")), found
