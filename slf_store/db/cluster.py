"""The data folder of the embedded server (PostgreSQL's word: cluster): where it lies, how it is made.

It is `<home>/pg`. When root's home is out of reach of the OS user that PostgreSQL runs as, it lies in
a folder of :data:`~slf_store.db.osuser.SHARED_FOLDERS` and `<home>/pg` is a link to it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from slf_store.db import postmaster
from slf_store.db.osuser import OsUser, shared_folder
from slf_store.db.serverlog import next_step, tail
from slf_store.errors import DatabaseError

OWNER = "slf"
"""The database's owner and its name."""

SETTINGS = """\
# Written by slf-store at each start. To change a setting use ALTER SYSTEM, which wins.
shared_buffers = 512MB
effective_cache_size = 1GB
maintenance_work_mem = 256MB
max_connections = 100
max_wal_size = 2GB
wal_level = minimal
max_wal_senders = 0
max_logical_replication_workers = 0
wal_compression = on
fsync = on
jit = off
log_checkpoints = off
# What was sent is not logged: it may hold names that an erasure must forget.
log_min_error_statement = panic
log_error_verbosity = terse
lc_messages = 'C'
"""


def data_folder(home: Path) -> Path:
    """Where the data of this home is, or will be if nothing is in the way.

    Raises:
        DatabaseError: it was elsewhere and is gone.
    """
    place = home / "pg"
    if place.is_symlink() and not place.exists():
        raise DatabaseError(
            f"the database of {home} was in {place.readlink()}, which is gone",
            hint=f"bring that folder back, or remove {place} to begin with an empty database",
        )
    return place.resolve()


def create(home: Path, user: OsUser, binaries: Path) -> Path:
    """Make the data folder of a new store, at once complete; the start lock must be held.

    Returns:
        The data folder.

    Raises:
        DatabaseError: it cannot be made here.
    """
    if user.can_reach(home):
        parent = home
    else:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        parent = shared_folder(user) / name
        _set_aside(parent)
        parent.mkdir(mode=0o755)
        (parent / "home.txt").write_text(f"the database of the slf-store at {home}\n")
    for left in parent.glob("pg.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix="pg.new-", dir=parent))
    try:
        user.own(staging)
        _initdb(staging, user, binaries, password(home))
        with (staging / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists = 'slf.conf'\n")
        staging.rename(parent / "pg")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if parent != home:
        (home / "pg").symlink_to(parent / "pg")
    return parent / "pg"


def check(data_dir: Path, version: str) -> None:
    """Check that these programs can run on this data folder.

    Raises:
        DatabaseError: it is no data folder, or another major version's.
    """
    try:
        found = (data_dir / "PG_VERSION").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        raise DatabaseError(
            f"{data_dir} is in the way: it is not a PostgreSQL data folder",
            hint="move it away, or use another SLF_HOME",
        ) from None
    if found != version.partition(".")[0]:
        raise DatabaseError(
            f"the data in {data_dir} is of PostgreSQL {found}, the programs are of {version}",
            hint=f"set SLF_PG_BIN to the programs of a PostgreSQL {found}, "
            "or carry the data over with its pg_dump into a new store",
        )


def write_settings(data_dir: Path) -> None:
    """Write our settings beside PostgreSQL's own."""
    path = data_dir / "slf.conf"
    path.write_text(SETTINGS)
    path.chmod(0o644)  # the folder itself is private


def password(home: Path) -> str:
    """The password of the store's database, made at first use, readable by the store's owner only."""
    path = home / "pg.password"
    if not path.exists():
        fresh = home / "pg.password.new"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        fresh.rename(path)
    return path.read_text().strip()


def _initdb(folder: Path, user: OsUser, binaries: Path, secret: str) -> None:
    number, name = tempfile.mkstemp(prefix="pg.new-", dir=folder.parent)
    secret_file = Path(name)
    try:
        os.write(number, secret.encode())
        os.close(number)
        user.own(secret_file)
        done = subprocess.run(
            [
                binaries / "initdb",
                f"--pgdata={folder}",
                f"--username={OWNER}",
                f"--pwfile={secret_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--data-checksums",
                "--no-instructions",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=postmaster.clean_environment(),
            start_new_session=True,
            user=user.user,
            group=user.group,
            extra_groups=user.extra_groups,
        )
    finally:
        secret_file.unlink(missing_ok=True)
    if done.returncode != 0:
        raise DatabaseError(
            f"initdb failed for {folder.parent / 'pg'}:\n{tail(done.stdout)}",
            hint=next_step(done.stdout, folder.parent),
        )


def _set_aside(folder: Path) -> None:
    """Keep what a removed store at the same path left behind, once, out of the new store's way."""
    if folder.exists():
        if running := postmaster.find(folder / "pg"):
            os.kill(running.pid, signal.SIGINT)
            postmaster.wait_gone(running.pid, time.monotonic() + 30)
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
