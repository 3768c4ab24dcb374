"""The second step: every shard that holds a row of the clips is written anew without it, or removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, text

from slf_store.errors import ShardError
from slf_store.faults import fault_point
from slf_store.jobs.commit import SEAL_LOCK
from slf_store.privacy.erase import HOLD_ALONE
from slf_store.shards.checksum import file_checksum
from slf_store.shards.reader import read_clip_ids, read_shard
from slf_store.shards.writer import TEMPORARY_PREFIX, seal_shard

if TYPE_CHECKING:
    from slf_store.store import Store

KNOWN = text("""
    SELECT shard.id, shard.checksum, EXISTS (SELECT FROM extraction WHERE shard_id = shard.id) AS used
    FROM shard WHERE path = :path FOR UPDATE
""")
MOVE = text("UPDATE shard SET path = :path, rows = :rows, bytes = :bytes, checksum = :checksum WHERE id = :id")
RENUMBER = text("""
    UPDATE extraction SET shard_row = moved.new
    FROM unnest(CAST(:old AS int[]), CAST(:new AS int[])) AS moved (old, new)
    WHERE extraction.shard_id = :id AND extraction.shard_row = moved.old
""")
DROP = text("DELETE FROM shard WHERE id = :id")
NOTE = text("""
    UPDATE erasure SET receipt = jsonb_set(receipt, '{shards}', receipt -> 'shards' || CAST(:note AS jsonb))
    WHERE id = :erasure
""")


def rewrite_shards(
    store: Store, erasure: int, clip_ids: list[int], progress: Callable[[int, int], None] | None = None
) -> None:
    """Go through all files of the shard folder; those that hold one of the clips are replaced. Safe to repeat.

    Other rows keep their bytes and their order. Files whose rows no extraction uses, files that no row of the database
    knows, and half-written files of crashed writers are removed where they hold one of the clips or cannot be read.
    """
    erased = np.array(clip_ids, np.int64)
    files = [path for path in sorted(store.shards.rglob("*")) if path.is_file()]
    for done, path in enumerate(files):
        if _concerned(path, erased):
            _replace(store, erasure, path, erased)
        if progress is not None:
            progress(done + 1, len(files))


def _concerned(path: Path, erased: Any) -> bool:
    """Whether a file holds one of the clips, or may: one that cannot be read is looked at again under the lock."""
    if path.name.startswith(TEMPORARY_PREFIX):
        return True
    try:
        return bool(np.isin(read_clip_ids(path), erased).any())
    except ShardError:
        return True


def _replace(store: Store, erasure: int, path: Path, erased: Any) -> None:
    name = path.relative_to(store.shards).as_posix()
    with store.engine.begin() as connection:
        connection.execute(HOLD_ALONE, {"key": SEAL_LOCK})  # whoever wrote a temporary file has died or renamed it
        if not path.is_file():
            return
        row = connection.execute(KNOWN, {"path": name}).one_or_none()
        if row is not None and row.used:
            note = _rewrite(connection, store, row.id, path, erased)
        else:
            if row is not None:
                connection.execute(DROP, {"id": row.id})
            folder = path.relative_to(store.shards).parts
            note = {"constituent": folder[0], "version": folder[1] if len(folder) > 2 else None, "after": None}
        note["before"] = row.checksum if row is not None else file_checksum(path)
        connection.execute(NOTE, {"erasure": erasure, "note": json.dumps([note])})
    fault_point("forget.shard_committed")
    path.unlink()  # a crash before this leaves a file that no row knows, and that the next pass removes
    fault_point("forget.shard_rewritten")


def _rewrite(connection: Connection, store: Store, key: int, path: Path, erased: Any) -> dict[str, Any]:
    old = read_shard(path)
    keep = ~np.isin(old.clip_ids, erased)
    new = seal_shard(
        store.shards,
        constituent=old.constituent,
        version=old.version,
        spec=old.spec,
        clip_ids=old.clip_ids[keep],
        values=old.values[keep],
        lengths=None if old.lengths is None else old.lengths[keep],
    )
    fault_point("forget.shard_sealed")
    values = {"id": key, "path": new.path, "rows": new.rows, "bytes": new.bytes, "checksum": new.checksum}
    connection.execute(MOVE, values)
    rows = np.flatnonzero(keep)
    connection.execute(RENUMBER, {"id": key, "old": rows.tolist(), "new": list(range(len(rows)))})
    return {
        "constituent": old.constituent,
        "version": old.version,
        "rows_removed": int((~keep).sum()),
        "after": new.checksum,
    }
