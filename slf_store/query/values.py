"""Reading one constituent for some clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.errors import NotFoundInStore
from slf_store.query.locate import FEW, BlockReader, hold_clips, locate, locate_few

if TYPE_CHECKING:
    from slf_store.store import Store

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
    with store.engine.begin() as connection:
        row = active_constituent(connection, name)
        return read_values(store, connection, row["id"], tuple(row["shape"]), np.dtype(row["dtype"]), clip_ids)


def read_values(
    store: Store,
    connection: Connection,
    constituent_id: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    clip_ids: NDArray[np.int64],
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The same of one version, in the connection's transaction."""
    if len(clip_ids) <= FEW:
        places = locate_few(connection, constituent_id, clip_ids)
    else:
        hold_clips(connection, clip_ids)
        places = locate(connection, constituent_id, len(clip_ids))
    return BlockReader(store.shards, places, shape, dtype).read(slice(0, len(clip_ids))), places.present
