"""A private PostgreSQL for one store: started when needed, shared by every process of the store.

Files in the store's home: `pg` (the data, or a link to it), `pg.password`, `pg.lock`, `postgres.log`.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slf_store.db import cluster, postmaster
from slf_store.db.osuser import server_user, shared_folder
from slf_store.db.pgbinaries import copy_binaries, find_binaries, version_of
from slf_store.db.serverlog import ServerLog, next_step
from slf_store.db.startlock import start_lock
from slf_store.errors import DatabaseError

PASSING_CAUSES = ("Address already in use", "shared memory block", 'lock file "postmaster.pid" already exists')
"""Why a start fails that is worth another try: a port just taken, children of a killed server just ending."""


@dataclass(frozen=True)
class ServerStatus:
    """What runs where; `version` is that of the programs, e.g. ``18.6``."""

    running: bool
    pid: int | None
    port: int | None
    data_dir: Path
    binaries: Path
    version: str | None
    os_user: str
    log: Path


class EmbeddedServer:
    """The PostgreSQL server of the store at `home`.

    Args:
        home: the store's folder; created at the first start.
        bin_dir: folder of `initdb` and `postgres`; the wheel's when None.

    Example::

        server = EmbeddedServer(Path(".slf"))
        url = server.start()  # "postgresql+psycopg://slf:…@127.0.0.1:40123/slf"
        server.stop()
    """

    def __init__(self, home: Path, bin_dir: Path | None = None) -> None:
        self.home = home.expanduser().absolute()
        self.bin_dir = bin_dir
        self.log = ServerLog(self.home / "postgres.log")

    def start(self, *, tethered: bool = False, timeout_s: float = 60) -> str:
        """Start the server, or attach to the running one; make the database when there is none.

        Args:
            tethered: a server started by this call ends (properly) when this process ends, however
                it ends. Otherwise it lives on until :meth:`stop`.
            timeout_s: seconds to wait for another starter and for the server to be ready.

        Returns:
            The database's URL, password included.

        Raises:
            DatabaseError: it cannot be started; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        with _reporting(self.home), start_lock(self.home, deadline):
            self.log.trim()
            while True:
                running = postmaster.find(self._data_dir)
                if running:
                    port = self._wait_ready(running.pid, deadline, timeout_s, self.log.size)
                else:
                    port = self._launch(deadline, timeout_s, tethered)
                if port is None:  # it was on its way out
                    continue
                url = self._url(port)
                try:
                    _ensure_database(url)
                except DatabaseError:
                    now = postmaster.find(self._data_dir)
                    if (now and now.state == "ready") or time.monotonic() > deadline:
                        raise
                else:
                    return url

    def url(self) -> str:
        """URL of the running server's database, password included.

        Raises:
            DatabaseError: it is not running.
        """
        with _reporting(self.home):
            running = postmaster.find(self._data_dir)
            if running is None or running.port is None:
                raise DatabaseError(f"the database of {self.home} is not running", hint="start it with `slf init`")
            return self._url(running.port)

    def stop(self, *, timeout_s: float = 60) -> bool:
        """Shut the server down: clients are cut off, everything committed is safe on disk.

        Returns:
            False when it was not running.

        Raises:
            DatabaseError: it still runs after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        with _reporting(self.home):
            if not self.home.is_dir():
                return False
        with _reporting(self.home), start_lock(self.home, deadline):
            running = postmaster.find(self._data_dir)
            if running is None:
                postmaster.clear_stale(self._data_dir)
                return False
            os.kill(running.pid, signal.SIGINT)
            if not postmaster.wait_gone(running.pid, deadline):
                raise self._too_slow("stop", timeout_s, 0)
            return True

    def status(self) -> ServerStatus:
        """What runs where, without starting anything.

        Raises:
            DatabaseError: PostgreSQL's programs are missing, or the data is another OS user's.
        """
        with _reporting(self.home):
            running = postmaster.find(self._data_dir)
            binaries = find_binaries(self.bin_dir)
            return ServerStatus(
                running=running is not None,
                pid=running.pid if running else None,
                port=running.port if running else None,
                data_dir=self._data_dir,
                binaries=binaries,
                version=version_of(binaries),
                os_user=server_user(self._data_dir).name,
                log=self.log.path,
            )

    @property
    def _data_dir(self) -> Path:
        return cluster.data_folder(self.home)

    def _launch(self, deadline: float, timeout_s: float, tethered: bool) -> int:
        """Start `postgres` itself and return its port; again where a port or shared memory was still taken."""
        data_dir = self._data_dir
        user = server_user(data_dir)
        binaries = find_binaries(self.bin_dir)
        version = version_of(binaries)
        if not user.can_reach(binaries / "postgres"):
            binaries = copy_binaries(binaries, shared_folder(user))
        if not data_dir.exists():
            data_dir = cluster.create(self.home, user, binaries)
        cluster.check(data_dir, version)
        cluster.write_settings(data_dir)
        postmaster.clear_stale(data_dir)
        while True:
            said = self.log.size
            argv = _command(binaries, data_dir, _free_port())
            pid = postmaster.launch(argv, user, self.log.path, tethered=tethered)
            port = self._wait_ready(pid, deadline, timeout_s, said)
            if port is not None:
                return port
            words = self.log.since(said)
            if not any(cause in words for cause in PASSING_CAUSES) or time.monotonic() > deadline:
                raise DatabaseError(
                    f"PostgreSQL did not start on {data_dir}:\n{words}", hint=next_step(words, data_dir)
                )
            time.sleep(0.2)

    def _wait_ready(self, pid: int, deadline: float, timeout_s: float, said: int) -> int | None:
        """Wait for a server to take connections: its port, or None when it ended instead."""
        while postmaster.alive(pid):
            found = postmaster.find(self._data_dir)
            if found and found.pid == pid and found.state == "ready" and found.port is not None:
                return found.port
            if time.monotonic() > deadline:
                raise self._too_slow("start", timeout_s, said)
            time.sleep(0.02)
        return None

    def _url(self, port: int) -> str:
        try:
            secret = (self.home / "pg.password").read_text().strip()
        except FileNotFoundError:
            raise DatabaseError(
                f"the database's password file {self.home / 'pg.password'} is gone", hint="bring it back from a backup"
            ) from None
        return f"postgresql+psycopg://{cluster.OWNER}:{secret}@127.0.0.1:{port}/{cluster.OWNER}"

    def _too_slow(self, verb: str, timeout_s: float, said: int) -> DatabaseError:
        return DatabaseError(
            f"the database of {self.home} did not {verb} within {timeout_s:g} s; "
            f"its log {self.log.path} ends:\n{self.log.since(said)}",
            hint="it goes on by itself (a crash recovery can take minutes): try again",
        )


@contextmanager
def _reporting(home: Path) -> Iterator[None]:
    """The system's errors, in our words."""
    try:
        yield
    except DatabaseError:
        raise
    except OSError as error:
        where = error.filename or home
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            hint = f"free some space on the disk of {home}"
        elif isinstance(error, PermissionError) and home.exists():
            hint = f"the store was made by another OS user, or {home} is not writable: use another SLF_HOME"
        else:
            hint = "use another SLF_HOME"
        raise DatabaseError(f"cannot use {where} for the database: {error.strerror or error}", hint=hint) from error


def _command(binaries: Path, data_dir: Path, port: int) -> list[str]:
    fixed = {
        "cluster_name": postmaster.mark(data_dir),
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "logging_collector": "off",
        "log_destination": "stderr",
    }
    command = [str(binaries / "postgres"), "-D", str(data_dir)]
    return command + [word for name, value in fixed.items() for word in ("-c", f"{name}={value}")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ensure_database(url: str) -> None:
    """Make the database and its vector type, where a first start was cut short or has just been done."""
    import psycopg

    plain = url.replace("+psycopg", "", 1)
    try:
        with psycopg.connect(plain.removesuffix(cluster.OWNER) + "postgres", autocommit=True, connect_timeout=10) as db:
            if not db.execute("SELECT FROM pg_database WHERE datname = %s", [cluster.OWNER]).rowcount:
                db.execute(f"CREATE DATABASE {cluster.OWNER}")
        with psycopg.connect(plain, autocommit=True, connect_timeout=10) as db:
            db.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.Error as error:
        raise DatabaseError(
            f"the embedded database runs but cannot be used: {str(error).strip()}",
            hint="read its log, `slf status` says where",
        ) from None
