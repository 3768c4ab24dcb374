"""Retiring a constituent version: its values go, its declaration stays."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.jobs.commit import SEAL_LOCK
from slf_store.jobs.constituents import LOCK
from slf_store.store import Store

FIND = text("""
    SELECT id, name, version, kind, status FROM constituent
    WHERE name = :name AND starts_with(version, :version) ORDER BY created_at
""")

USED_BY = text("""
    SELECT snapshot.name FROM snapshot_constituent
    JOIN snapshot ON snapshot.id = snapshot_constituent.snapshot_id
    WHERE constituent_id = :constituent
    UNION
    SELECT 'the evaluation of ' || run.name FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    WHERE evaluation.constituent_id = :constituent
    ORDER BY 1
""")

LEASED = text("SELECT count(*) FROM extraction WHERE constituent_id = :constituent AND state = 'leased'")

RETIRE = text("UPDATE constituent SET status = 'retired' WHERE id = :constituent")

DONE = text("SELECT count(*) FROM extraction WHERE constituent_id = :constituent AND state = 'done'")

# An embedding stays when the box it was cut from goes.
UNLINK = text("""
    UPDATE face_embedding SET face_id = NULL FROM face WHERE face.id = face_id AND face.constituent_id = :constituent
""")
FACES = text("DELETE FROM face WHERE constituent_id = :constituent")
ATTRIBUTES = text("DELETE FROM attribute WHERE constituent_id = :constituent")
COUNTS = text("DELETE FROM extraction_count WHERE constituent_id = :constituent")

SHARDS = text("DELETE FROM shard WHERE constituent_id = :constituent RETURNING path, bytes")


@dataclass(frozen=True)
class Retired:
    """What went: version, clips that had a value, shards, bytes of shards."""

    name: str
    version: str
    clips: int
    shards: int
    bytes: int


def retire(store: Store, which: str, *, force: bool = False) -> Retired:
    """Free a constituent version: its shards, rows and vectors. Its declaration stays, marked retired.

    Extracting under the settings that made it makes it anew.

    Args:
        store: open store.
        which: `NAME@VERSION`; the first digits of the version are enough if they fit only one.
        force: also when snapshots or evaluations use it; they can then not be read or repeated any more.

    Raises:
        ConfigError: `which` is not `NAME@VERSION`, fits several versions, is used, or is being extracted.
        NotFoundInStore: there is no such version.
    """
    name, _, version = which.partition("@")
    if not name or not version:
        raise ConfigError(f"which version of {name or which!r}?", hint="write NAME@VERSION; see `slf constituents`")
    with store.engine.begin() as connection:
        connection.execute(LOCK)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SEAL_LOCK})
        row = _find(connection, name, version)
        values = {"constituent": row["id"]}
        if connection.execute(LEASED, values).scalar_one():
            raise ConfigError(f"{name}@{row['version']} is being extracted now", hint="wait, or stop that job")
        users = connection.execute(USED_BY, values).scalars().all()
        if users and not force:
            raise ConfigError(
                f"{name}@{row['version']} is used by {', '.join(users)}",
                hint="keep it, or give --force: they can then not be read or repeated any more",
            )
        done = connection.execute(DONE, values).scalar_one()
        for statement in (UNLINK, FACES, ATTRIBUTES, COUNTS):
            connection.execute(statement, values)
        for table in ("extraction", "face_embedding"):  # its own partitions: their room is free at once
            connection.execute(text(f"DROP TABLE IF EXISTS {table}_{row['id']:d}"))
        shards = connection.execute(SHARDS, values).all()
        connection.execute(RETIRE, values)
    for path, _ in shards:  # a crash before this leaves files for gc
        (store.shards / path).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (store.shards / name / row["version"]).rmdir()
    return Retired(name, row["version"], done, len(shards), sum(size for _, size in shards))


def _find(connection: Connection, name: str, version: str) -> dict[str, Any]:
    found = [dict(row) for row in connection.execute(FIND, {"name": name, "version": version}).mappings()]
    if not found:
        raise NotFoundInStore(f"no constituent version {name}@{version}", hint="see `slf constituents`")
    if len(found) > 1:
        versions = ", ".join(row["version"] for row in found)
        raise ConfigError(f"{name}@{version} fits {versions}", hint="write more of its digits")
    return found[0]
