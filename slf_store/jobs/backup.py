"""Backup: the database as it was at one moment, and every file that its rows name.

For a moment a shared lock keeps `gc`, retirements and erasures off while the rows are read in an exported snapshot and
their files are linked beside the store; then the lock is gone, and pg_dump (in that snapshot) and the copying take the
time they take, while everybody works on.

Left out on purpose: sample grids and model cards of runs, which training writes anew, and caches.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection, text

from slf_store import __version__
from slf_store.db.locks import BACKUP_LOCK, RELEASE_LOCK, SEAL_LOCK, TRY_LOCK
from slf_store.db.pgdump import dump
from slf_store.errors import ConfigError, ShardError
from slf_store.faults import fault_point
from slf_store.jobs.backup_folder import (
    MANIFEST,
    BackupFile,
    Manifest,
    copy_checked,
    has_object,
    now,
    object_path,
    prune,
    read_manifest,
    write_manifest,
)
from slf_store.jobs.gc import BACKUP_PREFIX
from slf_store.jobs.verify import CHECKPOINTS
from slf_store.jobs.verify_files import FileCheck, check_checkpoint, check_picture
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

SHARE_LOCK = text("SELECT pg_advisory_lock_shared(:key)")
UNSHARE_LOCK = text("SELECT pg_advisory_unlock_shared(:key)")
EXPORT = text("SELECT pg_export_snapshot()")
FACTS = text("""
    SELECT (SELECT version_num FROM alembic_version) AS schema, current_setting('server_version') AS postgresql,
           ARRAY(SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, 'slf_') ORDER BY rolname) AS roles
