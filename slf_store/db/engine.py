"""The way to the database: an engine on the embedded server, or on the one that `database_url` names."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from slf_store.db.embedded import EmbeddedServer
from slf_store.db.readers import ROLES, URLS
from slf_store.db.versions import ServerVersions, read_versions, require
from slf_store.errors import ConfigError, DatabaseError
from slf_store.settings import Settings

CONNECT_TIMEOUT_S = 10


def open_engine(settings: Settings, *, start: bool = True, tethered: bool = False) -> Engine:
    """Connect to the store's database, checked for its versions.

    Args:
        settings: `database_url` names an external server; without it `home` has an embedded one.
        start: start the embedded server when it does not run (an external one is never started).
        tethered: an embedded server started here ends with this process.

    Returns:
        A pooled engine; its connections send and return pgvector's types.

    Raises:
        ConfigError: `database_url` is no PostgreSQL URL.
        DatabaseError: the server cannot be started or reached, or is too old. Never shows a password.

    Example::

        with open_engine(load_settings()).connect() as connection:
            connection.execute(text("SELECT count(*) FROM clips"))
    """
    server = None
    if settings.database_url is not None:
        url = parse_url(settings.database_url.get_secret_value())
    else:
        server = EmbeddedServer(settings.home, settings.pg_bin)
        url = make_url(server.start(tethered=tethered) if start else server.url())
    arguments = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "slf"}
    engine = create_engine(
        url,
        pool_size=5,
        max_overflow=10,
        pool_pre_ping=True,
        connect_args={name: value for name, value in arguments.items() if name not in url.query},
    )
    event.listen(engine, "checkout", _know_vectors)
    named = {"researcher": settings.researcher_url, "analyst": settings.analyst_url}
    engine.update_execution_options(**{URLS: {role: named[role] for role in ROLES if named[role] is not None}})
    if server is not None:
        event.listen(engine, "do_connect", partial(_find_port, server))
    try:
        check_server(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def check_server(engine: Engine) -> ServerVersions:
    """Reach the server and check PostgreSQL >= 15 and pgvector >= 0.8 (installed or installable).

    Raises:
        DatabaseError: it cannot be reached, or something is too old or missing.
    """
    try:
        with engine.connect() as connection:
            return require(read_versions(connection))
    except DBAPIError as error:
        place = engine.url.set(query={}).render_as_string(hide_password=True)
        raise DatabaseError(
            f"cannot use the database {place}: {_without_password(str(error.orig).strip(), engine.url)}",
            hint="see that the server runs, and that user, password, host, port and database in the URL are right",
        ) from None


def parse_url(text: str) -> URL:
    """Read a PostgreSQL URL in any of its usual forms.

    >>> parse_url("postgres://ada@db.example/slf").drivername
    'postgresql+psycopg'

    Raises:
        ConfigError: it is none; the text, which may hold a password, is not repeated.
    """
    hint = "the form is postgresql://USER:PASSWORD@HOST:PORT/DATABASE, special characters in it %-encoded"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError("setting database_url: cannot be read as a URL", hint=hint) from None
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigError(f"setting database_url: {url.drivername}:// is not PostgreSQL", hint=hint)
    return url.set(drivername="postgresql+psycopg")


def _know_vectors(connection: Any, record: Any, proxy: Any) -> None:
    """At each checkout until it succeeds: the extension may come later, with the first migration."""
    if not record.info.get("vectors"):
        from pgvector.psycopg import register_vector
        from psycopg import ProgrammingError

        try:
            register_vector(connection)
        except ProgrammingError:
            return
        record.info["vectors"] = True


def _find_port(server: EmbeddedServer, _dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
    """An embedded server that was started anew listens on another port."""
    with suppress(DatabaseError):
        parameters["port"] = make_url(server.url()).port


def _without_password(text: str, url: URL) -> str:
    secret = url.password
    for form in {secret, quote(secret, safe=""), quote_plus(secret)} if secret else ():
        text = text.replace(form, "***")
    return text
