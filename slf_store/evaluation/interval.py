"""A mean and how sure we are of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Share of the distribution inside an interval."""
Z = 1.959963984540054
"""Standard deviations from the mean to the end of such an interval, of a normal distribution."""
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
    (estimate,) = bootstrap_means(np.asarray(values, np.float64)[:, None], clusters, seed=seed, draws=draws)
    return estimate


def bootstrap_means(
    values: NDArray[np.float64], clusters: NDArray[Any], *, seed: int, draws: int = DRAWS
) -> list[Estimate]:
    """:func:`bootstrap_mean` of each column of (n, m) values, all from the same draws."""
    if len(values) == 0 or len(values) != len(clusters):
        raise ValueError(f"a bootstrap of {len(values)} values in {len(clusters)} clusters")
    _, cluster = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(cluster).astype(np.float64)
    sums = np.stack([np.bincount(cluster, weights=column) for column in values.T], axis=1)
    m = len(sizes)
    times = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=draws).astype(np.float64)
    means = (times @ sums) / (times @ sizes)[:, None]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    value = sums.sum(axis=0) / sizes.sum()
    return [Estimate(float(v), float(a), float(b), len(values)) for v, a, b in zip(value, low, high, strict=True)]


def identity_means(values: NDArray[np.float64], identities: NDArray[Any]) -> NDArray[np.float64]:
    """Means of the columns of (n, m) values over each identity: (identities, m), in the order of their keys.

    >>> identity_means(np.array([[0.0], [1.0], [1.0]]), np.array([7, 7, 8])).tolist()
    [[0.5], [1.0]]
    """
    _, identity, sizes = np.unique(identities, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(identity, weights=column) for column in values.T], axis=1) / sizes[:, None]
