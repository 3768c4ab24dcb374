"""An engine on the embedded server or on an external one; clear errors, no password in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from slf_store.db.engine import check_server, open_engine
from slf_store.db.versions import ServerVersions, require
from slf_store.errors import ConfigError, DatabaseError
from slf_store.settings import Settings, load_settings

pytestmark = pytest.mark.integration


def external(url: str, home: Path) -> Settings:
    return load_settings(home, database_url=url)


@pytest.mark.parametrize("form", ["postgres", "postgresql", "postgresql+psycopg"])
def test_external_server(database_url: str, tmp_path: Path, form: str) -> None:
    url = form + database_url[database_url.index(":") :]
    engine = open_engine(external(url, tmp_path / "home"))
    assert check_server(engine).installed is None
    with engine.begin() as connection:
        assert connection.execute(text("SHOW application_name")).scalar() == "slf"
        connection.execute(text("CREATE EXTENSION vector"))
    with engine.connect() as connection:  # the type is known as soon as it is there
        assert connection.execute(text("SELECT '[1,2]'::vector")).scalar_one().to_list() == [1, 2]
    engine.dispose()
    assert not (tmp_path / "home").exists()


def test_embedded_server(server_url: str, pg_home: Path) -> None:
    engine = open_engine(load_settings(pg_home), start=False)
    assert engine.url == make_url(server_url)
    engine.dispose()


def test_not_started(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="not running"):
        open_engine(load_settings(tmp_path), start=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "s3cr et/&"}, "password authentication failed"),
        ({"password": "s3cr et/&", "port": 1}, "Connection refused"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_unusable_server(server_url: str, tmp_path: Path, change: dict[str, object], words: str) -> None:
    url = make_url(server_url).set(**change)  # type: ignore[arg-type]
    with pytest.raises(DatabaseError, match=words) as caught:
        open_engine(external(url.render_as_string(hide_password=False), tmp_path))
    assert caught.value.hint
    assert str(url.password) not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["mysql://a:s3cret@h/d", "s3cret", "postgresql+asyncpg://a:s3cret@h/d"])
def test_not_a_postgresql_url(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_engine(external(url, tmp_path))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ServerVersions(14, "14.12", "0.8.0", "0.8.0"), "is PostgreSQL 14.12; slf-store needs 15"),
        (ServerVersions(16, "16.3", None, None), "no pgvector; slf-store needs 0.8"),
        (ServerVersions(16, "16.3", None, "0.7.4"), "offers pgvector 0.7.4"),
        (ServerVersions(16, "16.3", "0.7.4", "0.7.4"), "(?s)has pgvector 0.7.4.*install pgvector 0.8"),
        (ServerVersions(16, "16.3", "0.7.4", "0.8.1"), "(?s)has pgvector 0.7.4.*ALTER EXTENSION vector UPDATE"),
    ],
)
def test_too_old(found: ServerVersions, words: str) -> None:
    with pytest.raises(DatabaseError, match=words):
        require(found)


def test_new_enough() -> None:
    for found in (ServerVersions(15, "15.0", "0.8", "0.8"), ServerVersions(19, "19beta1", None, "0.10.0")):
        assert require(found) is found
