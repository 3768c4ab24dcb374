"""The operating system's user that PostgreSQL runs as, and folders this user can reach.

PostgreSQL refuses to run as root. Started by root, it runs as `postgres` or `nobody`, and its files
must lie where that user can go. Permissions of existing folders are never changed.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slf_store.errors import DatabaseError

SERVICE_USERS = ("postgres", "nobody")
"""Who PostgreSQL runs as when root starts it: the first that exists."""

SHARED_FOLDERS = (Path("/var/lib/slf-store"), Path("/var/tmp/slf-store"))
"""Where data goes, by preference, when root's store is out of that user's reach."""


@dataclass(frozen=True)
class OsUser:
    """An OS user, and the `subprocess` arguments that become this user."""

    name: str
    uid: int
    gid: int

    @property
    def foreign(self) -> bool:
        """Whether this is someone else than we are."""
        return self.uid != os.geteuid()

    @property
    def user(self) -> int | None:
        """`user=` of a subprocess."""
        return self.uid if self.foreign else None

    @property
    def group(self) -> int | None:
        """`group=` of a subprocess."""
        return self.gid if self.foreign else None

    @property
    def extra_groups(self) -> list[int] | None:
        """`extra_groups=` of a subprocess."""
        return [] if self.foreign else None

    def own(self, path: Path) -> None:
        """Give a file or folder that we created to this user."""
        if self.foreign:
            os.chown(path, self.uid, self.gid)

    def can_reach(self, path: Path) -> bool:
        """Whether this user can enter the folder, or run the program, at `path`; tried, not computed.

        Raises:
            DatabaseError: we may not become this user at all.
        """
        if not self.foreign:
            return os.access(path, os.X_OK)
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", 'test -x "$1"', "sh", path],
                stdin=subprocess.DEVNULL,
                cwd="/",
                user=self.user,
                group=self.group,
                extra_groups=self.extra_groups,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DatabaseError(
                f"cannot run PostgreSQL as the OS user {self.name} (it refuses to run as root): {error}",
                hint="run as an ordinary user, or set SLF_DATABASE_URL to a PostgreSQL elsewhere",
            ) from error
        return done.returncode == 0


def server_user(data_dir: Path) -> OsUser:
    """Who PostgreSQL runs as: ourselves; for root the data folder's owner, or a service user.

    Raises:
        DatabaseError: root, and there is no other user to run it.
    """
    uid = os.geteuid()
    if uid != 0:
        return _user(uid)
    if data_dir.exists() and (owner := data_dir.stat().st_uid) != 0:
        return _user(owner)
    for name in SERVICE_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return OsUser(name, entry.pw_uid, entry.pw_gid)
    raise DatabaseError(
        f"PostgreSQL refuses to run as root, and there is no OS user {' or '.join(SERVICE_USERS)}",
        hint="create one (`useradd --system postgres`), or run as an ordinary user",
    )


def shared_folder(user: OsUser) -> Path:
    """A folder of root's own that `user` can enter; created when needed.

    Raises:
        DatabaseError: none can be made.
    """
    for folder in SHARED_FOLDERS:
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            stat = folder.lstat()
        except OSError:
            continue
        ours = stat.st_uid == os.geteuid() and not folder.is_symlink() and not stat.st_mode & 0o022
        if ours and user.can_reach(folder):
            return folder
    raise DatabaseError(
        f"the OS user {user.name}, who runs PostgreSQL, can reach neither the store nor "
        + " nor ".join(map(str, SHARED_FOLDERS)),
        hint="set SLF_HOME to a folder whose parents everyone may enter",
    )


def _user(uid: int) -> OsUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return OsUser(str(uid), uid, os.getegid())
    return OsUser(entry.pw_name, uid, entry.pw_gid)
