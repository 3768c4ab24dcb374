"""What each clip scored in an evaluation, to compare evaluations clip by clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slf_store.evaluation.interval import identity_means
from slf_store.evaluation.matching import NEAREST
from slf_store.evaluation.measure import KS

if TYPE_CHECKING:
    from slf_store.store import Store

COUNTED = (*(f"recall@{k}" for k in KS), "mean recall")
METRICS = (*COUNTED, "psnr", "ssim")
"""Of each clip: found among the first k, the mean of that over every k; likeness to the real face (dB, none)."""

PROBES = """
    -- Outcomes of the probes of some evaluations that differ in their seed only; the baseline random has none.
    SELECT probe.clip_id, video.identity_id, probe.rank, probe.psnr, probe.ssim
    FROM probe
    JOIN clip ON clip.id = probe.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE probe.evaluation_id = ANY(CAST(:evaluations AS bigint[]))
    ORDER BY probe.clip_id, probe.evaluation_id
"""


@dataclass(frozen=True)
class Scores:
    """Scores of n clips, in the order of their keys; means where a clip was scored with several seeds.

    Attributes:
        clips, identities: (n,) int64 keys.
        seeds: (n,) int64, how many.
        values: (n, len(METRICS)) float64, nan where there is none.
    """

    clips: NDArray[np.int64]
    identities: NDArray[np.int64]
    seeds: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def read(cls, store: Store, *evaluations: int) -> Scores:
        """Of the probes of evaluations (keys of `evaluation`) that differ in their seed only."""
        rows = store.query(PROBES, evaluations=list(evaluations))
        return cls.count(
            np.array([row["clip_id"] for row in rows], np.int64),
            np.array([row["identity_id"] for row in rows], np.int64),
            np.array([row["rank"] or NEAREST + 1 for row in rows], np.int64),
            np.array([(row["psnr"], row["ssim"]) for row in rows], np.float64).reshape(-1, 2),
        )

    @classmethod
    def count(
        cls,
        clips: NDArray[np.int64],
        identities: NDArray[np.int64],
        ranks: NDArray[np.int64],
        likeness: NDArray[np.float64],
    ) -> Scores:
        """Of m probes.

        Args:
            clips, identities: (m,) keys; a clip may come several times, once for each seed.
            ranks: (m,) of the first right match, from 1; above every k where there is none.
            likeness: (m, 2) PSNR and SSIM, nan without a pair.

        >>> one = Scores.count(np.array([4, 4]), np.array([1, 1]), np.array([1, 11]), np.full((2, 2), np.nan))
        >>> one.clips.tolist(), one.seeds.tolist(), one.metric("recall@10").tolist()
        ([4], [2], [0.5])
        """
        hits = np.array([ranks <= k for k in KS], np.float64)
        values = np.column_stack([hits.T, hits.mean(axis=0), likeness])
        own, first, seeds = np.unique(clips, return_index=True, return_counts=True)
        return cls(own, identities[first], seeds, identity_means(values, clips) if len(clips) else values)

    def metric(self, name: str) -> NDArray[np.float64]:
        """(n,) one of :data:`METRICS`."""
        return self.values[:, METRICS.index(name)]

    def of(self, clips: NDArray[np.int64]) -> Scores:
        """Only of these clips, in their order; each of them is here."""
        at = np.searchsorted(self.clips, clips)
        return Scores(clips, self.identities[at], self.seeds[at], self.values[at])


def in_common(one: Scores, two: Scores) -> tuple[Scores, Scores]:
    """Both, of the clips that both have."""
    clips = np.intersect1d(one.clips, two.clips)
    return one.of(clips), two.of(clips)


def paired_values(
    one: Scores, two: Scores, metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(m,) values of one, of two, and identities: of the clips for which both have the metric."""
    one, two = in_common(one, two)
    x, y = one.metric(metric), two.metric(metric)
    known = ~np.isnan(x - y)
    return x[known], y[known], one.identities[known]
