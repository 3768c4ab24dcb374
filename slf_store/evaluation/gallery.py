"""The gallery: the real faces that are searched in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.evaluation.embedding import EmbeddingModel

if TYPE_CHECKING:
    from slf_store.store import Store

PARTS = ("all", "train", "validation")

GALLERY_IDENTITIES = text("""
    -- Whose the gallery's faces are: one row per embedded clip.
    SELECT video.identity_id
    FROM snapshot_clip member
    JOIN face_embedding face ON face.clip_id = member.clip_id AND face.constituent_id = :embedding
    JOIN clip ON clip.id = member.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE member.snapshot_id = :snapshot AND (CAST(:part AS text) = 'all' OR member.part = :part)
""")


@dataclass(frozen=True)
class Gallery:
    """The clips of a snapshot (or of one part of it) that have a real face embedding.

    A clip whose real face could not be embedded is not in the gallery; its generated face is still a probe.
    """

    snapshot_id: int
    name: str
    part: str
    embedding: EmbeddingModel
    identities: NDArray[np.int64]
    """(G,) identity of each face."""

    @property
    def faces(self) -> int:
        """G, faces searched in."""
        return len(self.identities)

    def same(self, identities: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gallery faces of each of (n,) identities: (n,) int64."""
        known, counts = np.unique(self.identities, return_counts=True)
        at = np.searchsorted(known, identities).clip(max=len(known) - 1)
        return np.where(known[at] == identities, counts[at], 0)


def open_gallery(store: Store, snapshot: str, part: str, embedding: EmbeddingModel) -> Gallery:
    """The gallery of a snapshot.

    Raises:
        ConfigError: no such part.
        NotFoundInStore: no such snapshot, or none of its clips has a face embedding.
    """
    if part not in PARTS:
        raise ConfigError(f"no part {part!r} of a snapshot", hint=f"choose one of {', '.join(PARTS)}")
    with store.engine.connect() as connection:
        row = connection.execute(text("SELECT id FROM snapshot WHERE name = :name"), {"name": snapshot}).first()
        if row is None:
            raise NotFoundInStore(
                f"the store has no snapshot {snapshot!r}", hint="see `slf snapshot list` for their names"
            )
        found = connection.execute(
            GALLERY_IDENTITIES, {"snapshot": row.id, "part": part, "embedding": embedding.constituent_id}
        ).scalars()
        identities = np.array(found.all(), np.int64)
    if len(identities) == 0:
        raise NotFoundInStore(
            f"no clip of snapshot {snapshot!r} (part {part}) has a face embedding of {embedding.name}",
            hint="run `slf extract`, or see `slf coverage` for what failed",
        )
    return Gallery(row.id, snapshot, part, embedding, identities)
