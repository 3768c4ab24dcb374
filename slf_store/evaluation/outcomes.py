"""What became of every probe of an evaluation: the rows that all its numbers are counted from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.evaluation.matching import NEAREST

if TYPE_CHECKING:
    from slf_store.evaluation.probes import Probes
    from slf_store.store import Store

KEEP = text("""
    -- One row for each probe. A real face was detected once, or it would be no probe.
    INSERT INTO probe (evaluation_id, clip_id, detected, rank, psnr, ssim)
    SELECT :evaluation, asked.clip_id,
           asked.generation_id IS NULL
           OR EXISTS (SELECT FROM generation_embedding embedded
                      WHERE embedded.generation_id = asked.generation_id AND embedded.constituent_id = :embedding
                        AND embedded.vector IS NOT NULL),
           first.rank, generation.psnr, generation.ssim
    FROM unnest(CAST(:clips AS bigint[]), CAST(:generations AS bigint[])) AS asked (clip_id, generation_id)
    LEFT JOIN generation ON generation.id = asked.generation_id
    LEFT JOIN (SELECT probe_clip_id, min(rank) AS rank FROM match
               WHERE evaluation_id = :evaluation AND hit GROUP BY probe_clip_id) first
           ON first.probe_clip_id = asked.clip_id
""")

READ = text("""
    SELECT clip_id, detected, rank, psnr, ssim FROM probe
    WHERE evaluation_id = :evaluation
""")

UNDETECTED = """
    -- Generated faces in which no face was detected: each of them is a miss.
    SELECT DISTINCT run, system, scale, seed, steps, gallery, part, embedding, identity, video, clip, psnr, ssim
    FROM probes
    WHERE NOT detected AND (CAST(:run AS text) IS NULL OR run = :run)
    ORDER BY run, gallery, part, embedding, system, scale, seed, steps, identity, video, clip
"""


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of n probes, in their order.

    Attributes:
        rank: (n,) int64, of the first right match, from 1; NEAREST + 1 where there is none among those kept.
        detected: (n,) bool.
        psnr: (n,) float64 dB, nan without a pair.
        ssim: (n,) float64, nan without a pair.
    """

    rank: NDArray[np.int64]
    detected: NDArray[np.bool_]
    psnr: NDArray[np.float64]
    ssim: NDArray[np.float64]


def keep_outcomes(connection: Connection, evaluation: int, embedding: int, probes: Probes) -> Outcomes:
    """Write what became of every probe to `probe`, after :func:`slf_store.evaluation.matching.match`; and read it."""
    clips = probes.clips.tolist()
    generations = probes.generations.tolist() or [None] * len(clips)
    values = {"evaluation": evaluation, "embedding": embedding}
    connection.execute(KEEP, {**values, "clips": clips, "generations": generations})
    rows = {row.clip_id: row for row in connection.execute(READ, {"evaluation": evaluation})}
    found = [rows[clip] for clip in clips]
    return Outcomes(
        np.array([NEAREST + 1 if row.rank is None else row.rank for row in found], np.int64),
        np.array([row.detected for row in found], bool),
        np.array([row.psnr for row in found], np.float64),
        np.array([row.ssim for row in found], np.float64),
    )


def undetected(store: Store, run: str | None = None) -> list[dict[str, Any]]:
    """Every generated face without a detected face: run, system, scale, …, identity, video, clip; all runs or one."""
    return list(store.query(UNDETECTED, run=run))
