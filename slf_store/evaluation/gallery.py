"""The gallery: the real faces that are searched in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.evaluation.embedding import EmbeddingModel

if TYPE_CHECKING:
    from slf_store.store import Store

PARTS = ("all", "train", "validation")

FACES = text("""
    -- The gallery's faces and whose they are: one row per embedded clip.
    SELECT face.clip_id, video.identity_id
    FROM snapshot_clip member
    JOIN face_embedding face ON face.clip_id = member.clip_id AND face.constituent_id = :embedding
    JOIN clip ON clip.id = member.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE member.snapshot_id = :snapshot AND (CAST(:part AS text) = 'all' OR member.part = :part)
    ORDER BY face.clip_id
""")

REAL_VECTORS = text("""
    -- Vectors of real faces as pgvector sends them.
    SELECT clip_id, vector_send(vector) AS sent FROM face_embedding
    WHERE constituent_id = :embedding AND clip_id = ANY(CAST(:clips AS bigint[])) ORDER BY clip_id
""")

GENERATED_VECTORS = text("""
    -- Vectors of generated faces; none where no face was detected.
    SELECT generation.clip_id, vector_send(embedded.vector) AS sent
    FROM generation_embedding embedded JOIN generation ON generation.id = embedded.generation_id
    WHERE embedded.constituent_id = :embedding AND embedded.generation_id = ANY(CAST(:generations AS bigint[]))
      AND embedded.vector IS NOT NULL
    ORDER BY generation.clip_id
""")

SENT_HEADER = 4
"""Bytes before the elements of a vector as pgvector sends it: its dimension, and 16 bits unused."""


@dataclass(frozen=True)
class Gallery:
    """The clips of a snapshot (or of one part of it) that have a real face embedding.

    A clip whose real face could not be embedded is not in the gallery; its generated face is still a probe.
    """

    snapshot_id: int
    name: str
    part: str
    embedding: EmbeddingModel
    clips: NDArray[np.int64]
    """(G,) clip of each face, in their order."""
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
            FACES, {"snapshot": row.id, "part": part, "embedding": embedding.constituent_id}
        ).all()
    clips, identities = np.array([tuple(face) for face in found], np.int64).reshape(-1, 2).T
    if len(clips) == 0:
        raise NotFoundInStore(
            f"no clip of snapshot {snapshot!r} (part {part}) has a face embedding of {embedding.name}",
            hint="run `slf extract`, or see `slf coverage` for what failed",
        )
    return Gallery(row.id, snapshot, part, embedding, clips, identities)


def real_vectors(connection: Connection, embedding: int, clips: NDArray[np.int64]) -> NDArray[np.float32]:
    """Embeddings of real faces: (m, d) float32, in the order of their clips; clips without one have no row."""
    return _vectors(connection.execute(REAL_VECTORS, {"embedding": embedding, "clips": clips.tolist()}).all())[1]


def generated_vectors(
    connection: Connection, embedding: int, generations: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embeddings of generated faces with a detected face: (m,) clips and (m, d) float32."""
    values = {"embedding": embedding, "generations": generations.tolist()}
    return _vectors(connection.execute(GENERATED_VECTORS, values).all())


def _vectors(rows: Sequence[Row[Any]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    vectors = [np.frombuffer(row.sent, ">f4", offset=SENT_HEADER) for row in rows]
    clips = np.array([row.clip_id for row in rows], np.int64)
    return clips, np.array(vectors, np.float32) if vectors else np.empty((0, 0), np.float32)
