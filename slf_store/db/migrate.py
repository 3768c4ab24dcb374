"""Bringing the schema to this version with Alembic."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from slf_store.db.readers import ensure_readers
from slf_store.errors import DatabaseError

_LOCK = 0x51F0_0001
"""Advisory lock: one migration at a time."""


def alembic_config(engine: Engine | None = None) -> Config:
    """Alembic's configuration, working from the checkout and from an installed package."""
    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    if engine is not None:
        config.attributes["engine"] = engine
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrate up; concurrent callers wait for each other.

    Raises:
        DatabaseError: the schema is newer than this program, or the user may not do what a migration does.
    """
    config = alembic_config(engine)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        try:
            current = _current(engine)
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if current is not None and current not in known:
                raise _newer(current)
            command.upgrade(config, revision)
            if revision == "head":
                ensure_readers(engine)  # new tables and views are granted to them by name
        except ProgrammingError as error:
            if not isinstance(error.orig, InsufficientPrivilege):
                raise
            raise _not_allowed(engine, error.orig) from None
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()


def _not_allowed(engine: Engine, error: InsufficientPrivilege) -> DatabaseError:
    user = engine.url.username
    return DatabaseError(
        f"user {user} may not migrate this database: {error.diag.message_primary}",
        hint=f"make {user} the database's owner; let a superuser CREATE EXTENSION vector there; where slf_ingest, "
        f"slf_researcher and slf_analyst are somebody else's: GRANT each TO {user} WITH ADMIN OPTION",
    )


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Migrate down. Data of dropped tables is lost."""
    command.downgrade(alembic_config(engine), revision)


@dataclass(frozen=True)
class SchemaVersion:
    """Where a database's schema stands.

    Attributes:
        current: its revision; None where it holds no store.
        head: the revision this program needs.
        steps: migrations between them, oldest first, as ``0005 what it brings``.
    """

    current: str | None
    head: str
    steps: tuple[str, ...]


def schema_version(engine: Engine) -> SchemaVersion:
    """Where the schema stands, without touching it.

    Raises:
        DatabaseError: the schema is newer than this program.
    """
    scripts = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    current = _current(engine)
    known = [script.revision for script in scripts]
    if current is not None and current not in known:
        raise _newer(current)
    behind = scripts if current is None else scripts[: known.index(current)]
    steps = tuple(f"{script.revision} {script.doc}" for script in reversed(behind))
    return SchemaVersion(current, known[0], steps)


def check_schema(engine: Engine) -> None:
    """Refuse a database that is not at this program's version.

    Raises:
        DatabaseError: not initialised, older, or newer.
    """
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    current = _current(engine)
    if current is None:
        raise DatabaseError("the database holds no store yet", hint="run `slf init`")
    if current not in known_revisions():
        raise _newer(current)
    if current != head:
        raise DatabaseError(f"the schema has version {current}, this program needs {head}", hint="run `slf migrate`")


def known_revisions() -> list[str]:
    """Every schema revision this program knows, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]


def _newer(current: str) -> DatabaseError:
    return DatabaseError(f"the schema has version {current}, newer than this program", hint="update slf-store")


def _current(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> Path:
    spec = importlib.util.find_spec("migrations")
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseError("the migrations are not installed", hint="install slf-store again")
    return Path(next(iter(spec.submodule_search_locations)))
