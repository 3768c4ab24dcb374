"""A layout of one's own: a small TOML file, read and held against the constituents there are."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import text

from slf_store.errors import ModelUnavailable, SelectionError
from slf_store.query.encode import ENCODERS, ENCODINGS
from slf_store.query.layout import LAYOUTS, Block, Layout, Scaling

if TYPE_CHECKING:
    from slf_store.store import Store

Shape = tuple[int, ...] | None
"""Of one clip's value; None where it is not known (a model that is not here)."""

SHAPES = text("""
    -- Shapes of the active versions of array constituents, the newest last.
    SELECT name, shape FROM constituent WHERE status = 'active' AND kind = 'array' ORDER BY name, created_at, id
""")


class _BlockEntry(BaseModel):
    """One `[[block]]` of the file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    first: int
    rows: int | None = None
    columns: int | None = None
    scaling: Scaling
    column: int = 0
    skip: int = 0
    factor: float | None = Field(None, allow_inf_nan=False)


class _LayoutEntry(BaseModel):
    """The file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str | None = Field(None, min_length=1)
    block: list[_BlockEntry] = Field(min_length=1)


def read_layout(path: Path, store: Store | None = None) -> Layout:
    """Read a layout from a TOML file.

    Args:
        path: the file; its `[[block]]` tables have the fields of :class:`Block`. Rows and columns may be left out:
            then they are the constituent's (or the attribute's) own.
        store: whose constituents count, besides those that could be extracted here.

    Raises:
        SelectionError: naming file, block and reason: no TOML, a field that is unknown, missing or of the wrong type,
            an unknown constituent, rows or columns that do not fit it, blocks that overlap or leave the matrix.

    Example of a file::

        name = "voice-only"

        [[block]]
        name = "camplusplus"
        first = 4
        scaling = "unit"
    """
    entry = _parse(path)
    name = entry.name or path.stem
    if name in LAYOUTS:
        _refuse(f"{path}: the name {name!r} is a built-in layout's", "give it another name")
    shapes = _known_shapes(store, [block.name for block in entry.block])
    try:
        return Layout(name, tuple(_block(path, block, shapes) for block in entry.block))
    except SelectionError as error:
        if error.what.startswith(f"layout {name}:"):
            raise SelectionError(f"{path}: {error.what}", hint=error.hint) from None
        raise


def check_constituents(layout: Layout, store: Store) -> None:
    """Hold a layout against the constituents that a store has; one it has not extracted is no fault.

    Raises:
        SelectionError: a block's rows or columns are not its constituent's.
    """
    shapes = _stored_shapes(store)
    for block in layout.blocks:
        if block.name in shapes:
            reason = _misfit(block, shapes[block.name])
            if reason:
                _refuse(f"layout {layout.name}, block {block.name}: {reason}", "write a layout of your own (--layout)")


def _parse(path: Path) -> _LayoutEntry:
    try:
        return _LayoutEntry.model_validate(tomllib.loads(path.read_bytes().decode("utf-8")))
    except OSError as error:
        _refuse(f"layout {path} cannot be read: {error.strerror}", "name a TOML file; docs/layout.md shows one")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        _refuse(f"layout {path}: {_place(first['loc'])}{first['msg']}", "docs/layout.md lists the fields of a block")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _refuse(f"layout {path} is no TOML: {error}", "correct it there")


def _place(location: tuple[int | str, ...]) -> str:
    """`("block", 1, "first")` → `block 2, first: `."""
    words = [str(part + 1) if isinstance(part, int) else part for part in location]
    if len(words) > 1:
        words = [" ".join(words[:2]), *words[2:]]
    return ", ".join(words) + ": " if words else ""


def _known_shapes(store: Store | None, names: list[str]) -> dict[str, Shape]:
    """Shapes by name: the store's where it has one, else what would be extracted here."""
    from slf_store.constituents.registry import known_extractors
    from slf_store.settings import load_settings

    shapes: dict[str, Shape] = {}
    for name, extractor in known_extractors(store.settings if store else load_settings()).items():
        if name not in names:
            shapes[name] = None
            continue
        try:
            if extractor.spec.kind == "array":
                shapes[name] = extractor.spec.shape
        except ModelUnavailable:
            shapes[name] = None
    return shapes | (_stored_shapes(store) if store else {})


def _stored_shapes(store: Store) -> dict[str, tuple[int, ...]]:
    with store.engine.connect() as connection:
        return {row.name: tuple(row.shape) for row in connection.execute(SHAPES)}


def _block(path: Path, entry: _BlockEntry, shapes: dict[str, Shape]) -> Block:
    where = f"layout {path}, block {entry.name}"
    if entry.name in ENCODERS:
        if entry.scaling not in ENCODINGS:
            _refuse(f"{where}: {entry.scaling!r} is no scaling of an attribute", f"use {' or '.join(ENCODINGS)}")
        shape: Shape = (1, len(ENCODINGS[entry.scaling][entry.name](None)[0]))
    elif entry.name in shapes:
        if entry.scaling in ENCODINGS:
            _refuse(f"{where}: {entry.scaling!r} is for attributes", "use unit, standard or factor")
        shape = shapes[entry.name]
    else:
        _refuse(
            f"{where}: there is no array constituent and no attribute of that name",
            f"attributes are {', '.join(ENCODERS)}; for constituents see `slf constituents` and `… --known`",
        )
    if (entry.factor is None) == (entry.scaling == "factor"):
        _refuse(f"{where}: factor goes with scaling 'factor', and only with it", "give both or neither")
    if shape is not None and len(shape) > 2:
        _refuse(f"{where}: it is an image or a volume ({_times(shape)}), not rows", "only 1-d and 2-d values have rows")
    if shape is None and (entry.rows is None or entry.columns is None):
        _refuse(f"{where}: its size is not known here, as its model is missing", "say rows and columns")
    rows, columns = (0, 0) if shape is None else _size(shape)
    block = Block(
        entry.name,
        entry.first,
        rows - entry.skip if entry.rows is None else entry.rows,
        columns if entry.columns is None else entry.columns,
        entry.scaling,
        entry.column,
        entry.skip,
        1.0 if entry.factor is None else entry.factor,
    )
    if shape is not None and (reason := _misfit(block, shape)):
        _refuse(f"{where}: {reason}", "leave rows and columns out to take the constituent's own")
    return block


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a value: a vector is one row."""
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def _misfit(block: Block, shape: tuple[int, ...]) -> str:
    """Why a block cannot hold values of that shape; empty where it can."""
    rows, columns = _size(shape)
    if block.skip + block.rows != rows:
        skipped = f" after {block.skip} skipped" if block.skip else ""
        return f"{block.rows} rows{skipped}, where {block.name} has {rows}"
    if block.columns > columns:
        return f"{block.columns} columns, where {block.name} has {columns}"
    if block.name in ENCODERS and block.columns < columns:
        return f"{block.columns} columns, where {block.name} needs {columns}"
    return ""


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _refuse(what: str, hint: str) -> NoReturn:
    raise SelectionError(what, hint=hint)
