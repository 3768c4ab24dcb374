"""Ranks at which the probes of an evaluation met the right person, to compare evaluations clip by clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slf_store.evaluation.interval import Estimate, bootstrap_mean
from slf_store.evaluation.matching import NEAREST
from slf_store.evaluation.measure import KS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slf_store.store import Store

PROBES = """
    SELECT probe.clip_id, video.identity_id, probe.rank, probe.psnr
    FROM probe
    JOIN clip ON clip.id = probe.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE probe.evaluation_id = :evaluation
    ORDER BY probe.clip_id
"""


@dataclass(frozen=True)
class Ranks:
    """(n,) values of the probes of one evaluation, ordered by clip.

    Attributes:
        clips, identities: int64 keys.
        ranks: int64, of the first right match, from 1; one more than are kept where there is none.
        psnr: float64, dB against the real face; NaN without a pair.
    """

    clips: NDArray[np.int64]
    identities: NDArray[np.int64]
    ranks: NDArray[np.int64]
    psnr: NDArray[np.float64]

    def hits(self, k: int) -> NDArray[np.float64]:
        """(n,) 1 where the right person is among the first k."""
        return (self.ranks <= k).astype(np.float64)

    @property
    def mean_hits(self) -> NDArray[np.float64]:
        """(n,) mean of the hits at k = 1, 3, 5 and 10."""
        return np.asarray(np.mean([self.hits(k) for k in KS], axis=0), np.float64)


def read_ranks(store: Store, evaluation: int) -> Ranks:
    """The probes of one evaluation (key of `evaluation`); none of the baseline `random`."""
    rows = store.query(PROBES, evaluation=evaluation)
    return Ranks(
        np.array([row["clip_id"] for row in rows], np.int64),
        np.array([row["identity_id"] for row in rows], np.int64),
        np.array([row["rank"] or NEAREST + 1 for row in rows], np.int64),
        np.array([row["psnr"] for row in rows], np.float64),
    )


def paired_difference(pairs: Sequence[tuple[Ranks, Ranks]], value: str = "mean_hits") -> Estimate | None:
    """Mean difference over the clips both have, with its 95 % interval over identities.

    Args:
        pairs: two evaluations each, one pair for each training seed.
        value: `mean_hits` or `psnr`.

    Returns:
        None where no clip is in both.
    """
    differences, identities = [], []
    for one, two in pairs:
        _, here, there = np.intersect1d(one.clips, two.clips, return_indices=True)
        difference = getattr(one, value)[here] - getattr(two, value)[there]
        known = ~np.isnan(difference)
        differences.append(difference[known])
        identities.append(one.identities[here][known])
    if not sum(map(len, differences)):
        return None
    return bootstrap_mean(np.concatenate(differences), np.concatenate(identities), seed=0)
