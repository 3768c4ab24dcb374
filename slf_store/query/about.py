"""What a snapshot holds, and how two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql
from sqlalchemy import Connection, text

from slf_store.query.drift import changes, clip_keys
from slf_store.query.locate import read_columns
from slf_store.query.snapshot import snapshot_row

if TYPE_CHECKING:
    from slf_store.store import Store

EXAMPLES = 5
"""Clips named of each kind of difference."""

USED = text("""
    SELECT constituent.name, constituent.version, constituent.status, used.missing_clips AS missing
    FROM snapshot_constituent used JOIN constituent ON constituent.id = used.constituent_id
    WHERE used.snapshot_id = :snapshot ORDER BY constituent.name
""")
COUNTS = text("""
    SELECT count(*) FILTER (WHERE part = 'train') AS train, count(*) FILTER (WHERE part = 'validation') AS validation,
           count(DISTINCT identity.name) AS identities, coalesce(sum(clip.duration_s), 0) / 3600 AS hours
    FROM snapshot_clip
    JOIN clip ON clip.id = snapshot_clip.clip_id
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    WHERE snapshot_id = :snapshot
""")
RUNS = text("SELECT name FROM run WHERE snapshot_id = :snapshot ORDER BY name")
EXPORTS = text("""
    SELECT detail ->> 'folder' FROM audit_log WHERE action = 'export' AND detail ->> 'hash' = :hash ORDER BY id
""")
FROZEN = """
    WITH frozen AS (
        SELECT snapshot_id, position, part, jsonb_build_array(age, gender, ethnicity, language) AS attributes,
               video.split || '/' || identity.name || '/' || video.name || '/' || clip.name AS key
        FROM snapshot_clip
        JOIN clip ON clip.id = snapshot_clip.clip_id
        JOIN video ON video.id = clip.video_id
        JOIN identity ON identity.id = video.identity_id
    )
"""
COMMON = sql.SQL(f"""
    -- Where the clips that two snapshots share stand in each.
    {FROZEN}
    SELECT a.position, b.position FROM frozen a JOIN frozen b ON b.key = a.key
    WHERE a.snapshot_id = %(a)s AND b.snapshot_id = %(b)s
""")
HASHES = text("""
    SELECT constituent.name, used.value_hashes
    FROM snapshot_constituent used JOIN constituent ON constituent.id = used.constituent_id
    WHERE used.snapshot_id = :snapshot AND used.value_hashes IS NOT NULL
""")
DIFFERENCES = text(f"""
    -- Clips of two snapshots by natural key, where they are not the same in both.
    {FROZEN}
    SELECT coalesce(a.key, b.key) AS key, a.key IS NULL AS added, b.key IS NULL AS removed,
           a.part <> b.part AS moved, a.attributes <> b.attributes AS restated
    FROM (SELECT * FROM frozen WHERE snapshot_id = :a) a
    FULL JOIN (SELECT * FROM frozen WHERE snapshot_id = :b) b ON b.key = a.key
    WHERE a.key IS NULL OR b.key IS NULL OR a.part <> b.part OR a.attributes <> b.attributes
    ORDER BY 1
""")


def about(store: Store, name: str) -> dict[str, Any]:
    """Facts of a snapshot for people and JSON; `changes` is empty while the store still holds what was frozen.

    Raises:
        NotFoundInStore: no such snapshot.
    """
    row, found = snapshot_row(store, name), changes(store, name)
    key = {"snapshot": row["id"]}
    with store.engine.connect() as connection:
        counts = dict(connection.execute(COUNTS, key).mappings().one())
        changed = [
            {"constituent": change.constituent, "what": change.what, "clips": change.clips}
            | {"for_example": ", ".join(clip_keys(connection, change))}
            for change in found
        ]
        return {
            **{k: row[k] for k in ("name", "hash", "predicate", "layout", "missing", "seed", "clips")},
            **counts,
            "hours": round(float(counts["hours"]), 3),
            "chosen": row["chosen"],
            "created_by": row["created_by"],
            "created_at": row["created_at"],
            "runs": list(connection.execute(RUNS, key).scalars()),
            "exported_to": list(connection.execute(EXPORTS, {"hash": row["hash"]}).scalars()),
            "constituents": [dict(used) for used in connection.execute(USED, key).mappings()],
            "changes": changed,
        }


def diff(store: Store, a: str, b: str) -> dict[str, Any]:
    """How snapshot `b` differs from `a`; `same` is whether their hashes are equal.

    Clips are compared by natural key, constituents by version and, on the clips both have, by the hash of each value.

    Raises:
        NotFoundInStore: no such snapshot.
    """
    one, two = snapshot_row(store, a), snapshot_row(store, b)
    with store.engine.connect() as connection:
        rows = connection.execute(DIFFERENCES, {"a": one["id"], "b": two["id"]}).all()
        constituents = _constituents(connection, one, two)
    kinds = {
        "clips_added": [row.key for row in rows if row.added],
        "clips_removed": [row.key for row in rows if row.removed],
        "clips_in_another_part": [row.key for row in rows if row.moved],
        "clips_with_other_attributes": [row.key for row in rows if row.restated],
    }
    return {
        "same": one["hash"] == two["hash"],
        **{kind: len(keys) for kind, keys in kinds.items()},
        "examples": {kind: keys[:EXAMPLES] for kind, keys in kinds.items() if keys},
        "constituents": constituents,
        "layout": "same" if one["blocks"] == two["blocks"] else f"{one['layout']} → {two['layout']}",
        "normalisation": "same" if one["normalisation"] == two["normalisation"] else "differs",
        "missing": "same" if one["missing"] == two["missing"] else f"{one['missing']} → {two['missing']}",
    }


def _constituents(connection: Connection, one: dict[str, Any], two: dict[str, Any]) -> list[dict[str, Any]]:
    """Constituents that only one has, in another version, or with other values of the clips both have."""
    common = read_columns(connection, COMMON, (("a", ">i4"), ("b", ">i4")), {"a": one["id"], "b": two["id"]})
    versions, hashes = [], []
    for snapshot in (one, two):
        key = {"snapshot": snapshot["id"]}
        versions.append({row.name: row.version for row in connection.execute(USED, key)})
        hashes.append({name: np.frombuffer(kept, "<i8") for name, kept in connection.execute(HASHES, key)})
    found = []
    for name in sorted(versions[0].keys() | versions[1].keys()):
        before, after = versions[0].get(name), versions[1].get(name)
        changed = None
        if name in hashes[0] and name in hashes[1]:
            changed = int((hashes[0][name][common["a"]] != hashes[1][name][common["b"]]).sum())
        if before != after or changed:
            found.append({"constituent": name, "before": before, "after": after, "values_changed": changed})
    return found
