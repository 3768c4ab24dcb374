"""Restore: a backup becomes a store elsewhere, and is verified.

Files first, the database last and in one transaction: a restore that is cut short leaves no store, and the same command
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from sqlalchemy import Engine, text

from slf_store.db.engine import open_engine
from slf_store.db.migrate import known_revisions, upgrade
from slf_store.db.pgdump import load
from slf_store.errors import ConfigError, DatabaseError, ShardError
from slf_store.faults import fault_point
from slf_store.jobs.backup import missing_objects
from slf_store.jobs.backup_folder import BackupFile, Manifest, copy_checked, object_path, read_manifest
from slf_store.jobs.verify import verify
from slf_store.settings import Settings
from slf_store.shards.checksum import file_checksum
from slf_store.shards.flush import flush
from slf_store.store import Store

HELD = ("shards", "runs", "receipts", "blocklist.key")
"""What of a home a backup holds."""
MARK = "restoring"
"""File in the home while a restore is under way; it holds the checksum of the backup's dump."""

TABLES = text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
ROLE_EXISTS = text("SELECT true FROM pg_roles WHERE rolname = :role")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RestoreReport:
    """A store that was restored and verified.

    Attributes:
        home: where.
        files, bytes: copied from the backup.
        created_at: moment whose state it has.
        schema_from, schema_to: of the backup, and after migrating.
        values: values that verification held against their checksum.
        seconds: time it took, verification included.
    """

    home: str
    files: int
    bytes: int
    created_at: str
    schema_from: str
    schema_to: str
    values: int
    seconds: float


def restore(settings: Settings, folder: Path, *, progress: Progress | None = None) -> RestoreReport:
    """Make a store of a backup, in an empty home and an empty database, and verify it.

    Args:
        settings: of the new store; its embedded server is made and started.
        folder: backup.
        progress: called with (bytes copied, bytes to copy).

    Raises:
        ShardError: the backup is incomplete or damaged, or what was restored does not verify.
        ConfigError: the home or the database holds something already.
        DatabaseError: the backup is of a newer schema, or pg_restore fails.
    """
    began = time.perf_counter()
    manifest = read_manifest(folder)
    _check_backup(folder, manifest)
    dump = _checked_dump(folder, manifest)
    under_way = _claim_home(settings.home, manifest)
    engine = open_engine(settings)
    try:
        with engine.connect() as connection:
            loaded = connection.execute(TABLES).scalar_one() > 0
            if loaded and not under_way:
                raise ConfigError("the database is not empty", hint="restore into a new home, or a new database")
        _copy_files(settings, folder, manifest, progress)
        fault_point("restore.copied")
        if not loaded:
            _make_roles(engine, manifest)
            load(engine, dump, pg_bin=settings.pg_bin)
        fault_point("restore.loaded")
        (settings.home / MARK).unlink()
        upgrade(engine)
        store = Store(settings, engine)
        report = verify(store)
        if report.findings:
            first = report.findings[0]
            raise ShardError(
                f"restored, but {len(report.findings)} things are not as they should be, the first: "
                f"{first.file or first.clip}: {first.message}",
                hint="run `slf verify` on the restored store; they were so when the backup was made",
            )
    finally:
        engine.dispose()
    return RestoreReport(
        str(settings.home), len(manifest.files) + 1, sum(manifest.objects.values()), manifest.created_at,
        manifest.schema, known_revisions()[0], report.values, time.perf_counter() - began,
    )  # fmt: skip


def _check_backup(folder: Path, manifest: Manifest) -> None:
    if manifest.schema not in known_revisions():
        raise DatabaseError(
            f"the backup's schema has version {manifest.schema}, newer than this program", hint="update slf-store"
        )
    missing = missing_objects(folder, manifest)
    if missing:
        what = f"{len(missing)} objects are missing or cut short, the first: {missing[0]}"
        raise ShardError(f"the backup {folder} is incomplete: {what}", hint="use another backup")
    for file in manifest.files:
        parts = Path(file.path).parts
        if Path(file.path).is_absolute() or ".." in parts or parts[0] not in HELD:
            raise ShardError(f"the backup {folder} names a file outside a store: {file.path}", hint="do not use it")


def _claim_home(home: Path, manifest: Manifest) -> bool:
    """Take an empty home, or go on in one where this restore was cut short; whether it was."""
    mark = home / MARK
    under_way = mark.is_file() and mark.read_text() == manifest.database.checksum
    held = [path for name in ("shards", "runs") for path in (home / name).rglob("*") if path.is_file()]
    if held and not under_way:
        raise ConfigError(f"{home} is not empty: it has {held[0]}", hint="restore into a new home (--home)")
    (home / "shards").mkdir(parents=True, exist_ok=True)
    mark.write_text(manifest.database.checksum)
    return under_way


def _copy_files(settings: Settings, folder: Path, manifest: Manifest, progress: Progress | None) -> None:
    """Copy every file to its place, its checksum held against the manifest.

    Raises:
        ShardError: an object is damaged; what was copied is removed.
    """
    total, done, lock = sum(file.bytes for file in manifest.files), 0, Lock()

    def read(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            if progress:
                progress(done, total)

    def copy(file: BackupFile) -> None:
        target = settings.home / file.path
        if not (target.is_file() and file_checksum(target) == file.checksum):
            copy_checked(object_path(folder, file.checksum), target, file.checksum, read)
            if target.suffix == ".key":
                target.chmod(0o600)

    with ThreadPoolExecutor(settings.worker_count) as pool:
        try:
            list(pool.map(copy, manifest.files))
        except ShardError as error:
            pool.shutdown(cancel_futures=True)
            for path in (*(file.path for file in manifest.files), MARK):
                (settings.home / path).unlink(missing_ok=True)
            raise ShardError(f"the backup is damaged: {error.what}", hint="use another backup") from error
    for place in {(settings.home / file.path).parent for file in manifest.files}:
        flush(place)


def _checked_dump(folder: Path, manifest: Manifest) -> Path:
    path = object_path(folder, manifest.database.checksum)
    if file_checksum(path) != manifest.database.checksum:
        raise ShardError(f"the backup is damaged: its dump {path} is not what was written", hint="use another backup")
    return path


def _make_roles(engine: Engine, manifest: Manifest) -> None:
    """Roles belong to the server and are in no dump: make those that the dump grants rights to, without log-in."""
    with engine.begin() as connection:
        for role in manifest.roles:
            quoted = engine.dialect.identifier_preparer.quote_identifier(role)
            if connection.execute(ROLE_EXISTS, {"role": role}).first() is None:
                connection.execute(text(f"CREATE ROLE {quoted} NOLOGIN"))
            connection.execute(text(f"GRANT {quoted} TO CURRENT_USER"))
