"""How close two sets of faces are: the Fréchet distance between their embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.evaluation.interval import Estimate, Z

GROUPS = 20
"""Groups of people that the jackknife leaves out in turn."""
FEWEST = 3
"""People below which no distance is given: a covariance of two is none."""


def frechet_distance(probes: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]]) -> float:
    """Squared Fréchet distance of two Gaussians fitted to two sets of vectors (Heusel et al. 2017, eq. 6).

    |μ₁ - μ₂|² + Tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½), with sample covariances. It is the formula of FID on face embeddings instead
    of Inception features, so its numbers compare with no published FID. Like FID it is biased upwards for few faces:
    compare only sets of the same size. The last trace is the sum of the singular values of A₁A₂ᵀ, where Σ = AᵀA: exact
    also where there are fewer faces than dimensions, and no square root of a matrix is taken.

    Args:
        probes: (n, d), n ≥ 2.
        gallery: (m, d), m ≥ 2.

    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> round(frechet_distance(x, x + 2.0), 6)
    16.0
    """
    one, two = (np.asarray(x, np.float64) for x in (probes, gallery))
    shift = one.mean(axis=0) - two.mean(axis=0)
    roots: list[NDArray[np.float64]] = [(x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (one, two)]
    traces = sum(float((root**2).sum()) for root in roots)
    one, two = (root if len(root) <= root.shape[1] else np.linalg.qr(root).R for root in roots)
    cross = float(np.linalg.svdvals(one @ two.T).sum())
    return max(0.0, float(shift @ shift) + traces - 2 * cross)


def frechet_estimate(
    probes: NDArray[np.floating[Any]], identities: NDArray[np.int64], gallery: NDArray[np.floating[Any]], *, seed: int
) -> Estimate | None:
    """The distance with a 95 % interval over people: delete-a-group jackknife, the gallery held fixed.

    A bootstrap would not do: faces drawn twice make the covariance narrower, and the distance larger.

    Args:
        probes: (n, d) embeddings.
        identities: (n,) whose they are.
        gallery: (m, d) embeddings.
        seed: of the groups.

    Returns:
        The estimate, its low end at 0 at least; None with fewer than 3 people or gallery faces.
    """
    people = np.unique(identities)
    if len(people) < FEWEST or len(gallery) < FEWEST:
        return None
    value = frechet_distance(probes, gallery)
    groups = np.array_split(np.random.default_rng(seed).permutation(people), min(GROUPS, len(people)))
    without = np.array([frechet_distance(probes[~np.isin(identities, group)], gallery) for group in groups])
    error = float(np.sqrt((len(groups) - 1) / len(groups) * ((without - without.mean()) ** 2).sum()))
    return Estimate(value, max(0.0, value - Z * error), value + Z * error, len(probes))
