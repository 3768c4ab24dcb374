"""One PostgreSQL for all integration tests, a fresh database for each."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from slf_store.db.embedded import EmbeddedServer

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no deadline")

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 2 * 2**30


LONG = ("test_demo.py", "test_cli.py", "test_serve_flows.py", "test_extract.py", "test_ray.py", "test_flows.py")
"""Files of minutes: they begin first, so that no process works on one while the others have nothing left."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def media_files() -> ModuleType:
    """The module `tests/media_files.py`: tests are no package that it could be imported from."""
    spec = importlib.util.spec_from_file_location("media_files", Path(__file__).with_name("media_files.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that every OS user may enter, in memory where there is room: tests need no fsync."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED_BYTES
    folder = Path(tempfile.mkdtemp(prefix="slf-tests-", dir=MEMORY if in_memory else None))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def pg_home(open_folder: Path) -> Path:
    """The home of the session's server."""
    return open_folder / "session"


@pytest.fixture(scope="session")
def server_url(pg_home: Path) -> Iterator[str]:
    """URL of a server that ends with this process, even if it is killed."""
    server = EmbeddedServer(pg_home)
    yield server.start(tethered=True)
    server.stop()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch with one thread: several wait for each other on a busy machine, and give other last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """URL of a fresh, empty database (no extension in it either), dropped after the test."""
    import psycopg

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield server_url.rpartition("/")[0] + "/" + name
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