""")
COUNTED = ("source", "identity", "clip", "extraction", "shard", "face", "face_embedding", "snapshot", "generation")
# Columns that every schema has: a backup is made before a migration, too.
SHARDS = text("SELECT path, bytes, checksum FROM shard ORDER BY path")
PICTURES = text("SELECT path, to_jsonb(generation) ->> 'checksum' AS checksum FROM generation ORDER BY path")

OF_ERASURES = ("blocklist.key", "receipts/*.json")
"""Files of the home without which erased people would come back, or nobody could show that they were erased."""

Progress = Callable[[int, int], None]
RunFile = tuple[Callable[[Path, dict[str, Any]], FileCheck], dict[str, Any]]


@dataclass(frozen=True)
class BackupReport:
    """A backup that is complete.

    Attributes:
        files, bytes: what it holds, the dump included.
        copied_files, copied_bytes: what was not in the folder before.
        dump_bytes: size of the dump.
        removed: objects of earlier backups into the folder that this one does not need.
        schema: revision of the schema.
        seconds: time it took; `locked_seconds` of it nobody could remove files.
    """

    folder: str
    files: int
    bytes: int
    copied_files: int
    copied_bytes: int
    dump_bytes: int
    removed: int
    schema: str
    seconds: float
    locked_seconds: float


def backup(store: Store, folder: Path, *, progress: Progress | None = None) -> BackupReport:
    """Back a store up into a folder: whole at its first time, then only what is new.

    Args:
        store: open store, of any schema this program knows.
        folder: new, or of an earlier backup of the same store; its manifest is replaced last, so it holds the earlier
            backup until this one is complete.
        progress: called with (bytes copied, bytes to copy).

    Raises:
        ConfigError: the folder is in use for something else, or another backup runs.
        ShardError: files are missing or damaged; the earlier backup stays as it was.
        DatabaseError: pg_dump cannot be found or fails.
    """
    began = time.perf_counter()
    _check_folder(store, folder)
    with _alone(store) as locks, _staging(store) as staging:
        with store.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            locks.execute(SHARE_LOCK, {"key": SEAL_LOCK})
            locks.commit()
            locked = time.perf_counter()
            try:
                snapshot, moment = connection.execute(EXPORT).scalar_one(), now()
                files, run_files = _link_files(connection, store, staging, folder)
                of_erasures = _link_erasures(store.settings.home, staging)
            finally:
                locks.execute(UNSHARE_LOCK, {"key": SEAL_LOCK})
                locks.commit()
            locked_seconds = time.perf_counter() - locked
            facts = connection.execute(FACTS).mappings().one()
            counts = {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in COUNTED}
            fault_point("backup.linked")
            dump(store.engine, staging / "database.dump", snapshot=snapshot, pg_bin=store.settings.pg_bin)
        files += _checked(staging, run_files) + [_described(staging, name) for name in of_erasures]
        dumped = _described(staging, "database.dump")
        new = {f.checksum: f for f in (dumped, *files) if not has_object(folder, f.checksum, f.bytes)}
        _copy(store, staging, folder, list(new.values()), progress)
        fault_point("backup.copied")
        manifest = Manifest(
            facts["schema"], facts["postgresql"], __version__, moment, dumped, list(facts["roles"]), counts, files
        )
        write_manifest(folder, manifest)
        removed = prune(folder, manifest)
    return BackupReport(
        str(folder), len(files) + 1, sum(f.bytes for f in files) + dumped.bytes, len(new),
        sum(f.bytes for f in new.values()), dumped.bytes, removed, manifest.schema,
        time.perf_counter() - began, locked_seconds,
    )  # fmt: skip


def _check_folder(store: Store, folder: Path) -> None:
    home = store.settings.home.resolve()
    if folder.resolve() == home or home in folder.resolve().parents:
        raise ConfigError(f"{folder} lies in the store", hint="back up into another folder, best on another disk")
    if (folder / MANIFEST).exists():
        read_manifest(folder)
    elif folder.is_dir() and {path.name for path in folder.iterdir()} - {"objects"}:
        raise ConfigError(f"{folder} is not empty and holds no backup", hint="name a new folder")
    try:
        (folder / "objects").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write into {folder}: {error.strerror or error}", hint="choose another") from error


@contextmanager
def _alone(store: Store) -> Iterator[Connection]:
    with store.engine.connect() as connection:
        if not connection.execute(TRY_LOCK, {"key": BACKUP_LOCK}).scalar_one():
            raise ConfigError("another backup of this store is at work", hint="wait until it is done")
        connection.commit()
        try:
            yield connection
        finally:
            connection.execute(RELEASE_LOCK, {"key": BACKUP_LOCK})
            connection.commit()


@contextmanager
def _staging(store: Store) -> Iterator[Path]:
    """A folder in the store for links and the dump; those of killed backups go."""
    for left in store.settings.home.glob(f"{BACKUP_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=BACKUP_PREFIX, dir=store.settings.home))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _link_files(
    connection: Connection, store: Store, staging: Path, folder: Path
) -> tuple[list[BackupFile], list[RunFile]]:
    """Link every file that the snapshot's rows name, shards only where the backup does not have them already.

    Returns:
        The shards, and the files of runs with what is to be checked of each.

    Raises:
        ShardError: shards are missing.
    """
    home, shards, wrong = store.settings.home, [], []
    for row in connection.execute(SHARDS):
        shard = BackupFile(f"shards/{row.path}", row.bytes, row.checksum)
        if not has_object(folder, shard.checksum, shard.bytes) and not _link(home / shard.path, staging / shard.path):
            wrong.append(f"{shard.path} is missing")
        shards.append(shard)
    _refuse(wrong)
    run_files: list[RunFile] = []
    for statement, check in ((CHECKPOINTS, check_checkpoint), (PICTURES, check_picture)):
        for entry in connection.execute(statement).mappings():
            _link(home / entry["path"], staging / entry["path"])  # a missing one is found by its check
            run_files.append((check, dict(entry)))
    return shards, run_files


def _link_erasures(home: Path, staging: Path) -> list[str]:
    found = [path.relative_to(home).as_posix() for pattern in OF_ERASURES for path in sorted(home.glob(pattern))]
    return [name for name in found if _link(home / name, staging / name)]


def _checked(staging: Path, run_files: list[RunFile]) -> list[BackupFile]:
    """Checkpoints and pictures that are what their rows say.

    Raises:
        ShardError: some are not.
    """
    wrong, files = [], []
    for check, row in run_files:
        damage = check(staging, row).findings
        wrong += [f"{row['path']}: {finding.message}" for finding in damage]
        if not damage:
            files.append(_described(staging, row["path"]))
    _refuse(wrong)
    return files


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name, which lives on when the first goes; a copy where the disk has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise ShardError(f"cannot read {source}: {error.strerror or error}") from error
        shutil.copyfile(source, target)
    return True


def _described(staging: Path, path: str) -> BackupFile:
    return BackupFile(path, (staging / path).stat().st_size, file_checksum(staging / path))


def _copy(store: Store, staging: Path, folder: Path, files: list[BackupFile], progress: Progress | None) -> None:
    total, done, lock = sum(file.bytes for file in files), 0, Lock()

    def read(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            if progress:
                progress(done, total)

    def copy(file: BackupFile) -> str | None:
        try:
            copy_checked(staging / file.path, object_path(folder, file.checksum), file.checksum, read)
        except ShardError as error:
            return f"{file.path}: {error.what}"
        return None

    with ThreadPoolExecutor(store.settings.worker_count) as pool:
        _refuse([problem for problem in pool.map(copy, files) if problem])


def _refuse(problems: list[str]) -> None:
    if problems:
        shown = "\n  ".join(problems[:10])
        raise ShardError(
            f"{len(problems)} files cannot be backed up:\n  {shown}",
            hint="run `slf verify`; repair them (from an earlier backup, or by extracting again), then back up again",
        )


def missing_objects(folder: Path, manifest: Manifest) -> list[str]:
    """Checksums of objects that are not there, or have another size."""
    return [checksum for checksum, size in manifest.objects.items() if not has_object(folder, checksum, size)]
