"""Which PostgreSQL and pgvector a server has, and whether they will do."""

from __future__ import annotations

import re
from typing import NamedTuple

from sqlalchemy import Connection, text

from slf_store.errors import DatabaseError

OLDEST_POSTGRESQL = 15
OLDEST_PGVECTOR = (0, 8)  # iterative index scans, needed by filtered nearest-neighbour queries

_VERSIONS = text("""
    SELECT current_setting('server_version_num')::int / 10000 AS major,
           current_setting('server_version') AS postgresql,
           (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS installed,
           (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available
""")


class ServerVersions(NamedTuple):
    """What a server has; `installed` is pgvector in this database, `available` what it could install."""

    major: int
    postgresql: str
    installed: str | None
    available: str | None


def read_versions(connection: Connection) -> ServerVersions:
    """Ask the server."""
    return ServerVersions(*connection.execute(_VERSIONS).one())


def require(found: ServerVersions) -> ServerVersions:
    """Check that the versions will do.

    >>> require(ServerVersions(16, "16.4", None, "0.8.0")).postgresql
    '16.4'

    Raises:
        DatabaseError: something is too old or missing; says what was found, what is needed and the next step.
    """
    need = ".".join(map(str, OLDEST_PGVECTOR))
    if found.major < OLDEST_POSTGRESQL:
        raise DatabaseError(
            f"the server is PostgreSQL {found.postgresql}; slf-store needs {OLDEST_POSTGRESQL} or newer",
            hint="point SLF_DATABASE_URL at a newer server, or unset it to use the embedded one",
        )
    if found.installed is not None and _numbers(found.installed) < OLDEST_PGVECTOR:
        newer = found.available is not None and _numbers(found.available) >= OLDEST_PGVECTOR
        raise DatabaseError(
            f"the database has pgvector {found.installed}; slf-store needs {need} or newer",
            hint="run `ALTER EXTENSION vector UPDATE` in it as its owner" if newer else _upgrade(need),
        )
    if found.installed is None and found.available is None:
        raise DatabaseError(f"the server has no pgvector; slf-store needs {need} or newer", hint=_upgrade(need))
    if found.installed is None and _numbers(found.available or "") < OLDEST_PGVECTOR:
        raise DatabaseError(
            f"the server offers pgvector {found.available}; slf-store needs {need} or newer", hint=_upgrade(need)
        )
    return found


def _upgrade(need: str) -> str:
    return (
        f"install pgvector {need} or newer on the server (image pgvector/pgvector:pg17, package postgresql-17-pgvector)"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
