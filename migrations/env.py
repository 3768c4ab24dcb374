"""Alembic environment: uses the engine it is handed, else the settings' database."""

from __future__ import annotations

import re

from alembic import context

from slf_store.db.engine import open_engine
from slf_store.db.tables import metadata
from slf_store.settings import load_settings

PARTITION = re.compile(r"^(extraction|face_embedding)_\d+$")


def include_object(item: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
    """Partitions are made at run time, one for each constituent: they are not part of the models."""
    table = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
    return not (reflected and table and PARTITION.match(table))


def run() -> None:
    engine = context.config.attributes.get("engine") or open_engine(load_settings())
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=metadata, include_object=include_object, compare_type=True
        )
        with context.begin_transaction():
            context.run_migrations()


run()
