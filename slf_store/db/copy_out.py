"""Bulk reads: binary COPY of rows of numbers straight into a numpy array, without a Python object for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

HEADER = len(b"PGCOPY\n\xff\r\n\0") + 8
TRAILER = 2


def copy_out(
    connection: Connection, query: str, columns: Sequence[tuple[str, str]], parameters: Mapping[str, Any]
) -> NDArray[Any]:
    """Rows of a query whose columns are numbers of fixed width and never null.

    Args:
        connection: open connection.
        query: SQL text with psycopg's `%(name)s` parameters.
        columns: (name, numpy dtype) of each column, big-endian as PostgreSQL sends it: `>i4`, `>i8`, `>f8`, …
        parameters: bound by psycopg.

    Returns:
        (n,) structured array with a field for each column.
    """
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in columns:
        fields += [(f"bytes of {name}", ">i4"), (name, kind)]
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", parameters) as stream:
        data = b"".join(bytes(block) for block in stream)
    rows = np.frombuffer(
        data, np.dtype(fields), offset=HEADER, count=(len(data) - HEADER - TRAILER) // np.dtype(fields).itemsize
    )
    return rows[[name for name, _ in columns]]
