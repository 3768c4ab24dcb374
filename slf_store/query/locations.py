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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

Places = tuple[list[str], NDArray[np.int32], NDArray[np.int32]]
"""Shards relative to their folder, and for each clip the index of its shard (-1: none) and its row there."""

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


class LocationFile:
    """The file of one part of one snapshot.

    Args:
        connection: open; asked what state the constituents are in, before they are located.
        path: the file.
        constituents: their keys.
        clip_ids: (n,) int64 of the snapshot's part.
    """

    def __init__(
        self, connection: Connection, path: Path, constituents: Sequence[int], clip_ids: NDArray[np.int64]
    ) -> None:
        self.path = path if len(clip_ids) >= WORTH_KEEPING else None
        state = connection.execute(STATE, {"constituents": list(constituents)}).scalar_one()
        self._key = hashlib.blake2b(f"{state}".encode() + clip_ids.tobytes(), digest_size=16).hexdigest()

    def read(self) -> dict[str, Places] | None:
        """{constituent: places}; None when there are none, or they are not those of today."""
        if self.path is None:
            return None
        try:
            with np.load(self.path) as file:
                head = json.loads(file["head"].tobytes())
                if head["key"] != self._key:
                    return None
                return {name: (paths, file[f"{name}.shard"], file[f"{name}.row"]) for name, paths in head["paths"]}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, places: dict[str, Places]) -> None:
        """Keep places. Where the folder cannot be written to, nothing is kept."""
        if self.path is None:
            return
        head = json.dumps({"key": self._key, "paths": [(name, paths) for name, (paths, _, _) in places.items()]})
        arrays: dict[str, NDArray[Any]] = {"head": np.frombuffer(head.encode(), np.uint8)}
        for name, (_, shard, row) in places.items():
            arrays |= {f"{name}.shard": shard, f"{name}.row": row}
        temporary = self.path.with_name(f".{uuid.uuid4().hex}.npz")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                np.savez(temporary, **arrays)  # type: ignore[arg-type]
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)
