"""Login roles that can only read: what SQL text given by a person runs as.

`SET ROLE` inside the owner's session would not do: one `RESET ROLE`, or `set_config('role', 'none', …)` in the middle
of a SELECT, and the text runs as the owner. These roles have sessions of their own, and nothing to go back to.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any, Literal

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from slf_store.errors import DatabaseError

Role = Literal["researcher", "analyst"]
ROLES: tuple[Role, ...] = ("researcher", "analyst")
URLS = "slf_reader_urls"
"""Execution option of the engine: {role: SecretStr} of the URLs that the settings name for readers."""
KEPT_FROM_READERS = ("blocked", "erasure", "alembic_version")
"""Tables that not even the researchers' reader sees."""


def reader_name(role: Role) -> str:
    """Login role that SQL text runs as.

    >>> reader_name("analyst")
    'slf_reader_analyst'
    """
    return f"slf_reader_{role}"


def connect_reader(engine: Engine, role: Role) -> psycopg.Connection[Any]:
    """A connection of its own for one statement, as the role's reader; autocommit is off.

    The reader's password follows from the owner's, so that nothing more has to be kept. Settings `researcher_url` and
    `analyst_url` name other logins, for an owner without a password.

    Raises:
        DatabaseError: the reader cannot connect, and cannot be made.
    """
    named = engine.get_execution_options().get(URLS, {}).get(role)
    if named is not None:
        try:
            return psycopg.connect(_plain(named.get_secret_value()), connect_timeout=10)
        except psycopg.Error:
            raise DatabaseError(
                f"the {role}s' reader cannot connect", hint=f"see that SLF_{role.upper()}_URL is right"
            ) from None
    try:
        return _connect(engine, role)
    except psycopg.OperationalError:  # no such role yet, or the owner's password is another now
        ensure_readers(engine)
    try:
        return _connect(engine, role)
    except psycopg.Error as error:
        raise DatabaseError(
            f"role {reader_name(role)} cannot connect: {str(error).strip()}",
            hint=f"see pg_hba.conf, or name a login of your own in SLF_{role.upper()}_URL",
        ) from None


def ensure_readers(engine: Engine) -> None:
    """Make the two login roles, or set their passwords and grants again. Needs the owner, who may create roles.

    Nothing is made where the settings name other logins, or the owner has no password to derive theirs from.

    Raises:
        DatabaseError: the owner may not create roles.
    """
    if engine.get_execution_options().get(URLS) or not engine.url.password:
        return
    raw = engine.raw_connection()
    try:
        driver: psycopg.Connection[Any] = raw.driver_connection  # type: ignore[assignment]
        for attempt in range(5):
            try:
                for role in ROLES:
                    _ensure(driver, role, _password(engine, role))
                driver.commit()
                return
            except psycopg.errors.InsufficientPrivilege as error:
                driver.rollback()
                raise DatabaseError(
                    f"cannot make the login roles of readers: {str(error).strip()}",
                    hint="let the store's user create roles, or name logins in SLF_RESEARCHER_URL and SLF_ANALYST_URL",
                ) from None
            except (psycopg.errors.UniqueViolation, psycopg.errors.InternalError):  # another process does the same
                driver.rollback()
                time.sleep(0.05 * 2**attempt)
    finally:
        raw.close()
    raise DatabaseError("cannot make the login roles of readers: others keep changing them", hint="try again")


def _ensure(driver: psycopg.Connection[Any], role: Role, secret: str) -> None:
    name = reader_name(role)
    # Hashed here: the server, its log and its replicas never see the password.
    verifier = driver.pgconn.encrypt_password(secret.encode(), name.encode(), b"scram-sha-256").decode()
    there = driver.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).rowcount
    verb = sql.SQL("ALTER" if there else "CREATE")
    driver.execute(
        sql.SQL("{} ROLE {} LOGIN NOCREATEDB NOCREATEROLE INHERIT PASSWORD {}").format(
            verb, sql.Identifier(name), sql.Literal(verifier)
        )
    )
    driver.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(sql.Identifier(name)))
    driver.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = '1h'").format(sql.Identifier(name)))
    if role == "analyst":
        driver.execute(sql.SQL("GRANT slf_analyst TO {}").format(sql.Identifier(name)))
        return
    # Not a member of slf_researcher, who may write: it is given what it reads.
    driver.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(name)))
    for table in KEPT_FROM_READERS:
        driver.execute(
            sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier("public", table), sql.Identifier(name))
        )


def _connect(engine: Engine, role: Role) -> psycopg.Connection[Any]:
    url = engine.url.set(username=reader_name(role), password=_password(engine, role))
    return psycopg.connect(_plain(url.render_as_string(hide_password=False)), connect_timeout=10)


def _password(engine: Engine, role: Role) -> str:
    secret = engine.url.password
    if not secret:
        raise DatabaseError(
            "SQL text runs as a login role whose password is derived from the owner's, and the owner has none",
            hint="put a password into SLF_DATABASE_URL, or name logins in SLF_RESEARCHER_URL and SLF_ANALYST_URL",
        )
    return hmac.new(str(secret).encode(), reader_name(role).encode(), hashlib.sha256).hexdigest()


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql", 1)
