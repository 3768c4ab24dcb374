"""One constituent as numpy arrays, for any clips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.query.arrow import clip_ids_of
from slf_store.query.values import active_constituent, read_values

if TYPE_CHECKING:
    from slf_store.store import Store

VERSIONS = text("""
    -- Versions of a constituent that begin with some letters.
    SELECT id, name, version, kind, shape, dtype, status FROM constituent
    WHERE name = :name AND starts_with(version, :version) ORDER BY created_at
""")


class Values(NamedTuple):
    """What some clips have of a constituent.

    Attributes:
        values: (n, *shape), zeros where a clip has none.
        present: (n,) bool.
        clip_ids: (n,) int64, as asked for.
    """

    values: NDArray[Any]
    present: NDArray[np.bool_]
    clip_ids: NDArray[np.int64]


class Constituent:
    """One version of an array constituent of a store.

    Example::

        ecapa = store.constituent("ecapa")
        values, present, clip_ids = ecapa.read("gender = 'f'")

    Args:
        store: open store.
        name: `ecapa`: its active version, or `ecapa@1f0c`: the one that begins so.

    Attributes:
        name, version: which.
        shape, dtype: of one clip's value.

    Raises:
        NotFoundInStore: there is none, or that version was retired.
        SelectionError: several versions begin so, or its values are no arrays.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        row = _find(store, *name.partition("@")[::2])
        if row["kind"] != "array":
            raise SelectionError(
                f"{row['name']} is kept in PostgreSQL ({row['kind']}), not as arrays",
                hint="read it by SQL: attributes are in the view clips, embeddings in face_embedding",
            )
        self._id = row["id"]
        self.name: str = row["name"]
        self.version: str = row["version"]
        self.shape: tuple[int, ...] = tuple(row["shape"])
        self.dtype: np.dtype[Any] = np.dtype(row["dtype"])

    def __repr__(self) -> str:
        return f"<constituent {self.name}@{self.version} {self.shape} {self.dtype}>"

    def read(self, clips: Any = "true") -> Values:
        """Values of some clips, in their order, read in the order of the files.

        Args:
            clips: SQL predicate over the view `clips`, selection, manifest, `store.clips(…)`, or (n,) clip ids.

        Raises:
            SelectionError: these are no clips.
            ShardError: a shard is missing or damaged.
        """
        return self._read(clip_ids_of(self._store, clips))

    def read_batches(self, clips: Any = "true", size: int = 1024) -> Iterator[Values]:
        """The same, `size` clips at a time: memory for one batch is all it takes.

        Raises:
            SelectionError: these are no clips, or `size` is below 1.
            ShardError: a shard is missing or damaged.
        """
        if size < 1:
            raise SelectionError(f"batches of {size} clips", hint="use 1 or more")
        ids = clip_ids_of(self._store, clips)
        for start in range(0, len(ids), size):
            yield self._read(ids[start : start + size])

    def _read(self, ids: NDArray[np.int64]) -> Values:
        with self._store.engine.begin() as connection:
            return Values(*read_values(self._store, connection, self._id, self.shape, self.dtype, ids), ids)


def _find(store: Store, name: str, version: str) -> dict[str, Any]:
    with store.engine.connect() as connection:
        if not version:
            return active_constituent(connection, name)
        found = [dict(row) for row in connection.execute(VERSIONS, {"name": name, "version": version}).mappings()]
    if not found:
        raise NotFoundInStore(f"the store has no constituent {name}@{version}", hint="see `slf constituents --retired`")
    if len(found) > 1:
        versions = ", ".join(row["version"] for row in found)
        raise SelectionError(f"{name}@{version} could be {versions}", hint="give more letters of the version")
    if found[0]["status"] != "active":
        raise NotFoundInStore(
            f"{name}@{found[0]['version']} was retired: its values are gone",
            hint="extract it again under the settings that made it",
        )
    return found[0]
