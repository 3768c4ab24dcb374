"""Which sources there are to look at again."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from slf_store.dataset.clipfile import file_name
from slf_store.store import Store

SOURCES = text("SELECT name, root FROM source ORDER BY id")


def registered_sources(store: Store) -> dict[str, Path]:
    """{name: root} of every source, in the order they were registered."""
    with store.engine.connect() as connection:
        return {row.name: Path(file_name(row.root)) for row in connection.execute(SOURCES)}
