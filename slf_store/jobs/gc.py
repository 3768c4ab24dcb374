"""Removing what nothing needs any more: orphan files, empty shards, and shards that compaction replaced."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from slf_store.db.locks import BACKUP_LOCK, SEAL_LOCK, TAKE_LOCK
from slf_store.store import Store

BACKUP_PREFIX = ".backup-"
"""Folders of links in the home while a backup copies them."""
PARTIAL_AGE_S = 24 * 3600.0
"""A half-written checkpoint this old is nobody's any more: writing one takes seconds."""

SHARDS = text("""
    -- Every shard, and whether it can go: no value lies in it, and if compaction replaced it, readers had their time.
    SELECT shard.id, shard.path, shard.bytes, shard.state,
           NOT EXISTS (SELECT 1 FROM extraction
                       WHERE extraction.constituent_id = shard.constituent_id AND extraction.shard_id = shard.id)
           AND (shard.state = 'sealed' OR shard.superseded_at <= now() - make_interval(secs => :grace)) AS garbage
    FROM shard ORDER BY shard.path
""")
FORGET = text("DELETE FROM shard WHERE id = ANY(:shards)")
RUNS = text("SELECT name FROM run")
RUN_FILES = text("SELECT path FROM checkpoint UNION SELECT path FROM generation")
TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")


@dataclass(frozen=True)
class GarbageReport:
    """What can go.

    Attributes:
        files: paths relative to the store.
        bytes: their size.
        removed: whether they were removed (False in a dry run).
        missing: shards a row names that are not there: corruption.
        superseded_files, superseded_bytes: shards that compaction replaced, kept for readers until their time is over.
    """

    files: list[str]
    bytes: int
    removed: bool
    missing: list[str]
    superseded_files: int = 0
    superseded_bytes: int = 0


def collect_garbage(store: Store, *, remove: bool = False) -> GarbageReport:
    """Find, and with `remove` delete, shards without values and files that PostgreSQL does not know.

    Writers hold a shared lock from writing a file until its row is committed; this takes the exclusive one, so a file
    that is about to become known is never taken for garbage. Names are never used twice, so what was an orphan under
    the lock still is one after it: files go when their rows' end is committed.
    """
    with store.engine.begin() as connection:
        connection.execute(TAKE_LOCK, {"key": SEAL_LOCK})
        grace = store.settings.shard_grace_hours * 3600
        shards = connection.execute(SHARDS, {"grace": grace}).all()
        garbage = [shard for shard in shards if shard.garbage]
        known = {shard.path for shard in shards if not shard.garbage}
        waiting = [shard for shard in shards if shard.state == "superseded" and not shard.garbage]
        present = {path.relative_to(store.shards).as_posix(): path for path in _files(store.shards)}
        orphans = [path for name, path in present.items() if name not in known]
        orphans += [*_run_orphans(connection, store), *_dead_backups(connection, store)]
        size = sum(path.lstat().st_size for path in orphans)
        if remove:
            connection.execute(FORGET, {"shards": [shard.id for shard in garbage]})
    if remove:
        for path in orphans:
            path.unlink(missing_ok=True)
        _remove_empty_folders(store, orphans)
    names = [path.relative_to(store.settings.home).as_posix() for path in orphans]
    missing = sorted(known - set(present))
    return GarbageReport(names, size, remove, missing, len(waiting), sum(shard.bytes for shard in waiting))


def _run_orphans(connection: Connection, store: Store) -> Iterator[Path]:
    """Files of runs that are not there, pictures that no row knows, and what killed writers left.

    A run's checkpoint without a row stays: training writes it before it registers it, and goes on from it. So do its
    sample grids and its model card, which have no rows.
    """
    runs = set(connection.execute(RUNS).scalars())
    known = set(connection.execute(RUN_FILES).scalars())
    for path in _files(store.runs):
        name = path.relative_to(store.settings.home).as_posix()
        run, *inner = path.relative_to(store.runs).parts
        if name in known:
            continue
        if (
            run not in runs
            or (path.suffix == ".png" and inner[0] != "grids")
            or (path.name.startswith(".") and ".png" in path.suffixes)
            or (any(part.endswith(".partial") for part in inner) and _age_s(path) > PARTIAL_AGE_S)
        ):
            yield path


def _dead_backups(connection: Connection, store: Store) -> Iterator[Path]:
    """Links that a killed backup left; a living one holds its lock."""
    folders = sorted(store.settings.home.glob(f"{BACKUP_PREFIX}*"))
    if folders and connection.execute(TRY_LOCK, {"key": BACKUP_LOCK}).scalar_one():
        for folder in folders:
            yield from _files(folder)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if not path.is_dir())


def _age_s(path: Path) -> float:
    return time.time() - path.lstat().st_mtime


def _remove_empty_folders(store: Store, removed: list[Path]) -> None:
    home = store.settings.home
    for folder in {path.parent for path in removed}:
        top = folder.relative_to(home).parts[0]
        if top.startswith(BACKUP_PREFIX):
            shutil.rmtree(home / top, ignore_errors=True)
        elif top == "runs" and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
