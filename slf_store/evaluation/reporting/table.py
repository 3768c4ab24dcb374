"""A table of the report: as HTML, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from slf_store.evaluation.html import Html, join, tag
from slf_store.evaluation.interval import Estimate

LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "×": r"$\times$", "≥": r"$\geq$",
         "√": r"$\surd$"}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute."""

NUMERIC = re.compile(r"–|[\d.]+( \*)?")
"""Text that stands at the right, like numbers."""

LONG = 14
"""Letters of a text that may take several lines."""


@dataclass(frozen=True)
class Number:
    """A value with its interval, as printed.

    >>> Number(26.04, 18, 35).text, Number(26.04, 18, 35).interval, Number(0.5).interval
    ('26.0', '18.0–35.0', '')
    """

    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 1

    @property
    def text(self) -> str:
        """The value."""
        return f"{self.value:.{self.digits}f}"

    @property
    def interval(self) -> str:
        """LOW–HIGH; empty where there is none, `?` for an end that is not known."""
        if self.low is None and self.high is None:
            return ""
        low, high = ("?" if end is None else f"{end:.{self.digits}f}" for end in (self.low, self.high))
        between = " to " if (self.low or 0) < 0 else "–"
        return f"{low}{between}{high}"


def number(estimate: Estimate | None, digits: int = 1, times: float = 1.0) -> Number | None:
    """An estimate as printed; `times` = 100 makes percent of shares."""
    if estimate is None:
        return None
    return Number(times * estimate.value, times * estimate.low, times * estimate.high, digits)


Cell = str | int | Number | None
"""None: not measured."""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of its files, without suffix.
        title: first words of the caption, e.g. "Table 2. Recall of …".
        head: names of the columns; the first column names the row.
        rows: cells, as many as `head`.
        note: the rest of the caption.
        grey: numbers of rows that are shown pale, such as groups of few people.
    """

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    grey: frozenset[int] = field(default_factory=frozenset)

    def html(self) -> Html:
        """The table; on a narrow screen it scrolls sideways under its first column."""
        body = [
            tag(
                "tr",
                tag("th", _shown(row[0]), scope="row"),
                *(tag("td", _shown(cell), class_=_kind(cell)) for cell in row[1:]),
                class_="grey" if i in self.grey else None,
            )
            for i, row in enumerate(self.rows)
        ]
        # The caption stands beside the box that scrolls, so that it never scrolls away.
        about = tag("figcaption", tag("b", self.title), " ", self.note)
        texts = [any(row[i] is not None and not _numeric(row[i]) for row in self.rows) for i in range(len(self.head))]
        heads = zip(self.head, texts, strict=True)
        columns = tag("tr", *(tag("th", name, scope="col", class_="text" if text else None) for name, text in heads))
        grid = tag("table", tag("thead", columns), tag("tbody", *body))
        return tag("figure", about, tag("div", grid, class_="scroll", tabindex=0, role="region", aria_label=self.title))

    def csv(self) -> str:
        """Comma-separated, numbers unrounded; a column with intervals becomes three: NAME, NAME low, NAME high."""
        wide = [any(isinstance(row[i], Number) and row[i].interval for row in self.rows) for i in range(len(self.head))]  # type: ignore[union-attr]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        head = zip(self.head, wide, strict=True)
        writer.writerow([x for name, ends in head for x in ([name, f"{name} low", f"{name} high"] if ends else [name])])
        for row in self.rows:
            writer.writerow([x for cell, ends in zip(row, wide, strict=True) for x in _plain(cell, ends)])
        return file.getvalue()

    def latex(self) -> str:
        """A `table` with booktabs rules, to be read with `\\input`."""
        lines = [
            r"\begin{table}",
            rf"\caption{{{_latex(self.title)} {_latex(self.note)}}}",
            rf"\label{{tab:{self.name}}}",
            r"\begin{tabular}{l" + "r" * (len(self.head) - 1) + "}",
            r"\toprule",
            " & ".join(map(_latex, self.head)) + r" \\",
            r"\midrule",
            *(" & ".join(map(_latex_cell, row)) + r" \\" for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def _kind(cell: Cell) -> str | None:
    return None if _numeric(cell) else "text long" if len(str(cell)) > LONG else "text"


def _numeric(cell: Cell) -> bool:
    return not isinstance(cell, str) or NUMERIC.fullmatch(cell) is not None


def _shown(cell: Cell) -> object:
    if cell is None:
        return "–"
    if isinstance(cell, Number):
        return join(cell.text, tag("small", cell.interval)) if cell.interval else cell.text
    return f"{cell:,}" if isinstance(cell, int) else cell


def _plain(cell: Cell, ends: bool) -> list[object]:
    if isinstance(cell, Number):
        return [cell.value, *(["" if end is None else end for end in (cell.low, cell.high)] if ends else [])]
    text = "" if cell is None else f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
    return [text, "", ""] if ends else [text]


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, Number):
        return cell.text + (rf" {{\scriptsize ({_latex(cell.interval)})}}" if cell.interval else "")
    return "--" if cell is None else _latex(str(cell))
