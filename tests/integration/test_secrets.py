"""Passwords and tokens are in no output, log, file of the store, or table of Prefect; not even when things fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

pytestmark = pytest.mark.integration

PASSWORD = "Xyzzy-9f31-plugh"
TOKEN = "hf_Xyzzy0123456789plover"


@pytest.fixture
def environment(database_url: str, open_folder: Path) -> Iterator[dict[str, str]]:
    """A store on an external server whose owner has a password that can be told apart, and a token beside."""
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE slf_secretive SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        url = make_url(database_url).set(username="slf_secretive", password=PASSWORD)
        yield {
            **os.environ,
            "SLF_DATABASE_URL": url.render_as_string(hide_password=False),
            "SLF_HOME": str(open_folder / "secretive"),
            "SLF_WORKERS": "1",
            "HF_TOKEN": TOKEN,
        }
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'slf_secretive'")
        admin.execute("REASSIGN OWNED BY slf_secretive TO slf")
        admin.execute("DROP OWNED BY slf_secretive")
        admin.execute("DROP ROLE slf_secretive")


def slf(environment: dict[str, str], *words: str, **more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "slf_store.cli.main", "-vv", *words]
    done = subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def test_secrets_are_nowhere(environment: dict[str, str], sample: Path, open_folder: Path, pg_home: Path) -> None:
    said = []
    for words, code in [
        (["init"], 0),
        (["ingest", str(sample / "test")], 0),
        (["sql", "SELECT nothing"], 1),
        (["select", "no_such_column = 1"], 1),
    ]:
        status, output = slf(environment, *words)
        assert status == code, (words, output)
        said.append(output)
    broken = {
        "SLF_DATABASE_URL": environment["SLF_DATABASE_URL"].replace(PASSWORD, PASSWORD + "-wrong"),
        "PREFECT_TASK_DEFAULT_RETRIES": "0",
    }
    said.append(slf(environment, "ingest", str(sample / "test"), **broken)[1])
    said.append(slf(environment, "status", SLF_DATABASE_URL=f"mysql://a:{PASSWORD}@h/d")[1])
    assert "password authentication failed" in said[-2]
    files = [path for root in (open_folder / "secretive", pg_home) for path in root.rglob("*") if path.is_file()]
    assert any(path.name.startswith("prefect.db") for path in files)
    for secret in (PASSWORD, TOKEN):
        assert [words for words in said if secret in words] == []
        assert [path.name for path in files if secret.encode() in path.read_bytes()] == []
