"""Exact nearest neighbours, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.db.staging import copy_rows
from slf_store.evaluation.candidates import propose
from slf_store.evaluation.gallery import generated_vectors, real_vectors

if TYPE_CHECKING:
    from slf_store.evaluation.gallery import Gallery
    from slf_store.evaluation.probes import Probes

NEAREST = 10
"""Matches kept for each probe: the largest k of recall@k."""
LARGE = 20_000_000
"""Pairs of probe and face from which on a matrix product proposes: about ten seconds of plain SQL."""
PROPOSED = 20
"""Faces proposed for each probe: more than NEAREST, so that rounding does not matter for nearly all probes."""

_MATCH = """
    -- The nearest gallery faces of every probe of one evaluation. Exact: both sides are materialised, so no
    -- approximate index can be used, and every distance is computed. Equal distances are ordered by clip.
    -- A generated face may find the real face of its own clip (that is the task); a real face may not find itself.
    -- Probes without a detected face have no vector, so no matches: they stay misses.
    -- A vector of more than some 500 numbers lies outside its row; subvector brings it in, once instead of once a pair.
    WITH gallery AS MATERIALIZED (
        SELECT face.clip_id, video.identity_id,
               subvector(face.vector, 1, vector_dims(face.vector)) AS vector
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
        SELECT face.clip_id, subvector(face.vector, 1, vector_dims(face.vector)) AS vector, face.itself,
               video.identity_id
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

_SETTLE = """
    -- Of the faces proposed for a probe the nearest, by the very distances of the statement above. A probe is settled
    -- where the last of them is nearer than any face that was not proposed can be.
    WITH probe AS MATERIALIZED (
        SELECT proposed.*, subvector(found.vector, 1, vector_dims(found.vector)) AS vector
        FROM proposed
        LEFT JOIN generation_embedding generated
          ON generated.generation_id = proposed.generation_id AND generated.constituent_id = :embedding
        LEFT JOIN face_embedding real
          ON proposed.generation_id IS NULL AND real.clip_id = proposed.probe_clip_id
         AND real.constituent_id = :embedding
        CROSS JOIN LATERAL (SELECT coalesce(generated.vector, real.vector) AS vector) found
    ), measured AS (
        SELECT probe.probe_clip_id, gallery.clip_id AS gallery_clip_id, probe.floor,
               gallery.vector {operator} probe.vector AS distance
        FROM probe
        CROSS JOIN LATERAL unnest(probe.gallery_clip_ids) AS face (clip_id)
        JOIN face_embedding gallery ON gallery.clip_id = face.clip_id AND gallery.constituent_id = :embedding
        WHERE probe.generation_id IS NOT NULL OR face.clip_id <> probe.probe_clip_id
    ), ranked AS (
        SELECT measured.*,
               row_number() OVER (PARTITION BY probe_clip_id ORDER BY distance, gallery_clip_id) AS rank
        FROM measured
    ), judged AS (
        SELECT ranked.*, bool_or(rank = :nearest AND distance < floor) OVER (PARTITION BY probe_clip_id) AS settled
        FROM ranked
    )
    INSERT INTO match (evaluation_id, probe_clip_id, rank, gallery_clip_id, distance, hit)
    SELECT :evaluation, judged.probe_clip_id, judged.rank, judged.gallery_clip_id, judged.distance,
           found.identity_id = wanted.identity_id
    FROM judged
    JOIN clip found_clip ON found_clip.id = judged.gallery_clip_id
    JOIN video found ON found.id = found_clip.video_id
    JOIN clip wanted_clip ON wanted_clip.id = judged.probe_clip_id
    JOIN video wanted ON wanted.id = wanted_clip.video_id
    WHERE judged.settled AND judged.rank <= :nearest
"""
SETTLE = {
    "euclidean": text(_SETTLE.replace("{operator}", "<->")),
    "cosine": text(_SETTLE.replace("{operator}", "<=>")),
}

SETTLED = text("SELECT DISTINCT probe_clip_id FROM match WHERE evaluation_id = :evaluation")

COLUMNS = [("probe_clip_id", "int8"), ("generation_id", "int8"), ("gallery_clip_ids", "int8[]"), ("floor", "float8")]


def match(connection: Connection, evaluation: int, gallery: Gallery, probes: Probes, distance: str) -> None:
    """Write the nearest gallery faces of every probe to `match`: in one statement, or the same from proposals.

    Args:
        connection: in a transaction.
        evaluation: its key.
        gallery, probes: what is searched in, and with.
        distance: a key of :data:`MATCH`.
    """
    left = np.ones(len(probes), bool)
    if len(probes) * gallery.faces >= LARGE and gallery.faces > PROPOSED:
        left = _match_proposed(connection, evaluation, gallery, probes, distance)
    generated = len(probes.generations) > 0
    connection.execute(
        MATCH[distance],
        {
            "evaluation": evaluation,
            "snapshot": gallery.snapshot_id,
            "part": gallery.part,
            "embedding": gallery.embedding.constituent_id,
            "generations": probes.generations[left].tolist() if generated else [],
            "real_clips": [] if generated else probes.clips[left].tolist(),
            "nearest": NEAREST,
        },
    )


def _match_proposed(
    connection: Connection, evaluation: int, gallery: Gallery, probes: Probes, distance: str
) -> NDArray[np.bool_]:
    """Settle what can be settled among the proposals of a matrix product: (n,) bool, the probes that are left."""
    embedding = gallery.embedding.constituent_id
    if len(probes.generations):
        clips, vectors = generated_vectors(connection, embedding, probes.generations)
        generation = dict(zip(probes.clips.tolist(), probes.generations.tolist(), strict=True))
    else:
        clips, vectors = np.sort(probes.clips), real_vectors(connection, embedding, probes.clips)
        generation = {}
    if not len(clips):
        return np.ones(len(probes), bool)
    indices, floor = propose(vectors, real_vectors(connection, embedding, gallery.clips), PROPOSED, distance)
    rows = (
        (clip, generation.get(clip), faces, nothing_below)
        for clip, faces, nothing_below in zip(
            clips.tolist(), gallery.clips[indices].tolist(), floor.tolist(), strict=True
        )
    )
    copy_rows(connection, "proposed", COLUMNS, rows)
    connection.execute(text("ANALYZE proposed"))
    values = {"evaluation": evaluation, "embedding": embedding, "nearest": NEAREST}
    connection.execute(SETTLE[distance], values)
    settled = connection.execute(SETTLED, {"evaluation": evaluation}).scalars().all()
    return ~np.isin(probes.clips, np.array(settled, np.int64))
