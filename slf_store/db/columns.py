"""Bulk reads: a query's rows as columns, without a Python object for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor, sql

HEADER = 20
"""Bytes before the elements of a one-dimensional array as PostgreSQL sends it."""


def fetch_columns(
    cursor: Cursor[Any], query: sql.Composable, columns: Sequence[tuple[str, str]], parameters: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """Columns of a query: the server gathers each into one value, so a million rows arrive as a few buffers.

    Args:
        cursor: of a connection that may run the query.
        query: with psycopg's `%(name)s` parameters, literal percent signs doubled.
        columns: (name, kind) of each column in order. A kind is a big-endian numpy dtype, `>i4`, `>i8`, `>f8`, for
            numbers that are never null, or `text` for texts that may be.
        parameters: bound by psycopg.

    Returns:
        {name: (n,)} in the query's order: numbers in native byte order; of texts, Python objects or None, equal ones
        the same object.
    """
    gathered = [
        sql.SQL("json_agg({0}) AS {0}").format(sql.Identifier(name))  # any character may stand in a name
        if kind == "text"
        else sql.SQL("array_send(array_agg({0})) AS {0}").format(sql.Identifier(name))
        for name, kind in columns
    ]
    names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
    statement = sql.SQL("SELECT {} FROM ({}) AS found ({})").format(sql.SQL(", ").join(gathered), query, names)
    row = cursor.execute(statement, parameters, binary=True).fetchone()
    assert row is not None
    values = row.values() if isinstance(row, dict) else row
    return {name: _column(kind, value) for (name, kind), value in zip(columns, values, strict=True)}


def _column(kind: str, value: Any) -> NDArray[Any]:
    if kind == "text":
        texts: list[str | None] = value or []
        same: dict[str | None, str | None] = {}
        return np.fromiter(map(same.setdefault, texts, texts), object, len(texts))
    dtype = np.dtype([("bytes", ">i4"), ("value", kind)])
    sent = np.frombuffer(value or bytes(HEADER), dtype, offset=HEADER)
    return np.ascontiguousarray(sent["value"], dtype=np.dtype(kind).newbyteorder("="))
