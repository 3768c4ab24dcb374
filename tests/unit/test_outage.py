"""Waiting for a database that is away: as long as promised, and not for errors of another kind."""

from __future__ import annotations

import socket
import time

import psycopg
import pytest
from sqlalchemy import create_engine, text

from slf_store.db.outage import outlast
from slf_store.errors import DatabaseError


def nowhere() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"postgresql+psycopg://ada:secret@127.0.0.1:{probe.getsockname()[1]}/slf"


def test_a_database_that_stays_away_is_given_up_in_time_and_without_its_password() -> None:
    engine = create_engine(nowhere())
    calls = []

    def ask() -> None:
        calls.append(1)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    began = time.monotonic()
    with pytest.raises(DatabaseError, match=r"did not come back within 0.5 s") as caught:
        outlast(engine, ask, 0.5)
    assert time.monotonic() - began < 3
    assert len(calls) == 1
    assert "secret" not in str(caught.value)


def test_other_errors_are_raised_at_once() -> None:
    def fail() -> None:
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    with pytest.raises(psycopg.errors.DeadlockDetected):
        outlast(create_engine(nowhere()), fail, 60)
