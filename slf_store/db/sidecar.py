"""A database beside the store's, on the same server, for a program of its own (Prefect's server)."""

from __future__ import annotations

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from slf_store.errors import DatabaseError

EXISTS = text("SELECT 1 FROM pg_database WHERE datname = :name")
TRIGRAMS = text("CREATE EXTENSION IF NOT EXISTS pg_trgm")


def sidecar_database(engine: Engine, name: str) -> URL:
    """URL of the database `name` on the engine's server; made, with the extension `pg_trgm`, where there is none.

    Raises:
        DatabaseError: the store's user may not make it.
    """
    url = engine.url.set(database=name)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if connection.execute(EXISTS, {"name": name}).first() is None:
                connection.execute(text(f'CREATE DATABASE "{name}"'))
        beside = create_engine(url)
        try:
            with beside.begin() as connection:
                connection.execute(TRIGRAMS)
        finally:
            beside.dispose()
    except DBAPIError as error:
        raise DatabaseError(
            f"cannot make the database {name!r} beside the store's: {str(error.orig).strip().splitlines()[0]}",
            hint=f"let a superuser make it, with the extension pg_trgm: CREATE DATABASE {name} OWNER {url.username}",
        ) from None
    return url
