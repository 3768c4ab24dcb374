"""The layout: where each input's rows go in the 256×768 conditioning matrix (design §6, the paper's Table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slf_store.errors import SelectionError

ROWS = 256
COLUMNS = 768

Scaling = Literal["unit", "standard", "attribute"]


@dataclass(frozen=True)
class Block:
    """Rows of one input.

    Attributes:
        name: the input: a constituent, or an attribute (age, gender, ethnicity, language).
        first: its first row.
        rows: how many.
        columns: leading columns used; the rest is zero.
        scaling: `unit`: L2-normalised × √columns; `standard`: standardised with the training part's mean and standard
            deviation of each column; `attribute`: encoded from its value.
    """

    name: str
    first: int
    rows: int
    columns: int
    scaling: Scaling


@dataclass(frozen=True)
class Layout:
    """A named table of blocks that do not overlap.

    >>> LAYOUTS["slf-256x768"].block("mel").first
    141
    """

    name: str
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        for block in self.blocks:
            if block.first < 0 or block.rows < 1 or block.first + block.rows > ROWS or not 0 < block.columns <= COLUMNS:
                raise SelectionError(f"layout {self.name}: {block.name} does not fit into {ROWS}×{COLUMNS}")
            for row in range(block.first, block.first + block.rows):
                if row in taken:
                    raise SelectionError(f"layout {self.name}: {taken[row]} and {block.name} both take row {row}")
                taken[row] = block.name

    def block(self, name: str) -> Block:
        """The block of an input.

        Raises:
            SelectionError: the layout has none.
        """
        for block in self.blocks:
            if block.name == name:
                return block
        raise SelectionError(f"layout {self.name} has no rows for {name!r}")


LAYOUTS = {
    "slf-256x768": Layout(
        "slf-256x768",
        (
            Block("age", 0, 1, 2, "attribute"),
            Block("gender", 1, 1, 2, "attribute"),
            Block("ethnicity", 2, 1, 5, "attribute"),
            Block("language", 3, 1, 45, "attribute"),
            Block("ecapa", 4, 1, 192, "unit"),
            Block("ecapa_windows", 5, 14, 192, "unit"),
            Block("pyannote", 19, 37, 512, "unit"),
            Block("titanet", 56, 1, 192, "unit"),
            Block("speakernet", 57, 1, 256, "unit"),
            Block("camplusplus", 58, 1, 192, "unit"),
            Block("resemblyzer", 59, 1, 256, "unit"),
            Block("pyaudioanalysis", 62, 79, 68, "standard"),
            Block("mel", 141, 111, 128, "standard"),
        ),
    ),
}
"""Layouts by name. Rows 60-61 are free for plug-ins, 252-255 are padding."""


def layout(name: str) -> Layout:
    """A layout by name.

    Raises:
        SelectionError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise SelectionError(f"no layout {name!r}", hint=f"choose from {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
