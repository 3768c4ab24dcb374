"""Recall against the size of the gallery: exactly what adding strangers does, without searching again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.evaluation.embedding import constituent_name
from slf_store.evaluation.interval import bootstrap_means
from slf_store.evaluation.measure import KS
from slf_store.evaluation.paired import find_evaluations

if TYPE_CHECKING:
    from slf_store.store import Store

CLOSER = {
    "euclidean": "<->",
    "cosine": "<=>",
}
_CLOSER = """
    -- For every probe of one evaluation: how many gallery faces, and how many strangers, are nearer than the nearest
    -- face of the right person. Strangers are all other embedded real faces of people who are not in the gallery.
    -- At equal distance the right person is first.
    WITH gallery AS MATERIALIZED (
        SELECT face.clip_id, video.identity_id, subvector(face.vector, 1, vector_dims(face.vector)) AS vector
        FROM evaluation
        JOIN snapshot_clip member ON member.snapshot_id = evaluation.gallery_id
                                 AND (evaluation.part = 'all' OR member.part = evaluation.part)
        JOIN face_embedding face
          ON face.clip_id = member.clip_id AND face.constituent_id = evaluation.constituent_id
        JOIN clip ON clip.id = member.clip_id
        JOIN video ON video.id = clip.video_id
        WHERE evaluation.id = :evaluation
    ), stranger AS MATERIALIZED (
        SELECT subvector(face.vector, 1, vector_dims(face.vector)) AS vector
        FROM evaluation
        JOIN face_embedding face ON face.constituent_id = evaluation.constituent_id
        JOIN clip ON clip.id = face.clip_id
        JOIN video ON video.id = clip.video_id
        WHERE evaluation.id = :evaluation AND video.identity_id NOT IN (SELECT identity_id FROM gallery)
    ), searched AS MATERIALIZED (
        SELECT probe.clip_id, video.identity_id, embedded.vector,
               (SELECT min(gallery.vector {operator} embedded.vector) FROM gallery
                WHERE gallery.identity_id = video.identity_id) AS right_distance
        FROM probe
        JOIN evaluation ON evaluation.id = probe.evaluation_id
        JOIN clip ON clip.id = probe.clip_id
        JOIN video ON video.id = clip.video_id
        LEFT JOIN generation ON generation.run_id = evaluation.run_id AND generation.clip_id = probe.clip_id
                            AND generation.method = 'diffusion' AND generation.scale = evaluation.scale
                            AND generation.seed = evaluation.seed AND generation.steps = evaluation.steps
        LEFT JOIN generation_embedding embedded ON embedded.generation_id = generation.id
                                               AND embedded.constituent_id = evaluation.constituent_id
        WHERE probe.evaluation_id = :evaluation
    )
    SELECT searched.clip_id, searched.identity_id, (SELECT count(*) FROM stranger) AS strangers,
           right_distance IS NOT NULL AS found,
           (SELECT count(*) FROM gallery
            WHERE gallery.identity_id <> searched.identity_id
              AND gallery.vector {operator} searched.vector < right_distance) AS nearer_gallery,
           (SELECT count(*) FROM stranger
            WHERE stranger.vector {operator} searched.vector < right_distance) AS nearer_strangers
    FROM searched
    ORDER BY searched.clip_id
"""
STATEMENTS = {name: text(_CLOSER.replace("{operator}", operator)) for name, operator in CLOSER.items()}


def recall_by_gallery_size(
    store: Store,
    run: str,
    gallery: str,
    strangers: Sequence[int] | None = None,
    *,
    part: str = "all",
    seed: int = 0,
    steps: int | None = None,
    embedding: str | None = None,
    distance: str = "euclidean",
) -> list[dict[str, Any]]:
    """Recall@k of an evaluated system when strangers are added to the gallery.

    For each probe the strangers nearer than the right person are counted once, over all strangers of the store; what a
    random draw of N of them does to recall is then an exact expectation (hypergeometric), no simulation.

    Args:
        store: open store.
        run: `RUN` or `RUN@SCALE`, evaluated on the gallery.
        gallery: snapshot.
        strangers: how many to add; by default 0, then ten steps up to all there are, evenly in their logarithm.
        part: of the snapshot.
        seed: of the generations.
        steps: solver steps, where several were evaluated.
        embedding, distance: as :func:`slf_store.evaluation.paired.compare`.

    Returns:
        For each number of strangers and k: strangers, gallery_faces, k, recall, ci_low, ci_high (bootstrap over
        people), n.

    Raises:
        NotFoundInStore: it was not evaluated there.
        ConfigError: more strangers than there are, a baseline, or a name that means several evaluations.
    """
    if ":" in run:
        raise ConfigError(f"{run!r} is a baseline", hint="name a run, or RUN@SCALE")
    where = {
        "gallery": gallery, "part": part, "seed": seed, "steps": steps, "distance": distance,
        "embedding": constituent_name(store, embedding),
    }  # fmt: skip
    (evaluation,) = find_evaluations(store, run, where).values()
    with store.engine.connect() as connection:
        rows = connection.execute(STATEMENTS[distance], {"evaluation": evaluation}).all()
        faces = connection.execute(
            text("SELECT gallery_faces FROM evaluation WHERE id = :id"), {"id": evaluation}
        ).scalar_one()
    if not rows:
        raise NotFoundInStore(f"{run!r} has no probes on {gallery!r}", hint="run `slf evaluate` again")
    there = rows[0].strangers
    wanted = _steps(there) if strangers is None else sorted(set(strangers))
    if wanted and not 0 <= wanted[0] <= wanted[-1] <= there:
        raise ConfigError(f"{wanted[-1]} strangers", hint=f"the store has {there}: give 0 to {there}")
    identities = np.array([row.identity_id for row in rows], np.int64)
    known = np.array([row.found for row in rows], bool)
    before, nearer = (np.array([getattr(row, name) for row in rows], np.int64)
                      for name in ("nearer_gallery", "nearer_strangers"))  # fmt: skip
    from scipy.stats import hypergeom

    told = []
    for added in wanted:
        # Of the strangers added, at most so many may be nearer that the right person stays among the first k.
        hits = np.stack([known * hypergeom.cdf(k - 1 - before, there, nearer, added) for k in KS], axis=1)
        for k, found in zip(KS, bootstrap_means(hits, identities, seed=store.settings.seed), strict=True):
            told.append(
                {"strangers": added, "gallery_faces": faces + added, "k": k, "recall": found.value}
                | {"ci_low": found.low, "ci_high": found.high, "n": found.n}
            )
    return told


def _steps(there: int) -> list[int]:
    return sorted({0, *np.unique(np.geomspace(1, there, 10).astype(int)).tolist()}) if there else [0]
