"""Where the values of many clips lie, as arrays, and reading them block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import Connection, text

from slf_store.db.columns import fetch_columns
from slf_store.shards.reader import map_shard
from slf_store.shards.rows import read_rows

BLOCK_BYTES = 64 << 20
"""Values read at a time."""
FEW = 16
"""Clips up to which no temporary table holds them: a session that may only read can look up as many."""

NEW_HELD = text("CREATE TEMP TABLE held_clip (position int NOT NULL, clip_id bigint NOT NULL) ON COMMIT DROP")
DROP_HELD = text("DROP TABLE IF EXISTS pg_temp.held_clip")
HOLD = text("""
    INSERT INTO held_clip (position, clip_id)
    SELECT ordinal - 1, clip_id
    FROM unnest(CAST(:clip_ids AS bigint[])) WITH ORDINALITY AS wanted (clip_id, ordinal)
""")
ANALYZE = text("ANALYZE held_clip")
PLACES = sql.SQL("""
    -- Where one constituent of the clips held lies, and the hash of each value.
    SELECT held_clip.position, extraction.shard_id, extraction.shard_row, coalesce(extraction.value_hash, 0)
    FROM held_clip
    JOIN extraction ON extraction.clip_id = held_clip.clip_id AND extraction.constituent_id = %(constituent)s
    WHERE extraction.state = 'done' AND extraction.shard_id IS NOT NULL AND extraction.shard_row IS NOT NULL
""")
PLACES_OF = sql.SQL("""
    -- The same of a few clips, which are given in the statement.
    SELECT (wanted.ordinal - 1)::int, extraction.shard_id, extraction.shard_row, coalesce(extraction.value_hash, 0)
    FROM unnest(%(clip_ids)s::bigint[]) WITH ORDINALITY AS wanted (clip_id, ordinal)
    JOIN extraction ON extraction.clip_id = wanted.clip_id AND extraction.constituent_id = %(constituent)s
    WHERE extraction.state = 'done' AND extraction.shard_id IS NOT NULL AND extraction.shard_row IS NOT NULL
""")
PLACE = (("position", ">i4"), ("shard", ">i8"), ("row", ">i4"), ("value_hash", ">i8"))
PATHS = text("SELECT id, path FROM shard WHERE id = ANY(:shards) ORDER BY path")


@dataclass(frozen=True)
class Places:
    """Where one constituent of n clips lies.

    Attributes:
        paths: shards, relative to the shard folder, in order.
        shard: (n,) int32 index into `paths`, -1 where a clip has none.
        row: (n,) int32 row in that shard.
        value_hash: (n,) int64 `extraction.value_hash`, 0 where there is none.
    """

    paths: tuple[str, ...]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    value_hash: NDArray[np.int64]

    @property
    def present(self) -> NDArray[np.bool_]:
        """(n,) bool."""
        return self.shard >= 0


def hold_clips(connection: Connection, clip_ids: NDArray[np.int64]) -> None:
    """Put clips, in their order, into the temporary table `held_clip` until the transaction ends."""
    connection.execute(DROP_HELD)
    connection.execute(NEW_HELD)
    connection.execute(HOLD, {"clip_ids": clip_ids.tolist()})
    connection.execute(ANALYZE)


def read_columns(
    connection: Connection, query: sql.Composable, columns: Sequence[tuple[str, str]], parameters: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """:func:`slf_store.db.columns.fetch_columns` in the connection's transaction."""
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.cursor() as cursor:
        return fetch_columns(cursor, query, columns, parameters)


def locate(connection: Connection, constituent_id: int, n: int) -> Places:
    """Where a constituent of the n clips held lies."""
    found = read_columns(connection, PLACES, PLACE, {"constituent": constituent_id})
    return _places(connection, found, n)


def locate_few(connection: Connection, constituent_id: int, clip_ids: NDArray[np.int64]) -> Places:
    """The same of at most :data:`FEW` clips, in a session that need not be able to write."""
    found = read_columns(connection, PLACES_OF, PLACE, {"constituent": constituent_id, "clip_ids": clip_ids.tolist()})
    return _places(connection, found, len(clip_ids))


def _places(connection: Connection, found: dict[str, Any], n: int) -> Places:
    ids, which = np.unique(found["shard"], return_inverse=True)
    by_path = connection.execute(PATHS, {"shards": ids.tolist()}).all()
    number = {key: index for index, (key, _) in enumerate(by_path)}
    shard, row, hashes = np.full(n, -1, np.int32), np.zeros(n, np.int32), np.zeros(n, np.int64)
    at = found["position"]
    if len(ids):
        shard[at] = np.array([number[key] for key in ids.tolist()], np.int32)[which]
    row[at], hashes[at] = found["row"], found["value_hash"]
    return Places(tuple(path for _, path in by_path), shard, row, hashes)


class BlockReader:
    """Values of one constituent of n clips, in their order, a block of at most 64 MiB at a time.

    Those of one shard are read in the order of its file, adjacent ones at once.

    Args:
        shards: the shard folder.
        places: where they lie.
        shape, dtype: of one clip's value.
    """

    def __init__(self, shards: Path, places: Places, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._shards, self.places, self.shape, self.dtype = shards, places, shape, dtype
        self.step = max(1, BLOCK_BYTES // max(1, int(np.prod(shape)) * dtype.itemsize))

    def __iter__(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """(which clips, their values (b, *shape), zeros where a clip has none).

        Raises:
            ShardError: a shard is missing, damaged, or holds values of another shape.
        """
        for start in range(0, len(self.places.shard), self.step):
            block = slice(start, min(start + self.step, len(self.places.shard)))
            yield block, self.read(block)

    def read(self, block: slice) -> NDArray[Any]:
        """Values of some clips."""
        values = np.zeros((block.stop - block.start, *self.shape), self.dtype)
        for path, wanted, rows in self._parts(block):
            read_rows(path, rows, values, wanted)
        return values

    def lengths(self, block: slice) -> NDArray[np.int32] | None:
        """True rows of each value; None where the constituent has no variable length."""
        lengths, variable = np.zeros(block.stop - block.start, np.int32), False
        for path, wanted, rows in self._parts(block):
            stored = map_shard(path).lengths
            if stored is not None:
                lengths[wanted], variable = stored[rows], True
        return lengths if variable else None

    def _parts(self, block: slice) -> Iterator[tuple[Path, NDArray[np.int64], NDArray[np.int64]]]:
        """Shard by shard: the file, which of the block's clips it holds, and in which rows."""
        shard, row = self.places.shard[block], self.places.row[block].astype(np.int64)
        order = np.argsort(shard, kind="stable")
        cuts = np.flatnonzero(np.diff(shard[order])) + 1
        for wanted in np.split(order, cuts):
            if len(wanted) and shard[wanted[0]] >= 0:
                yield self._shards / self.places.paths[int(shard[wanted[0]])], wanted, row[wanted]
