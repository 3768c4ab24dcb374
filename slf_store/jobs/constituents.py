"""Making constituents known to PostgreSQL, with their partitions; listing them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, text

from slf_store.constituents.spec import ConstituentSpec
from slf_store.errors import NotFoundInStore
from slf_store.store import Store

REGISTER = text("""
    INSERT INTO constituent (name, version, kind, shape, dtype, spec)
    VALUES (:name, :version, :kind, :shape, :dtype, CAST(:spec AS jsonb))
    -- A retired version that is asked for again is made anew.
    ON CONFLICT (name, version) DO UPDATE SET status = 'active', created_at = now() WHERE constituent.status = 'retired'
""")
KEY = text("SELECT id FROM constituent WHERE name = :name AND version = :version")
LOCK = text("SELECT pg_advisory_xact_lock(1374749953)")
LIST = """
    -- Every version of every constituent, with what it has and how much room that takes.
    SELECT constituent.name, constituent.version, constituent.status, constituent.kind, constituent.shape,
           constituent.dtype, constituent.spec ->> 'unit' AS unit, constituent.spec ->> 'paper' AS paper,
           coalesce(state.done, 0) AS done, coalesce(state.failed, 0) AS failed,
           CASE constituent.status WHEN 'active' THEN
               (SELECT count(*) FROM clip WHERE clip.state = 'ok') - coalesce(state.done + state.failed, 0)
           END AS missing,
           coalesce(held.shards, 0) AS shards,
           coalesce(held.bytes, pg_total_relation_size(to_regclass('face_embedding_' || constituent.id)), 0) AS bytes,
           coalesce(held.superseded_bytes, 0) AS superseded_bytes,
           constituent.created_at
    FROM constituent
    LEFT JOIN (SELECT constituent_id, coalesce(sum(clips) FILTER (WHERE state = 'done'), 0)::bigint AS done,
                      coalesce(sum(clips) FILTER (WHERE state = 'failed'), 0)::bigint AS failed
               FROM extraction_count GROUP BY constituent_id) state ON state.constituent_id = constituent.id
    LEFT JOIN (SELECT constituent_id, count(*) FILTER (WHERE state = 'sealed') AS shards,
                      (sum(bytes) FILTER (WHERE state = 'sealed'))::bigint AS bytes,
                      (sum(bytes) FILTER (WHERE state = 'superseded'))::bigint AS superseded_bytes
               FROM shard GROUP BY constituent_id) held ON held.constituent_id = constituent.id
    ORDER BY constituent.name, constituent.created_at, constituent.id
"""


def register(connection: Connection, specs: Iterable[ConstituentSpec]) -> dict[str, int]:
    """Register constituent versions that are new, or retired; {name: key}. A version's partitions are made with it."""
    connection.execute(LOCK)
    keys: dict[str, int] = {}
    for spec in specs:
        values: dict[str, Any] = {
            "name": spec.name,
            "version": spec.version,
            "kind": spec.kind,
            "shape": list(spec.shape),
        }
        values |= {"dtype": spec.dtype, "spec": json.dumps(spec.as_json())}
        connection.execute(REGISTER, values)
        key = int(connection.execute(KEY, values).scalar_one())
        _make_partitions(connection, key, spec)
        keys[spec.name] = key
    return keys


def _make_partitions(connection: Connection, key: int, spec: ConstituentSpec) -> None:
    """One partition of `extraction` for each constituent, of `face_embedding` for each embedding model."""
    exists = text("SELECT to_regclass(:name) IS NOT NULL")
    if not connection.execute(exists, {"name": f"extraction_{key}"}).scalar_one():
        connection.execute(text(f"CREATE TABLE extraction_{key} PARTITION OF extraction FOR VALUES IN ({key})"))
    if spec.kind == "embedding" and not connection.execute(exists, {"name": f"face_embedding_{key}"}).scalar_one():
        (dimension,) = spec.shape
        connection.execute(
            text(
                f"CREATE TABLE face_embedding_{key} PARTITION OF face_embedding"
                f" (CONSTRAINT dimension CHECK (vector_dims(vector) = {dimension})) FOR VALUES IN ({key})"
            )
        )


def require_names(connection: Connection, names: Collection[str]) -> None:
    """Check that the store has, or had, constituents of these names.

    Raises:
        NotFoundInStore: it never had one of them.
    """
    known = set(connection.execute(text("SELECT name FROM constituent")).scalars())
    for name in sorted(set(names) - known):
        raise NotFoundInStore(f"the store has no constituent {name!r}", hint="see `slf constituents`")


def list_constituents(store: Store) -> Sequence[dict[str, Any]]:
    """One row for each version: declaration, status, clips done, failed, missing (None once retired), shards, bytes,
    and the bytes of shards that compaction replaced and `gc` will remove."""
    return store.query(LIST)
