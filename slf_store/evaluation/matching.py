"""Exact nearest neighbours, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from slf_store.evaluation.gallery import Gallery
    from slf_store.evaluation.probes import Probes

NEAREST = 10
"""Matches kept for each probe: the largest k of recall@k."""

_MATCH = """
    -- The nearest gallery faces of every probe of one evaluation. Exact: both sides are materialised, so no
    -- approximate index can be used, and every distance is computed. Equal distances are ordered by clip.
    -- A generated face may find the real face of its own clip (that is the task); a real face may not find itself.
    -- Probes without a detected face have no vector, so no matches: they stay misses.
    WITH gallery AS MATERIALIZED (
        SELECT face.clip_id, video.identity_id, face.vector
        FROM snapshot_clip member
        JOIN face_embedding face ON face.clip_id = member.clip_id AND face.constituent_id = :embedding
        JOIN clip ON clip.id = member.clip_id
        JOIN video ON video.id = clip.video_id
        WHERE member.snapshot_id = :snapshot AND (CAST(:part AS text) = 'all' OR member.part = :part)
    ), face AS (
        SELECT generation.clip_id, embedded.vector, CAST(NULL AS bigint) AS itself
        FROM generation
        JOIN generation_embedding embedded
          ON embedded.generation_id = generation.id AND embedded.constituent_id = :embedding
        WHERE generation.id = ANY(CAST(:generations AS bigint[])) AND embedded.vector IS NOT NULL
        UNION ALL
        SELECT clip_id, vector, clip_id
        FROM face_embedding
        WHERE clip_id = ANY(CAST(:real_clips AS bigint[])) AND constituent_id = :embedding
    ), probe AS MATERIALIZED (
        SELECT face.clip_id, face.vector, face.itself, video.identity_id
        FROM face
        JOIN clip ON clip.id = face.clip_id
        JOIN video ON video.id = clip.video_id
    )
    INSERT INTO match (evaluation_id, probe_clip_id, rank, gallery_clip_id, distance, hit)
    SELECT :evaluation, probe.clip_id, ranked.rank, ranked.clip_id, ranked.distance,
           ranked.identity_id = probe.identity_id
    FROM probe
    CROSS JOIN LATERAL (
        SELECT nearest.*, row_number() OVER (ORDER BY nearest.distance, nearest.clip_id) AS rank
        FROM (
            SELECT gallery.clip_id, gallery.identity_id, gallery.vector {operator} probe.vector AS distance
            FROM gallery
            WHERE gallery.clip_id IS DISTINCT FROM probe.itself
            ORDER BY distance, gallery.clip_id
            LIMIT :nearest
        ) nearest
    ) ranked
"""
MATCH = {
    "euclidean": text(_MATCH.replace("{operator}", "<->")),
    "cosine": text(_MATCH.replace("{operator}", "<=>")),
}
"""The statement for each distance."""


def match(connection: Connection, evaluation: int, gallery: Gallery, probes: Probes, distance: str) -> None:
    """Write the nearest gallery faces of every probe to `match`, in one statement.

    Args:
        connection: in a transaction.
        evaluation: its key.
        gallery, probes: what is searched in, and with.
        distance: a key of :data:`MATCH`.
    """
    generated = len(probes.generations) > 0
    connection.execute(
        MATCH[distance],
        {
            "evaluation": evaluation,
            "snapshot": gallery.snapshot_id,
            "part": gallery.part,
            "embedding": gallery.embedding.constituent_id,
            "generations": probes.generations.tolist(),
            "real_clips": [] if generated else probes.clips.tolist(),
            "nearest": NEAREST,
        },
    )
