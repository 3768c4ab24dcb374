"""A mean and how sure we are of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Share of the distribution inside an interval."""
DRAWS = 2000
"""Bootstrap samples: the ends of an interval move by less than a tenth of its width."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` values with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: NDArray[Any], clusters: NDArray[Any], *, seed: int, draws: int = DRAWS) -> Estimate:
    """Mean with a percentile bootstrap interval that draws whole clusters.

    Faces of one person fail or succeed together, so persons are drawn with replacement, not faces. Where all values
    are equal (a recall of exactly 0 or 1) the interval has no width: that is the bootstrap's limit, not certainty.

    Args:
        values: (n,) numbers or booleans, n ≥ 1.
        clusters: (n,) identity of each value.
        seed: of the draws; the same seed and clusters give the same draws for every system.
        draws: bootstrap samples.

    >>> bootstrap_mean(np.array([0, 0, 1, 1]), np.array([7, 7, 8, 8]), seed=0)
    Estimate(value=0.5, low=0.0, high=1.0, n=4)
    """
    if len(values) == 0 or len(values) != len(clusters):
        raise ValueError(f"a bootstrap of {len(values)} values in {len(clusters)} clusters")
    _, cluster = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(cluster).astype(np.float64)
    sums = np.bincount(cluster, weights=np.asarray(values, np.float64))
    m = len(sizes)
    times = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=draws).astype(np.float64)
    means = (times @ sums) / (times @ sizes)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(sums.sum() / sizes.sum()), float(low), float(high), len(values))
