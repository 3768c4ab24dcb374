"""What pure chance reaches: exact expectation and interval, no simulation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slf_store.evaluation.interval import LEVEL, Estimate, Z


def hit_probability(same: NDArray[np.int64], gallery: int, k: int) -> NDArray[np.float64]:
    """Probability that k different gallery faces drawn at random hold the right person: 1 - C(G - r, k) / C(G, k).

    Args:
        same: (n,) r, gallery faces of each probe's identity.
        gallery: G, faces in the gallery, at least 1.
        k: faces drawn; all of them where the gallery is smaller.

    Returns:
        (n,) probabilities.

    >>> hit_probability(np.array([1, 2, 0]), 118, 1).round(5).tolist()
    [0.00847, 0.01695, 0.0]
    """
    drawn = np.arange(min(k, gallery))
    wrong = np.clip(gallery - same[:, None] - drawn, 0, None) / (gallery - drawn)
    missed: NDArray[np.float64] = wrong.prod(axis=1)
    return 1.0 - missed


def chance_recall(same: NDArray[np.int64], gallery: int, k: int) -> Estimate:
    """Recall@k of random selection: its expectation, and where it lies in 95 % of all evaluations of these probes.

    The interval is that of the mean of n independent draws (a Poisson-binomial distribution), so a system above it
    is better than chance would be in 97.5 % of the cases. Arguments as for :func:`hit_probability`, n ≥ 1.

    >>> chance = chance_recall(np.ones(118, np.int64), 118, 10)
    >>> round(chance.value, 5), round(chance.low, 3), round(chance.high, 3)
    (0.08475, 0.042, 0.136)
    """
    probability = hit_probability(same, gallery, k)
    cumulative = np.cumsum(hits_distribution(probability))
    low, high = (int(np.searchsorted(cumulative, share)) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    n = len(same)
    return Estimate(float(probability.mean()), min(low, n) / n, min(high, n) / n, n)


def chance_identity_recall(same: NDArray[np.int64], identities: NDArray[np.int64], gallery: int, k: int) -> Estimate:
    """The same averaged over people, each of whom counts once: exact expectation.

    With one probe for each person it is :func:`chance_recall`. Else the interval is that of the normal approximation,
    from the exact variance.

    Args:
        same, gallery, k: as :func:`chance_recall`.
        identities: (n,) whose the probes are.

    >>> round(chance_identity_recall(np.array([1, 1, 2]), np.array([5, 5, 6]), 100, 1).value, 6)
    0.015
    """
    _, identity, sizes = np.unique(identities, return_inverse=True, return_counts=True)
    people = len(sizes)
    if people == len(same):
        return chance_recall(same, gallery, k)
    probability, weight = hit_probability(same, gallery, k), 1 / (people * sizes[identity])
    value = float(weight @ probability)
    error = Z * float(np.sqrt((weight**2) @ (probability * (1 - probability))))
    return Estimate(value, max(0.0, value - error), min(1.0, value + error), people)


def hits_distribution(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribution of the number of hits of independent probes, through its characteristic function (Hong 2013).

    Args:
        probability: (n,) of a hit.

    Returns:
        (n + 1,) probability of 0 … n hits.

    >>> hits_distribution(np.array([0.5, 0.5])).round(3).tolist()
    [0.25, 0.5, 0.25]
    """
    n = len(probability)
    angle = np.exp(2j * np.pi * np.arange(n + 1) / (n + 1))
    transform = np.ones(n + 1, np.complex128)
    for p, times in zip(*np.unique(probability, return_counts=True), strict=True):
        transform *= (1 - p + p * angle) ** times
    distribution: NDArray[np.float64] = np.fft.fft(transform).real / (n + 1)
    return distribution.clip(0, 1)
