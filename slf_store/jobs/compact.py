"""Compaction: the small shards of a constituent version become large ones, while readers read and writers write.

Every merged shard is one transaction: its file is sealed, the extraction rows are pointed at it, and the shards they
lay in are marked superseded. Their files stay for readers that have them open or know their path, until `slf gc` finds
them older than `shard_grace_hours`. Values are copied as they are stored, so no snapshot's hash changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from slf_store.db.locks import COMPACT_LOCK, HOLD_SEAL_LOCK, RELEASE_LOCK, SEAL_LOCK, TRY_LOCK
from slf_store.db.staging import copy_rows
from slf_store.errors import ConfigError, ShardError
from slf_store.faults import fault_point
from slf_store.jobs.constituents import require_names
from slf_store.shards.checksum import file_checksum
from slf_store.shards.merge import Part, merge_shards
from slf_store.shards.writer import SealedShard
from slf_store.store import Store

TARGET_ROWS = 4096
TARGET_BYTES = 256 << 20
MOVED = [("shard_id", "int8"), ("shard_row", "int4"), ("clip_id", "int8"), ("new_row", "int4")]

SHARDS = text("""
    -- Sealed shards with the rows still in use, in the order they were made.
    SELECT shard.id, shard.constituent_id, constituent.name, constituent.version, shard.path, shard.rows, shard.bytes,
           shard.checksum, coalesce(used.rows, 0) AS live
    FROM shard
    JOIN constituent ON constituent.id = shard.constituent_id
    LEFT JOIN (SELECT constituent_id, shard_id, count(*) AS rows FROM extraction
               WHERE shard_id IS NOT NULL GROUP BY constituent_id, shard_id) used
        ON used.constituent_id = shard.constituent_id AND used.shard_id = shard.id
    WHERE shard.state = 'sealed'
    ORDER BY constituent.name, constituent.id, shard.id
""")

STILL_SEALED = text("SELECT id FROM shard WHERE id = ANY(:shards) AND state = 'sealed'")

LIVE_ROWS = text("""
    SELECT shard_id, shard_row, clip_id FROM extraction
    WHERE constituent_id = :constituent AND shard_id = ANY(:shards) AND state = 'done'
    ORDER BY shard_id, shard_row
""")

NEW_SHARD = text("""
    INSERT INTO shard (constituent_id, path, rows, bytes, checksum)
    VALUES (:constituent, :path, :rows, :bytes, :checksum) RETURNING id
""")

REPOINT = text("""
    -- Only rows that still lie where they were read. One that another transaction is just changing is left where it
    -- is, and its shard with it: compaction waits for nobody's rows, so it can be in no deadlock.
    WITH free AS (
        SELECT extraction.clip_id, moved.new_row
        FROM extraction
        JOIN moved ON moved.clip_id = extraction.clip_id AND moved.shard_id = extraction.shard_id
                  AND moved.shard_row = extraction.shard_row
        WHERE extraction.constituent_id = :constituent AND extraction.state = 'done'
        FOR NO KEY UPDATE OF extraction SKIP LOCKED
    )
    UPDATE extraction SET shard_id = :merged, shard_row = free.new_row
    FROM free
    WHERE extraction.constituent_id = :constituent AND extraction.clip_id = free.clip_id
""")

SUPERSEDE = text("""
    UPDATE shard SET state = 'superseded', superseded_at = now()
    WHERE id = ANY(:shards)
      AND NOT EXISTS (SELECT 1 FROM extraction
                      WHERE extraction.constituent_id = :constituent AND extraction.shard_id = shard.id)
