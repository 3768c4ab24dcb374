"""The folder of a backup: objects named by their checksum, and a manifest that says what they are.

`objects/ab/ab…` are the files of the store and the dump of its database; `manifest.json`, written last, names them all.
An object never changes, so the next backup into the folder copies only what is new.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slf_store.errors import ShardError
from slf_store.shards.flush import flush

FORMAT = "slf-backup-1"
MANIFEST = "manifest.json"
PARTIAL = ".writing-"
BLOCK = 4 << 20


@dataclass(frozen=True)
class BackupFile:
    """A file of the store: path relative to its home, size, BLAKE2b-128."""

    path: str
    bytes: int
    checksum: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        schema: revision of the database's schema.
        postgresql: version of the server it was dumped from.
        program: version of slf-store that made it.
        created_at: moment (UTC, ISO 8601) whose state of the store it holds.
        database: the dump, in pg_dump's custom format.
        roles: roles that the dump grants rights to.
        counts: rows by table.
        files: shards, checkpoints, generated pictures.
    """

    schema: str
    postgresql: str
    program: str
    created_at: str
    database: BackupFile
    roles: list[str]
    counts: dict[str, int]
    files: list[BackupFile] = field(default_factory=list)

    @property
    def objects(self) -> dict[str, int]:
        """{checksum: bytes} of every object."""
        return {file.checksum: file.bytes for file in (self.database, *self.files)}


def now() -> str:
    """This moment, as manifests write it."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def object_path(folder: Path, checksum: str) -> Path:
    """Where an object lies.

    >>> object_path(Path("b"), "cae6").as_posix()
    'b/objects/ca/cae6'
    """
    return folder / "objects" / checksum[:2] / checksum


def has_object(folder: Path, checksum: str, size: int) -> bool:
    """Whether an object is there, with the size it should have."""
    try:
        return object_path(folder, checksum).stat().st_size == size
    except OSError:
        return False


def copy_checked(source: Path, target: Path, checksum: str, read: Callable[[int], None] = lambda size: None) -> int:
    """Copy a file so that the copy is whole and has this checksum, or is not there; bytes copied.

    Raises:
        ShardError: the source has another checksum, or one of the files cannot be read or written.
    """
    digest, size = hashlib.blake2b(digest_size=16), 0
    temporary = target.with_name(f"{PARTIAL}{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as file, temporary.open("wb") as copy:
            while block := file.read(BLOCK):
                digest.update(block)
                copy.write(block)
                size += len(block)
                read(len(block))
            copy.flush()
            os.fsync(copy.fileno())
        if digest.hexdigest() != checksum:
            raise ShardError(f"{source} is damaged: its checksum is {digest.hexdigest()}, not {checksum}")
        temporary.replace(target)
    except OSError as error:
        raise ShardError(f"cannot copy {source} to {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return size


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in place, flushed, with a checksum of itself; the backup is complete with it.

    Raises:
        ShardError: it cannot be written; an earlier one is as it was.
    """
    body = asdict(manifest) | {"format": FORMAT}
    text = json.dumps(body | {"checksum": _checksum(body)}, indent=1)
    temporary = folder / f"{PARTIAL}{MANIFEST}"
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / MANIFEST)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ShardError(
            f"cannot write {folder / MANIFEST}: {error.strerror or error}",
            hint="free some space, then run the same command again: the earlier backup is as it was",
        ) from error
    for place in (*(folder / "objects").iterdir(), folder / "objects", folder):
        if place.is_dir():
            flush(place)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a backup.

    Raises:
        ShardError: there is none (no backup, or one that was not completed), or it is damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        body: dict[str, Any] = json.loads(path.read_text("utf-8"))
        checksum, form = body.pop("checksum"), body["format"]
    except FileNotFoundError:
        raise ShardError(f"{folder} holds no complete backup: no {MANIFEST}", hint="run `slf backup` again") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ShardError(f"{path} is damaged: {error}", hint="use another backup") from error
    if form != FORMAT:
        raise ShardError(f"{path} has the format {form!r}, not {FORMAT!r}", hint="use the program that made it")
    if checksum != _checksum(body):
        raise ShardError(f"{path} is damaged: it is not what was written", hint="use another backup")
    del body["format"]
    body["database"] = BackupFile(**body["database"])
    body["files"] = [BackupFile(**file) for file in body["files"]]
    return Manifest(**body)


def prune(folder: Path, manifest: Manifest) -> int:
    """Remove objects that the manifest does not name: of earlier backups, or of an interrupted one; how many."""
    wanted, gone = manifest.objects, 0
    for path in (folder / "objects").glob("*/*"):
        if path.name not in wanted:
            path.unlink()
            gone += 1
    return gone


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
