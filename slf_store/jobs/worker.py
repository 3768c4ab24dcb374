"""Who holds a lease: a process of a machine, told apart from a later one with the same number."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil


def new_owner() -> str:
    """A name for this process's lease: `place/pid/start/random`."""
    return f"{place()}/{os.getpid()}/{_start_of(os.getpid())}/{uuid.uuid4().hex[:8]}"


def owner_is_dead(owner: str) -> bool:
    """Whether the owner was a process of this place that is gone. Owners elsewhere are never called dead.

    >>> owner_is_dead(new_owner()), owner_is_dead("elsewhere/1/0/aa")
    (False, False)
    """
    try:
        where, pid, started, _ = owner.split("/")
        if where != place():
            return False
        return _start_of(int(pid)) != started or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.AccessDenied, ValueError):
        return False


@cache
def place() -> str:
    """Where process numbers mean what they mean here: host name, boot and process namespace.

    Two containers may have one host name, and each its own process 7.
    """
    parts = [socket.gethostname().replace("/", "-")]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(Path("/proc/self/ns/pid").readlink().name.strip("pid:[]"))
    return "+".join(parts)


def _start_of(pid: int) -> str:
    """When a process started: in clock ticks after boot where there is /proc, as no change of the clock alters that.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    if not psutil.pid_exists(pid):
        raise psutil.NoSuchProcess(pid)
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[19]
    except OSError:
        return f"{psutil.Process(pid).create_time():.0f}"