""")

Progress = Callable[[int, int], None]


@dataclass
class Compacted:
    """What compaction came to for one constituent version.

    Attributes:
        constituent, version: which.
        shards_before, shards_after: sealed shards.
        bytes_before, bytes_after: their size.
        dropped_rows: rows of the merged shards that no clip used any more.
        damaged: shards left alone because they are not what the database says.
    """

    constituent: str
    version: str
    shards_before: int = 0
    shards_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    dropped_rows: int = 0
    damaged: list[str] = field(default_factory=list)


def compact(
    store: Store,
    only: Collection[str] = (),
    *,
    target_rows: int = TARGET_ROWS,
    target_bytes: int = TARGET_BYTES,
    progress: Progress | None = None,
) -> list[Compacted]:
    """Merge small shards. Safe to repeat, to interrupt, and beside readers and writers.

    Args:
        store: open store.
        only: constituent names; all by default.
        target_rows, target_bytes: a merged shard has at most this many; shards of half as many are left alone.
        progress: called with (bytes read, bytes to read).

    Returns:
        One report for each constituent version that has shards.

    Raises:
        ConfigError: another compaction is at work.
        NotFoundInStore: there is no constituent of a name in `only`.
        ShardError: a merged shard cannot be written (disk full); those merged before stay.
    """
    reports: list[Compacted] = []
    with _alone(store):
        with store.engine.connect() as connection:
            require_names(connection, only)
            shards = [dict(row) for row in connection.execute(SHARDS).mappings()]
        shards = [shard for shard in shards if not only or shard["name"] in only]
        work = {
            key: list(groups([s for s in shards if s["constituent_id"] == key], target_rows, target_bytes))
            for key in dict.fromkeys(shard["constituent_id"] for shard in shards)
        }
        total = sum(shard["bytes"] for grouped in work.values() for group in grouped for shard in group)
        done = 0
        for key, grouped in work.items():
            mine = [shard for shard in shards if shard["constituent_id"] == key]
            size = sum(shard["bytes"] for shard in mine)
            report = Compacted(mine[0]["name"], mine[0]["version"], len(mine), len(mine), size, size)
            reports.append(report)
            for group in grouped:
                _merge(store, group, report)
                fault_point("compact.committed")
                done += sum(shard["bytes"] for shard in group)
                if progress:
                    progress(done, total)
    return reports


def groups(shards: Sequence[dict[str, Any]], target_rows: int, target_bytes: int) -> Iterator[list[dict[str, Any]]]:
    """Shards of one constituent version to be merged with each other, in their order.

    A shard is small while it has less than half the rows and bytes aimed at, counting rows in use only. A single shard
    is written anew where at least half of its rows are not in use.

    >>> def shard(rows, live): return {"rows": rows, "bytes": rows * 10, "live": live}
    >>> [len(group) for group in groups([shard(4, 4)] * 5 + [shard(90, 90), shard(4, 1)], 12, 1000)]
    [3, 3]
    """
    waiting: list[dict[str, Any]] = []
    rows = size = 0.0
    for shard in shards:
        live = shard["live"]
        weight = shard["bytes"] * live / shard["rows"]
        if not live or live * 2 > target_rows or weight * 2 > target_bytes:
            continue
        if waiting and (rows + live > target_rows or size + weight > target_bytes):
            yield from _worthwhile(waiting)
            waiting, rows, size = [], 0.0, 0.0
        waiting.append(shard)
        rows, size = rows + live, size + weight
    yield from _worthwhile(waiting)


def _worthwhile(group: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    if len(group) > 1 or any(shard["live"] * 2 <= shard["rows"] for shard in group):
        yield group


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    with store.engine.connect() as connection:
        if not connection.execute(TRY_LOCK, {"key": COMPACT_LOCK}).scalar_one():
            raise ConfigError("another compaction of this store is at work", hint="wait until it is done")
        connection.commit()
        try:
            yield
        finally:
            connection.execute(RELEASE_LOCK, {"key": COMPACT_LOCK})
            connection.commit()


def _merge(store: Store, group: Sequence[dict[str, Any]], report: Compacted) -> None:
    """Merge one group in one transaction."""
    with store.engine.begin() as connection:
        connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
        sealed = set(connection.execute(STILL_SEALED, {"shards": [shard["id"] for shard in group]}).scalars())
        sound = [shard for shard in group if shard["id"] in sealed and _is_sound(store, shard, report)]
        if len(sound) < 2 and len(sound) < len(group):  # retired or damaged meanwhile
            return
        constituent, ids = sound[0]["constituent_id"], [shard["id"] for shard in sound]
        rows = connection.execute(LIVE_ROWS, {"constituent": constituent, "shards": ids}).all()
        if not rows:
            return
        merged = merge_shards(store.shards / sound[0]["name"] / sound[0]["version"], _parts(store, sound, rows))
        fault_point("compact.sealed")
        retired = _repoint(connection, constituent, ids, merged, rows)
    report.shards_after += 1 - retired
    report.bytes_after += merged.bytes - sum(shard["bytes"] for shard in sound)
    report.dropped_rows += sum(shard["rows"] for shard in sound) - merged.rows


def _repoint(
    connection: Connection, constituent: int, shards: list[int], merged: SealedShard, rows: Sequence[Any]
) -> int:
    """Point the rows at the merged shard; how many of the old ones hold nothing any more."""
    row = {"constituent": constituent, "path": merged.path, "rows": merged.rows}
    key = connection.execute(NEW_SHARD, row | {"bytes": merged.bytes, "checksum": merged.checksum}).scalar_one()
    moved = [(shard, at, clip, new) for new, (shard, at, clip) in enumerate(rows)]
    copy_rows(connection, "moved", MOVED, moved)
    connection.execute(REPOINT, {"constituent": constituent, "merged": key})
    fault_point("compact.repointed")
    return connection.execute(SUPERSEDE, {"constituent": constituent, "shards": shards}).rowcount


def _is_sound(store: Store, shard: dict[str, Any], report: Compacted) -> bool:
    """Whether the file is what was sealed: damage must not be copied under a fresh checksum."""
    try:
        sound = bool(file_checksum(store.shards / shard["path"]) == shard["checksum"])
    except OSError:
        sound = False
    if not sound:
        report.damaged.append(shard["path"])
    return sound


def _parts(store: Store, shards: Sequence[dict[str, Any]], rows: Sequence[Any]) -> list[Part]:
    paths = {shard["id"]: store.shards / shard["path"] for shard in shards}
    parts = []
    for shard, block in groupby(rows, key=lambda row: row[0]):
        found = list(block)
        at = np.array([row[1] for row in found], np.int64)
        parts.append(Part(paths[shard], at, np.array([row[2] for row in found], np.int64)))
    return parts


def damaged(reports: Sequence[Compacted]) -> None:
    """Say which shards were left alone.

    Raises:
        ShardError: some were damaged.
    """
    found = [path for report in reports for path in report.damaged]
    if found:
        raise ShardError(f"{len(found)} damaged shards were left alone, the first: {found[0]}", hint="run `slf verify`")
