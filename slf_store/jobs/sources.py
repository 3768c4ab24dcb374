"""Sources: listing them, and following one whose folder has moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from slf_store.dataset.clipfile import file_name, stored_name
from slf_store.dataset.voxceleb2 import find_layout
from slf_store.errors import DatasetError, NotFoundInStore
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

SAMPLE = 200
"""Clips looked at before a source is said to have moved."""

LIST = """
    SELECT source.name, source.root, source.layout, source.synthetic,
           coalesce(sum(counted.clips) FILTER (WHERE place.split = 'dev'), 0)::bigint  AS dev,
           coalesce(sum(counted.clips) FILTER (WHERE place.split = 'test'), 0)::bigint AS test,
           coalesce(sum(counted.quarantined), 0)::bigint                               AS quarantined,
           coalesce(sum(counted.vanished), 0)::bigint                                  AS vanished,
           source.created_at
    FROM source
    LEFT JOIN place ON place.source_id = source.id
    LEFT JOIN (SELECT place_id, count(*) AS clips, count(*) FILTER (WHERE state = 'quarantined') AS quarantined,
                      count(vanished_at) AS vanished
               FROM clip GROUP BY place_id) counted ON counted.place_id = place.id
    GROUP BY source.id ORDER BY source.name
"""

FIND = text("SELECT id, root, layout FROM source WHERE name = :name FOR UPDATE")
TAKEN = text("SELECT name FROM source WHERE root = :root AND id <> :id")
SOME = text("""
    -- Clips from all over the source, the same ones each time.
    SELECT path, file_bytes, file_mtime_ns, checksum
    FROM clip
    WHERE place_id IN (SELECT id FROM place WHERE source_id = :id) AND vanished_at IS NULL AND checksum IS NOT NULL
    ORDER BY hashint8(id) LIMIT :sample
""")
MOVE = text("UPDATE source SET root = :root WHERE id = :id")


@dataclass(frozen=True)
class Moved:
    """A source that was followed: old and new root, clips looked at, those of them whose content was read."""

    before: str
    after: str
    looked_at: int
    read: int


def list_sources(store: Store) -> Sequence[dict[str, Any]]:
    """One row for each source: name, root, layout, synthetic, clips by split, quarantined, vanished."""
    return store.query(LIST)


def move_source(store: Store, name: str, root: Path) -> Moved:
    """Follow a source to another root. Nothing is probed or extracted again.

    Up to 200 clips from all over the source are looked at: size and time must be as they were, or, where only the time
    differs (a copy), the content.

    Args:
        store: open store.
        name: of the source.
        root: where its files are now.

    Raises:
        NotFoundInStore: there is no such source.
        DatasetError: the root is no folder, is another source's, or holds other files.
    """
    root = root.absolute()
    layout = find_layout(root)
    with store.engine.begin() as connection:
        source = connection.execute(FIND, {"name": name}).first()
        if source is None:
            raise NotFoundInStore(f"no source {name!r}", hint="see `slf source list`")
        values = {"id": source.id, "root": stored_name(str(root)), "sample": SAMPLE}
        taken = connection.execute(TAKEN, values).scalar()
        if taken is not None:
            raise DatasetError(f"{root} is the root of source {taken!r} already", hint="see `slf source list`")
        if layout != source.layout:
            raise DatasetError(
                f"{root} is a tree of the form {layout}, source {name!r} has the form {source.layout}",
                hint="name the folder that stands for the old root",
            )
        some = connection.execute(SOME, values).all()
        read = sum(_is_copy(root, name, row) for row in some)
        connection.execute(MOVE, values)
    return Moved(source.root, stored_name(str(root)), len(some), read)


def _is_copy(root: Path, name: str, row: Any) -> bool:
    """Whether the clip had to be read to see that it is the same."""
    path = root / file_name(row.path)
    hint = f"name the folder that stands for the old root; for other files: `slf ingest {root} --name OTHER`"
    try:
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (row.file_bytes, row.file_mtime_ns):
            return False
        same = stat.st_size == row.file_bytes and file_checksum(path) == row.checksum
    except OSError as error:
        raise DatasetError(f"{root} is not where {name!r} has moved: {path}: {error.strerror}", hint=hint) from None
    if not same:
        raise DatasetError(f"{root} is not where {name!r} has moved: {path} has another content", hint=hint)
    return True
