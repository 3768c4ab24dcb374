"""What became of each generated face of an evaluation: found at which rank, how like, and whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from slf_store.store import Store

ATTRIBUTES = ("gender", "age", "ethnicity", "language")
NEVER = 11
"""Rank of a face that is not found among the ten matches that are kept."""
KS = (1, 3, 5, 10)

OUTCOMES = """
    -- The generated faces of an evaluation, by clip, each with the rank at which it first met the right person.
    SELECT generation.clip_id, video.identity_id, generation.psnr, generation.ssim,
           coalesce((SELECT min(rank) FROM match
                     WHERE match.evaluation_id = evaluation.id AND match.probe_clip_id = generation.clip_id AND hit),
                    11) AS rank,
           clips.gender, clips.age, clips.ethnicity, clips.language,
           clips.gender_source, clips.age_source, clips.ethnicity_source, clips.language_source
    FROM evaluation
    JOIN snapshot_clip member ON member.snapshot_id = evaluation.gallery_id
                             AND evaluation.part IN ('all', member.part)
    JOIN generation ON generation.run_id = evaluation.run_id AND generation.clip_id = member.clip_id
                   AND generation.method = 'diffusion' AND generation.scale = evaluation.scale
                   AND generation.seed = evaluation.seed AND generation.steps = evaluation.steps
    JOIN clip ON clip.id = generation.clip_id
    JOIN video ON video.id = clip.video_id
    JOIN clips ON clips.clip_id = generation.clip_id
    WHERE evaluation.id = :evaluation
    ORDER BY generation.clip_id
"""


@dataclass(frozen=True)
class Outcomes:
    """(n,) values of the probes of one evaluation, ordered by clip.

    Attributes:
        clips: int64 keys.
        identities: int64, whose clip it is.
        ranks: int64, of the first right match, from 1; :data:`NEVER` where there is none among ten.
        psnr, ssim: float64 against the real face; NaN where not measured.
        labels: {attribute: values, None where unknown}; age in years.
        sources: {attribute: who states it}, alike.
    """

    clips: NDArray[np.int64]
    identities: NDArray[np.int64]
    ranks: NDArray[np.int64]
    psnr: NDArray[np.float64]
    ssim: NDArray[np.float64]
    labels: dict[str, Sequence[Any]]
    sources: dict[str, Sequence[Any]]

    def hits(self, k: int) -> NDArray[np.float64]:
        """(n,) 1 where the right person is among the first k."""
        return (self.ranks <= k).astype(np.float64)

    def mean_hits(self) -> NDArray[np.float64]:
        """(n,) mean of the hits at k = 1, 3, 5 and 10."""
        return np.asarray(np.mean([self.hits(k) for k in KS], axis=0), np.float64)


def read_outcomes(store: Store, evaluation: int) -> Outcomes:
    """Every probe of one evaluation of generated faces; empty for a baseline.

    Args:
        store: open store.
        evaluation: key of `evaluation`.
    """
    rows = store.query(OUTCOMES, evaluation=evaluation)

    def column(name: str, kind: Any) -> NDArray[Any]:
        return np.array([np.nan if row[name] is None else row[name] for row in rows], kind)

    return Outcomes(
        clips=column("clip_id", np.int64),
        identities=column("identity_id", np.int64),
        ranks=column("rank", np.int64),
        psnr=column("psnr", np.float64),
        ssim=column("ssim", np.float64),
        labels={name: [row[name] for row in rows] for name in ATTRIBUTES},
        sources={name: [row[f"{name}_source"] for row in rows] for name in ATTRIBUTES},
    )
