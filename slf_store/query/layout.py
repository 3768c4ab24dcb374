"""The layout: where each input's rows go in the 256×768 conditioning matrix (design §6, the paper's Table 1)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from slf_store.errors import SelectionError

if TYPE_CHECKING:
    from slf_store.store import Store

ROWS = 256
COLUMNS = 768

Scaling = Literal["unit", "standard", "factor", "attribute", "published"]

ArrayOrTensor = TypeVar("ArrayOrTensor", bound=Any)


@dataclass(frozen=True)
class Block:
    """Rows of one input.

    Attributes:
        name: the input: a constituent, or an attribute (age, gender, ethnicity, language).
        first: its first row.
        rows: how many.
        columns: leading columns of the input that are used; the rest of the row is zero.
        scaling: of a constituent: `unit`: L2-normalised × √columns; `standard`: standardised with the training part's
            mean and standard deviation of each column; `factor`: multiplied by `factor`. Of an attribute: `attribute`:
            one-hot (age: number and "unknown"); `published`: as the published code encodes it. `standard` and `factor`
            are clamped to ±10.
        column: first column of the matrix that is filled.
        skip: leading rows of the constituent that are left out.
        factor: of `factor`.
    """

    name: str
    first: int
    rows: int
    columns: int
    scaling: Scaling
    column: int = 0
    skip: int = 0
    factor: float = 1.0

    @property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns of the matrix that it fills."""
        return slice(self.first, self.first + self.rows), slice(self.column, self.column + self.columns)

    def cut(self, values: ArrayOrTensor) -> ArrayOrTensor:
        """Of stored values (n, *shape) the part that is used: (n, rows, columns). An array or a tensor.

        >>> import numpy as np
        >>> Block("pyannote", 5, 26, 512, "unit", skip=11).cut(np.zeros((2, 37, 512))).shape
        (2, 26, 512)
        """
        rows: ArrayOrTensor = values.reshape(len(values), self.skip + self.rows, -1)[:, self.skip :, : self.columns]
        return rows

    def as_json(self) -> dict[str, Any]:
        """Its fields, without those left at their default.

        >>> Block("ecapa", 4, 1, 192, "unit").as_json()
        {'name': 'ecapa', 'first': 4, 'rows': 1, 'columns': 192, 'scaling': 'unit'}
        """
        return {field.name: getattr(self, field.name) for field in fields(self) if not _is_default(self, field)}


@dataclass(frozen=True)
class Layout:
    """A named table of blocks that do not overlap, each of another input.

    >>> LAYOUTS["slf-256x768"].block("mel").first
    141

    Raises:
        SelectionError: blocks overlap, leave the matrix, or name an input twice.
    """

    name: str
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        names: set[str] = set()
        for block in self.blocks:
            if (
                min(block.first, block.column, block.skip, block.rows - 1, block.columns - 1) < 0
                or block.first + block.rows > ROWS
                or block.column + block.columns > COLUMNS
            ):
                raise SelectionError(
                    f"layout {self.name}: {block.name} (rows {block.first} to {block.first + block.rows - 1}, columns "
                    f"{block.column} to {block.column + block.columns - 1}) does not fit into {ROWS}×{COLUMNS}",
                    hint="rows are counted from 0 to 255, columns from 0 to 767",
                )
            if block.name in names:
                raise SelectionError(f"layout {self.name}: {block.name} is there twice", hint="keep one of them")
            names.add(block.name)
            for row in range(block.first, block.first + block.rows):
                if row in taken:
                    raise SelectionError(
                        f"layout {self.name}: {taken[row]} and {block.name} both take row {row}",
                        hint="`slf layout show` draws which rows are free",
                    )
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
    "published-code": Layout(
        "published-code",
        (
            Block("age", 0, 1, 768, "published"),
            Block("ethnicity", 1, 1, 17, "published"),
            Block("gender", 2, 1, 768, "published"),
            Block("language", 3, 1, 45, "published"),
            Block("ecapa", 4, 1, 192, "factor", column=288, factor=1 / 200),
            Block("pyannote", 5, 26, 512, "factor", skip=11, factor=1 / 400),
            Block("titanet", 31, 1, 192, "factor", column=160, factor=10.0),
            Block("speakernet", 32, 1, 256, "factor", column=128),
            Block("pyaudioanalysis", 33, 79, 68, "factor", column=60, factor=1 / 100),
            Block("mel", 112, 111, 128, "factor", factor=1 / 100),
        ),
    ),
}
"""Layouts by name. `slf-256x768`: rows 60-61 are free for plug-ins, 252-255 are padding. `published-code`: rows,
columns and constants of the published code; 223 was its old image guide, 224-255 are padding (docs/layout.md)."""


def layout(name: str | Path, store: Store | None = None) -> Layout:
    """A layout by name, or read from a TOML file (docs/layout.md says what is in it).

    Args:
        name: of a built-in layout, or a path that ends in `.toml`.
        store: whose constituents it has to fit.

    Raises:
        SelectionError: there is none of that name, the file is wrong, or a block does not fit its constituent.
    """
    from slf_store.query.layout_file import check_constituents, read_layout

    if str(name) in LAYOUTS:
        chosen = LAYOUTS[str(name)]
        if store is not None:
            check_constituents(chosen, store)
        return chosen
    if Path(name).suffix == ".toml":
        return read_layout(Path(name), store)
    raise SelectionError(f"no layout {str(name)!r}", hint=f"choose from {', '.join(LAYOUTS)}, or name a FILE.toml")


def _is_default(block: Block, field: Any) -> bool:
    return bool(getattr(block, field.name) == field.default)
