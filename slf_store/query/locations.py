"""Where the values of a large snapshot lie, kept in a file: asking PostgreSQL for millions of places takes seconds.

The file is a copy that may be deleted at any time. It is used only while the database says that nothing moved since it
was written, and it names no clip and no person: shards and row numbers only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.errors import ShardError
from slf_store.shards.reader import find_values

Heads = list[tuple[int, int]]
"""Of each shard: offset of its values in the file, and how many there are."""
Places = tuple[list[str], NDArray[np.int32], NDArray[np.int32], Heads]
"""Shards relative to their folder, for each clip the index of its shard (-1: none) and its row there, and the heads."""

WORTH_KEEPING = 10_000
"""Clips from which on a snapshot's places are kept."""

STATE = text("""
    -- Another text after any change to where values of these constituents lie. What is extracted, extracted again,
    -- compacted or erased makes a new shard or ends one; triggers count what is done, failed, or given up.
    SELECT string_agg(line, ' ' ORDER BY line)
    FROM (SELECT concat_ws(':', 'shards', constituent_id, count(*), max(id), count(superseded_at)) AS line
          FROM shard WHERE constituent_id = ANY(:constituents) GROUP BY constituent_id
          UNION ALL
          SELECT concat_ws(':', state, constituent_id, sum(clips), round(CAST(sum(seconds) AS numeric), 1))
          FROM extraction_count WHERE constituent_id = ANY(:constituents) GROUP BY constituent_id, state) AS lines
""")


def read_state(connection: Connection, constituents: Sequence[int]) -> str:
    """Where the values of constituents lie today, in short; to be asked before they are located."""
    return str(connection.execute(STATE, {"constituents": list(constituents)}).scalar_one())


class LocationFile:
    """The file of one part of one snapshot.

    Args:
        home: of the store.
        snapshot: hash of the snapshot.
        part: all, train or validation.
        state: what :func:`read_state` gave.
        clip_ids: (n,) int64 of the snapshot's part.
    """

    def __init__(self, home: Path, snapshot: str, part: str, state: str, clip_ids: NDArray[np.int64]) -> None:
        kept = len(clip_ids) >= WORTH_KEEPING
        self.path = home / "cache" / "locations" / f"{snapshot}-{part}.npz" if kept else None
        self._key = hashlib.blake2b(state.encode() + clip_ids.tobytes(), digest_size=16).hexdigest()

    def read(self) -> dict[str, Places] | None:
        """{constituent: places}; None when there are none, or they are not those of today."""
        if self.path is None:
            return None
        try:
            with np.load(self.path) as file:
                head = json.loads(file["head"].tobytes())
                if head["key"] != self._key:
                    return None
                return {
                    name: (paths, file[f"{name}.shard"], file[f"{name}.row"], [(at, rows) for at, rows in heads])
                    for name, paths, heads in head["shards"]
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, shards: Path, places: Mapping[str, tuple[list[str], NDArray[np.int32], NDArray[np.int32]]]) -> None:
        """Keep places, once the head of every shard in the folder `shards` was read.

        Where a shard is damaged or the file cannot be written, nothing is kept.
        """
        if self.path is None:
            return
        temporary = self.path.with_name(f".{uuid.uuid4().hex}.npz")
        with contextlib.suppress(OSError, ShardError):
            found = [(name, paths, [head(shards / path) for path in paths]) for name, (paths, _, _) in places.items()]
            text = json.dumps({"key": self._key, "shards": found})
            arrays: dict[str, NDArray[Any]] = {"head": np.frombuffer(text.encode(), np.uint8)}
            for name, (_, shard, row) in places.items():
                arrays |= {f"{name}.shard": shard, f"{name}.row": row}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                np.savez(temporary, **arrays)  # type: ignore[arg-type]
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)


def head(path: Path) -> tuple[int, int]:
    """Offset and number of the values of a shard."""
    offset, shape, _ = find_values(path)
    return offset, shape[0]
