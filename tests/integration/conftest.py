"""Stores for integration tests: empty ones, and one with the synthetic sample extracted."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fault_stores import Stores, contents
from fault_worker import Worker

from slf_store.cli.demo import CONSTITUENTS
from slf_store.db.engine import open_engine
from slf_store.db.migrate import upgrade
from slf_store.settings import Settings
from slf_store.store import Store

DEV, TEST = 6, 3
SAMPLE_CONSTITUENTS = (*CONSTITUENTS, "resemblyzer")
"""What is extracted from the synthetic sample, whose voices speak no language."""
OLD = Path(__file__).parents[1] / "fixtures" / "store_0002"


def new_store(folder: Path, url: str, **settings: object) -> Store:
    """A store in `folder` on the database `url`."""
    values = {"workers": 2, "chunk_size": 4, **settings}
    return Store.create(settings=Settings(home=folder.absolute(), database_url=url, **values))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store."""
    monkeypatch.setenv("SLF_DATABASE_URL", database_url)
    monkeypatch.setenv("SLF_HOME", str(tmp_path / "store"))
    with new_store(tmp_path / "store", database_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def sample(open_folder: Path) -> Path:
    """The synthetic sample: 6 + 3 identities, two videos each."""
    from slf_store.dataset.synthetic.tree import write_sample

    root = open_folder / "sample"
    write_sample(root, dev_identities=DEV, test_identities=TEST, workers=2)
    return root


@pytest.fixture(scope="session")
def extracted(open_folder: Path, server_url: str, sample: Path) -> Iterator[Store]:
    """A store with the sample ingested and extracted. Tests read it; what they add has a name of its own."""
    from slf_store.jobs.ingest import ingest
    from slf_store.jobs.pool import extract

    name = f"extracted_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    home = open_folder / "extracted"
    with new_store(home, server_url.rpartition("/")[0] + "/" + name) as opened:
        ingest(opened, sample)
        extract(opened, SAMPLE_CONSTITUENTS)
        yield opened
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def old_store(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of the store of schema 0002 that is kept in `tests/fixtures`, restored into a fresh database."""
    home = tmp_path / "store"
    for folder in ("shards", "runs"):
        shutil.copytree(OLD / folder, home / folder)
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute((OLD / "database.sql").read_bytes())
    monkeypatch.setenv("SLF_DATABASE_URL", database_url)
    monkeypatch.setenv("SLF_HOME", str(home))
    return Settings(home=home, workers=2)


@pytest.fixture(scope="session")
def stores(open_folder: Path, server_url: str, sample: Path) -> Stores:
    """Six clips ingested, to be copied; processes that are forked from now on find the tests' modules."""
    from slf_store.jobs.ingest import ingest

    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    name = f"template_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    with new_store(open_folder / name, server_url.rpartition("/")[0] + "/" + name) as opened:
        ingest(opened, sample / "test")
    return Stores(server_url, name, open_folder)


@pytest.fixture(scope="session")
def undisturbed(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Any, ...]]:
    """What an extraction that nothing disturbs makes of :func:`stores`' clips."""
    with stores.fresh() as store:
        assert Worker(store.settings, tmp_path_factory.mktemp("said")).answer() == "clips 6"
        return contents(store)


@pytest.fixture
def kept(old_store: Settings) -> Iterator[Store]:
    """The same store, migrated: six small shards, a snapshot `kept`, face embeddings and pictures, in a second."""
    engine = open_engine(old_store)
    upgrade(engine)
    with Store(old_store, engine) as opened:
        yield opened
