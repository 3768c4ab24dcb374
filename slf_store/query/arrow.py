"""Clips as Arrow tables: rows of the view `clips`, out of PostgreSQL without a Python object for each value."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor, sql
from psycopg.errors import Error, QueryCanceled

from slf_store.db.readonly import read_only
from slf_store.errors import ConfigError, SelectionError

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from slf_store.store import Store

ROWS = 65_536
"""Rows of a record batch."""
UNIT = "\x1f"
"""Stands between the elements of a text array on its way."""
NATURAL_ORDER = sql.SQL(
    'split COLLATE "C", identity COLLATE "C", video COLLATE "C", clip COLLATE "C", source COLLATE "C"'
)
TYPES: dict[str, Callable[[Any], Any]] = {
    "bool": lambda pa: pa.bool_(),
    "int2": lambda pa: pa.int16(),
    "int4": lambda pa: pa.int32(),
    "int8": lambda pa: pa.int64(),
    "float4": lambda pa: pa.float32(),
    "float8": lambda pa: pa.float64(),
    "timestamptz": lambda pa: pa.timestamp("us", "UTC"),
    "text[]": lambda pa: pa.list_(pa.string()),
}
"""Arrow types of PostgreSQL's; anything else (text, JSON) is a string."""


class Clips:
    """Rows of the view `clips`, read when asked for: by a predicate in natural order, or certain clips in their order.

    Example::

        clips = store.clips("gender = 'f' AND duration_s >= 5").to_arrow()
        duckdb.sql("SELECT language, count(*), avg(duration_s) FROM clips GROUP BY ALL")

    Everything is read in a read-only session of the researchers' reader, under `statement_timeout_s`, as by `slf sql`.
    Clips of every `state` count.

    Args:
        store: open store.
        predicate: SQL condition over the view `clips`.
        ids: (n,) int64 clips instead.
    """

    def __init__(self, store: Store, predicate: str = "true", ids: NDArray[np.int64] | None = None) -> None:
        self._store, self.predicate, self._ids = store, predicate, ids

    @property
    def clip_ids(self) -> NDArray[np.int64]:
        """(n,) int64. Needs no Arrow.

        Raises:
            SelectionError: the predicate is no valid condition, or takes too long.
        """
        if self._ids is not None:
            return self._ids
        with self._reading() as cursor:
            cursor.execute(self._statement(sql.SQL("clips.clip_id")), prepare=True)
            return np.array([row["clip_id"] for row in cursor.fetchall()], np.int64)

    def to_batches(self) -> Iterator[pyarrow.RecordBatch]:
        """Record batches of at most 65,536 rows, at least one; the time limit counts until the last is taken.

        Raises:
            ConfigError: pyarrow is not installed.
            SelectionError: the predicate is no valid condition, or takes too long.
        """
        pa = tool("pyarrow")
        with self._reading() as cursor:
            # The extended protocol takes one statement: what passes here cannot end the COPY's parenthesis either.
            cursor.execute(self._statement(sql.SQL("clips.*"), "LIMIT 0"), prepare=True)
            types = {column.name: column.type_display for column in cursor.description or ()}
            schema = pa.schema([(name, TYPES.get(kind, lambda pa: pa.string())(pa)) for name, kind in types.items()])
            columns = sql.SQL(", ").join(_expression(name, kind) for name, kind in types.items())
            cursor.execute("SET LOCAL timezone = 'UTC'")
            cursor.execute("SET LOCAL datestyle = 'ISO'")
            copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(self._statement(columns))
            with cursor.copy(copy) as stream:
                rows = iter(stream)
                block = b"".join(islice(rows, ROWS))
                yield _parse(block, schema)
                while block := b"".join(islice(rows, ROWS)):
                    yield _parse(block, schema)

    def to_arrow(self) -> pyarrow.Table:
        """All rows as a table; its columns are the view's.

        Raises:
            ConfigError: pyarrow is not installed.
            SelectionError: the predicate is no valid condition, or takes too long.
        """
        return tool("pyarrow").Table.from_batches(self.to_batches())

    def to_pandas(self) -> pandas.DataFrame:
        """All rows as a data frame: those of :meth:`to_arrow`.

        Raises:
            ConfigError: pyarrow or pandas is not installed.
            SelectionError: the predicate is no valid condition, or takes too long.
        """
        tool("pandas")
        return self.to_arrow().to_pandas()

    def _statement(self, columns: sql.Composable, limit: str = "") -> sql.Composed:
        if self._ids is None:
            which = sql.SQL("clips WHERE ({}\n) ORDER BY {}").format(sql.SQL(self.predicate), NATURAL_ORDER)
        else:
            which = sql.SQL(
                "clips JOIN unnest({}::bigint[]) WITH ORDINALITY AS wanted (id, position) ON wanted.id = clips.clip_id"
                " ORDER BY wanted.position"
            ).format(sql.Literal(self._ids.tolist()))
        return sql.SQL("SELECT {} FROM {} {}").format(columns, which, sql.SQL(limit))

    @contextmanager
    def _reading(self) -> Iterator[Cursor[dict[str, Any]]]:
        limit = self._store.settings.statement_timeout_s
        with read_only(self._store.engine, "researcher", limit) as cursor:
            try:
                yield cursor
            except QueryCanceled:
                raise SelectionError(
                    f"clips: stopped after {limit:g} s", hint="narrow the predicate, or raise SLF_STATEMENT_TIMEOUT_S"
                ) from None
            except Error as error:
                raise SelectionError(
                    f"predicate {self.predicate!r}: {str(error).strip().partition(chr(10))[0]}",
                    hint="write a condition over the view clips, e.g. \"gender = 'f' AND duration_s >= 5\"",
                ) from None


def clip_ids_of(store: Store, clips: Any) -> NDArray[np.int64]:
    """Ids of clips given in any way: a predicate, a selection, a manifest, :class:`Clips`, or ids. (n,) int64.

    Raises:
        SelectionError: it is none of these, or the predicate is no valid condition.
    """
    if isinstance(clips, str):
        return Clips(store, clips).clip_ids
    ids = np.asarray(getattr(clips, "clip_ids", clips))
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise SelectionError(
            f"{type(clips).__name__} names no clips",
            hint="give a predicate, a selection, a manifest, or a one-dimensional array of clip ids",
        )
    return ids.astype(np.int64)


def _expression(name: str, kind: str) -> sql.Composed:
    column = sql.SQL("clips.{}").format(sql.Identifier(name))
    if kind == "text[]":
        return sql.SQL("array_to_string({}, {})").format(column, sql.Literal(UNIT))
    return sql.Composed([column])


def _parse(block: bytes, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """CSV as PostgreSQL writes it (null is nothing, an empty text is "") to a record batch."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    if not block:
        return pa.RecordBatch.from_pylist([], schema)
    lists = [name for name in schema.names if pa.types.is_list(schema.field(name).type)]
    table = csv.read_csv(
        pa.BufferReader(block),
        csv.ReadOptions(column_names=schema.names, use_threads=False, block_size=len(block) + 1),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types={name: pa.string() if name in lists else schema.field(name).type for name in schema.names},
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    for name in lists:
        joined = table[name]
        split = pc.if_else(pc.equal(joined, ""), pa.scalar([], schema.field(name).type), pc.split_pattern(joined, UNIT))
        table = table.set_column(schema.get_field_index(name), name, split)
    return table.combine_chunks().to_batches()[0]


def tool(module: str) -> Any:
    """A module of the extra `tools`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ConfigError(f"{package} is not installed", hint="pip install 'slf-store[tools]'") from None
