"""What changed under a snapshot since it was frozen: values lost, made anew, retired; clips erased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.errors import SelectionError, ShardError
from slf_store.query.locate import Places, hold_clips, locate
from slf_store.query.snapshot import snapshot_row

if TYPE_CHECKING:
    from slf_store.store import Store

SHOWN = 3
"""Clips named of each change."""

CONSTITUENTS = text("""
    SELECT constituent.id, constituent.name, constituent.version, constituent.shape, constituent.dtype,
           constituent.status, constituent.kind, constituent.spec, used.missing_clips, used.data_checksum
    FROM snapshot_constituent used
    JOIN constituent ON constituent.id = used.constituent_id
    WHERE used.snapshot_id = :snapshot ORDER BY constituent.name
""")
FROZEN = text("""
    SELECT present, value_hashes FROM snapshot_constituent
    WHERE snapshot_id = :snapshot AND constituent_id = :constituent
""")
CLIPS = text("SELECT position, clip_id FROM snapshot_clip WHERE snapshot_id = :snapshot ORDER BY position")
KEYS = text("""
    SELECT clip.id, identity.name || '/' || video.name || '/' || clip.name AS key
    FROM clip JOIN video ON video.id = clip.video_id JOIN identity ON identity.id = video.identity_id
    WHERE clip.id = ANY(:clips) ORDER BY 2
""")


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was when a snapshot was frozen.

    Attributes:
        constituent: `name@version`; None where clips themselves are gone.
        what: `retired`, `lost` (no value any more), `changed` (another value), or `erased`.
        clips: how many.
        clip_ids: some of them.
    """

    constituent: str | None
    what: str
    clips: int
    clip_ids: tuple[int, ...] = ()


def held_against(
    connection: Connection,
    snapshot: dict[str, Any],
    entry: dict[str, Any],
    positions: NDArray[np.int64],
    clip_ids: NDArray[np.int64],
    *,
    whole: bool,
) -> tuple[Places, list[Change]]:
    """Where a constituent of the clips held lies, and how it differs from what was frozen.

    A value that a clip did not have when frozen is left out of the places. Of a snapshot made before value hashes were
    kept only the number of missing clips is known.

    Args:
        connection: the clips are held (:func:`slf_store.query.locate.hold_clips`).
        snapshot: its row.
        entry: row of :data:`CONSTITUENTS`.
        positions: (n,) int64 of the clips held, in the snapshot.
        clip_ids: (n,) int64, the clips held.
        whole: whether all of them are held.
    """
    name = f"{entry['name']}@{entry['version']}"
    places = locate(connection, entry["id"], len(positions))
    if entry["status"] != "active":
        return places, [Change(name, "retired", len(positions))]
    frozen = connection.execute(FROZEN, {"snapshot": snapshot["id"], "constituent": entry["id"]}).one()
    if frozen.value_hashes is None:
        lost = int((~places.present).sum()) - (entry["missing_clips"] if whole else len(positions))
        return places, [Change(name, "lost", lost)] if lost > 0 else []
    had = np.unpackbits(np.frombuffer(frozen.present, np.uint8), count=snapshot["clips"]).astype(bool)[positions]
    hashes = np.frombuffer(frozen.value_hashes, "<i8")[positions]
    lost_at = np.flatnonzero(had & ~places.present)
    changed_at = np.flatnonzero(had & places.present & (places.value_hash != hashes))
    found = [
        Change(name, what, len(at), tuple(clip_ids[at[:SHOWN]].tolist()))
        for what, at in (("lost", lost_at), ("changed", changed_at))
        if len(at)
    ]
    return replace(places, shard=np.where(had, places.shard, -1).astype(np.int32)), found


def require_complete(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The snapshot's row, if none of its clips was erased.

    Raises:
        SelectionError: clips of it were erased since it was frozen.
    """
    if snapshot["erased_clips"]:
        raise SelectionError(
            f"snapshot {snapshot['name']} is no longer complete: {snapshot['erased_clips']} of its {snapshot['clips']} "
            f"clips were erased (the first on {snapshot['incomplete_since']:%Y-%m-%d})",
            hint="freeze the selection anew under another name",
        )
    return snapshot


def require_unchanged(
    connection: Connection,
    snapshot: dict[str, Any],
    positions: NDArray[np.int64],
    clip_ids: NDArray[np.int64],
    *,
    whole: bool,
) -> list[tuple[dict[str, Any], Places]]:
    """(row of :data:`CONSTITUENTS`, places) of every constituent of a snapshot, as they were when it was frozen.

    Args:
        connection: in a transaction.
        snapshot: its row.
        positions, clip_ids: (n,) int64 of the clips wanted.
        whole: whether these are all clips of the snapshot.

    Raises:
        ShardError: something is not as it was; says what.
    """
    hold_clips(connection, clip_ids)
    found: list[tuple[dict[str, Any], Places]] = []
    changed: list[Change] = []
    for row in connection.execute(CONSTITUENTS, {"snapshot": snapshot["id"]}).mappings().all():
        places, changes = held_against(connection, snapshot, dict(row), positions, clip_ids, whole=whole)
        found.append((dict(row), places))
        changed += changes
    if changed:
        raise ShardError(
            f"snapshot {snapshot['name']} no longer matches the store: {describe(connection, changed)}",
            hint=f"`slf snapshot show {snapshot['name']}` lists it; freeze the selection anew under another name",
        )
    return found


def changes(store: Store, name: str) -> list[Change]:
    """Everything that changed under a snapshot since it was frozen; nothing is read from shards.

    Raises:
        NotFoundInStore: no such snapshot.
    """
    row = snapshot_row(store, name)
    found = [Change(None, "erased", row["erased_clips"])] if row["erased_clips"] else []
    with store.engine.begin() as connection:
        rows = connection.execute(CLIPS, {"snapshot": row["id"]}).all()
        positions, ids = (np.array([r[i] for r in rows], np.int64) for i in (0, 1))
        hold_clips(connection, ids)
        for entry in connection.execute(CONSTITUENTS, {"snapshot": row["id"]}).mappings().all():
            whole = not row["erased_clips"]
            found += held_against(connection, row, dict(entry), positions, ids, whole=whole)[1]
    return found


def clip_keys(connection: Connection, change: Change) -> list[str]:
    """Natural keys `identity/video/clip` of the clips a change names."""
    return [row.key for row in connection.execute(KEYS, {"clips": list(change.clip_ids)})]


def describe(connection: Connection, found: Sequence[Change]) -> str:
    """Changes in one line, with clips by their natural key."""
    told = []
    for change in found:
        if change.what == "retired":
            told.append(f"{change.constituent} was retired")
            continue
        keys = clip_keys(connection, change)
        of = f" ({', '.join(keys)}{', …' if change.clips > len(keys) else ''})" if keys else ""
        told.append(f"{change.constituent or 'snapshot'}: {change.clips} clips {change.what}{of}")
    return "; ".join(told)
