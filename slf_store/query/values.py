"""Reading one constituent for some clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.errors import NotFoundInStore
from slf_store.shards.rows import read_rows

if TYPE_CHECKING:
    from slf_store.store import Store

LOCATIONS = text("""
    -- Where the values of some clips lie.
    SELECT wanted.position, shard.path, extraction.shard_row
    FROM unnest(CAST(:clip_ids AS bigint[])) WITH ORDINALITY AS wanted (clip_id, position)
    JOIN extraction ON extraction.clip_id = wanted.clip_id AND extraction.constituent_id = :constituent
    JOIN shard ON shard.id = extraction.shard_id
    WHERE extraction.state = 'done'
    ORDER BY shard.path, extraction.shard_row
""")

ACTIVE = text("""
    -- The active version of a constituent made last.
    SELECT id, name, version, kind, shape, dtype FROM constituent
    WHERE name = :name AND status = 'active' ORDER BY created_at DESC, id DESC LIMIT 1
""")


def active_constituent(connection: Connection, name: str) -> dict[str, Any]:
    """Row of the active version of a constituent (the newest, should there be several).

    Raises:
        NotFoundInStore: there is none.
    """
    row = connection.execute(ACTIVE, {"name": name}).mappings().first()
    if row is None:
        raise NotFoundInStore(f"the store has no constituent {name!r}", hint="run `slf extract`, or see `slf coverage`")
    return dict(row)


def read_constituent(store: Store, name: str, clip_ids: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of the active version of an array constituent.

    Args:
        store: open store.
        name: constituent.
        clip_ids: (n,) int64, in any order.

    Returns:
        values (n, *shape), zeros where a clip has none, and present (n,) bool.

    Raises:
        NotFoundInStore: no such constituent.
        ShardError: a shard is missing or damaged.
    """
    with store.engine.connect() as connection:
        row = active_constituent(connection, name)
        locations = read_locations(connection, row["id"], clip_ids)
    return gather(store.shards, locations, len(clip_ids), tuple(row["shape"]), np.dtype(row["dtype"]))


def read_locations(
    connection: Connection, constituent_id: int, clip_ids: NDArray[np.int64]
) -> list[tuple[int, str, int]]:
    """(position in clip_ids, shard path, row) of every clip that has the constituent, in the order of the shards."""
    found = connection.execute(LOCATIONS, {"clip_ids": clip_ids.tolist(), "constituent": constituent_id})
    return [(position - 1, path, row) for position, path, row in found]


def gather(
    shards: Path, locations: list[tuple[int, str, int]], n: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read rows of shards, those of one shard in the order of its file: values (n, *shape) and present (n,)."""
    values = np.zeros((n, *shape), dtype)
    present = np.zeros(n, bool)
    start = 0
    while start < len(locations):
        stop = start
        while stop < len(locations) and locations[stop][1] == locations[start][1]:
            stop += 1
        block = locations[start:stop]
        positions = np.array([position for position, _, _ in block])
        read_rows(shards / block[0][1], np.array([row for _, _, row in block]), values, positions)
        present[positions] = True
        start = stop
    return values, present
