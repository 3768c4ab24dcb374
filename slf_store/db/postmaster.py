"""The PostgreSQL server process (the postmaster): find, start, tether and end it.

A server is recognised by its data folder and by its *mark*, a cluster name that PostgreSQL shows in
the title of each of its processes. So a reused process id or another store's server is never taken
for ours, and children that a killed server left behind are found.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from slf_store.db.osuser import OsUser

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_WATCH = 'read _; ps -ww -o command= -p "$1" | grep -q "$2" && kill -INT "$1"'


class Postmaster(NamedTuple):
    """What `postmaster.pid` says of a server that is alive."""

    pid: int
    port: int | None
    state: str


def mark(data_dir: Path) -> str:
    """The cluster name of the server on this data folder.

    >>> mark(Path("/somewhere/pg"))
    'slf-02cda56ab665'
    """
    return "slf-" + hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]


def find(data_dir: Path) -> Postmaster | None:
    """The server now alive on this data folder, if any.

    Raises:
        PermissionError: the folder belongs to another OS user.
    """
    lines = _pidfile(data_dir)
    if not lines or not lines[0].isdigit() or not _serves(int(lines[0]), data_dir):
        return None
    port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else None
    return Postmaster(int(lines[0]), port, lines[7].strip() if len(lines) > 7 else "starting")


def alive(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(pid: int, deadline: float) -> bool:
    """Wait until a process has ended, at most until `deadline` (`time.monotonic` seconds)."""
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def clear_stale(data_dir: Path) -> None:
    """After a hard kill: end the dead server's children, forget its `postmaster.pid` if the id is reused.

    Only to be called while :func:`find` says None and the store's start lock is held.
    """
    lines = _pidfile(data_dir)
    if not lines:
        return
    orphans = [p for p in psutil.process_iter() if _serves(p.pid, data_dir)]
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, orphans = psutil.wait_procs(orphans, timeout=5)
    if not orphans and lines[0].isdigit() and alive(int(lines[0])):
        (data_dir / "postmaster.pid").unlink(missing_ok=True)


def launch(argv: list[str], user: OsUser, log: Path, *, tethered: bool) -> int:
    """Start the server in a session of its own; its output goes to `log`.

    A thread that lives as long as the server starts it: it takes the exit status, and Linux sends
    the tether's signal when the *thread* that started the child ends, not when the process does.

    Returns:
        Its process id.
    """
    answer: queue.Queue[int | OSError | subprocess.SubprocessError] = queue.Queue()

    def start_and_wait() -> None:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    env=clean_environment(),
                    start_new_session=True,
                    user=user.user,
                    group=user.group,
                    extra_groups=user.extra_groups,
                    umask=0o077,
                    preexec_fn=death_signal() if tethered and sys.platform == "linux" else None,
                )
        except (OSError, subprocess.SubprocessError) as error:
            answer.put(error)
            return
        answer.put(process.pid)
        process.wait()

    threading.Thread(target=start_and_wait, name="slf-postgres", daemon=True).start()
    result = answer.get()
    if isinstance(result, Exception):
        raise result
    if tethered and sys.platform != "linux":
        watch(result, argv)
    return result


def watch(pid: int, argv: list[str]) -> None:
    """Where there is no death signal: a shell that waits for our end of a pipe to close, then stops the server."""
    name = next(word for word in argv if word.startswith("cluster_name=")).partition("=")[2]
    process = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "sh", str(pid), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    threading.Thread(target=process.wait, name="slf-postgres-watch", daemon=True).start()


def clean_environment() -> dict[str, str]:
    """What the server may see of our environment: no `PG*` settings, no secrets."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}


def death_signal() -> Callable[[], None]:
    """For `preexec_fn`, on Linux: the child gets SIGINT when the thread that started it ends."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def in_child() -> None:  # after the change of user, which would clear it
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def _pidfile(data_dir: Path) -> list[str]:
    try:
        return (data_dir / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _serves(pid: int, data_dir: Path) -> bool:
    """Whether a process is a PostgreSQL process (server or child) on this data folder."""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        if not words or not Path(words[0].partition(":")[0]).name.startswith("postgres"):
            return False
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if mark(data_dir) in " ".join(words) or str(data_dir) in words:
            return True
        return process.cwd() == str(data_dir)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
