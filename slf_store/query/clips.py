"""The view `clips` as a SQLAlchemy table, and the columns of it that a selection reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor, sql
from psycopg.errors import Error, QueryCanceled
from sqlalchemy import ARRAY, BigInteger, Boolean, ColumnElement, DateTime, Double, Integer, String, column, table
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import CompileError

from slf_store.db.columns import fetch_columns
from slf_store.db.readonly import read_only
from slf_store.errors import SelectionError

if TYPE_CHECKING:
    from slf_store.db.readers import Role
    from slf_store.store import Store

Columns = dict[str, NDArray[Any]]
"""{column: (n,)}: clip_id int64, duration_s float64 (0 where unknown), synthetic int32; else Python objects or None."""

clips = table(
    "clips",
    column("clip_id", BigInteger),
    column("source", String),
    column("split", String),
    column("identity", String),
    column("video", String),
    column("clip", String),
    column("path", String),
    column("state", String),
    column("reason", String),
    column("duration_s", Double),
    column("fps", Double),
    column("frames", Integer),
    column("width", Integer),
    column("height", Integer),
    column("has_audio", Boolean),
    column("audio_rate", Integer),
    column("audio_channels", Integer),
    column("age", Double),
    column("age_source", String),
    column("gender", String),
    column("gender_source", String),
    column("ethnicity", String),
    column("ethnicity_source", String),
    column("language", String),
    column("language_source", String),
    column("synthetic", Boolean),
    column("file_bytes", BigInteger),
    column("age_score", Double),
    column("gender_score", Double),
    column("ethnicity_score", Double),
    column("language_score", Double),
    column("audio_path", String),
    column("vanished_at", DateTime(timezone=True)),
    column("meta", JSONB),
    column("constituents", ARRAY(String)),
    column("face_confidence", Double),
    column("face_width", Integer),
    column("faces_in_frame", Integer),
)
"""Public table object of the view, for predicates in Python: `store.select(clips.c.gender == "f")`."""

READ = {
    "clip_id": "clip_id",
    "source": "source",
    "split": "split",
    "identity": "identity",
    "video": "video",
    "clip": "clip",
    "duration_s": "coalesce(duration_s, 0)",
    "age": "coalesce(age, 'nan')",
    "gender": "gender",
    "ethnicity": "ethnicity",
    "language": "language",
    "synthetic": "synthetic::int",
}
"""What a selection reads of each clip, and how it is asked for."""
KINDS = {"clip_id": ">i8", "duration_s": ">f8", "age": ">f8", "synthetic": ">i4"}


def as_sql(predicate: str | ColumnElement[bool]) -> str:
    """A predicate as SQL text, its values quoted by SQLAlchemy; text stays as it is.

    >>> as_sql((clips.c.gender == "f") & (clips.c.duration_s >= 5))
    "clips.gender = 'f' AND clips.duration_s >= 5"

    Raises:
        SelectionError: the expression cannot be written down.
    """
    if isinstance(predicate, str):
        return predicate
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    try:
        return str(predicate.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    except (CompileError, NotImplementedError) as error:
        raise SelectionError(f"predicate: {error}", hint="write it as SQL text") from None


def matching(store: Store, predicate: str) -> Columns:
    """Columns :data:`READ` of the clips that fit, in natural order (split, identity, video, clip).

    Evaluated in a read-only session of the researchers' reader, under `statement_timeout_s`.

    Raises:
        SelectionError: the predicate is no valid condition, or takes too long.
    """
    query = sql.SQL("""
        SELECT {} FROM clips WHERE state = 'ok' AND ({}
        ) ORDER BY split COLLATE "C", identity COLLATE "C", video COLLATE "C", clip COLLATE "C", source COLLATE "C"
    """).format(sql.SQL(", ").join(map(sql.SQL, READ.values())), sql.SQL(predicate.replace("%", "%%")))
    with checked(store, predicate) as cursor:
        kinds = [(name, KINDS.get(name, "text")) for name in READ]
        found = fetch_columns(cursor, query, kinds, {})
    age = found["age"].tolist()
    return found | {"age": np.fromiter((None if a != a else a for a in age), object, len(age))}


@contextmanager
def checked(store: Store, predicate: str, role: Role = "researcher") -> Iterator[Cursor[dict[str, Any]]]:
    """A cursor for statements that hold a predicate: a read-only session of the role, under `statement_timeout_s`.

    Raises:
        SelectionError: the predicate is no valid condition, asks for what the role may not see, or takes too long.
    """
    with read_only(store.engine, role, store.settings.statement_timeout_s) as cursor:
        try:
            yield cursor
        except QueryCanceled:
            raise SelectionError(
                f"predicate {predicate!r}: stopped after {store.settings.statement_timeout_s:g} s",
                hint="narrow it, or raise SLF_STATEMENT_TIMEOUT_S; over a whole catalogue "
                "clip_id IN (SELECT clip_id FROM values_of('mel')) is faster than 'mel' = ANY(constituents)",
            ) from None
        except Error as error:
            raise SelectionError(
                f"predicate {predicate!r}: {str(error).strip().partition(chr(10))[0]}",
                hint="write a condition over the view clips, e.g. \"gender = 'f' AND duration_s >= 5\"",
            ) from None


def take(columns: Columns, which: NDArray[Any]) -> Columns:
    """Some of the rows: by index, or by a mask."""
    return {name: values[which] for name, values in columns.items()}


def keys(columns: Columns) -> list[str]:
    """Natural keys `split/identity/video/clip`: the same in every store, whatever the source is called."""
    parts = [columns[name].tolist() for name in ("split", "identity", "video", "clip")]
    return list(map("/".join, zip(*parts, strict=True)))
