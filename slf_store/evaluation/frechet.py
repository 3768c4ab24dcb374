"""How close two sets of faces are: the Fréchet distance between their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.evaluation.interval import Estimate, Z

GROUPS = 20
"""Groups of people that the jackknife leaves out in turn."""
FEWEST = 3
"""People below which no distance is given: a covariance of two is none."""
BLOCK = 8192
"""Vectors in double precision at once: 134 MB of Inception's."""


def frechet_distance(probes: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]]) -> float:
    """Squared Fréchet distance of two Gaussians fitted to two sets of vectors (Heusel et al. 2017, eq. 6).

    |μ₁ - μ₂|² + Tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½), with sample covariances. Of Inception features it is FID; of face embeddings
    it has FID's formula, and compares with no published FID. Both are biased upwards for few faces: compare only
    sets of the same size. The last trace is the sum of the singular values of A₁A₂ᵀ, where Σ = AᵀA: exact also where
    there are fewer faces than dimensions, and no square root of a matrix is taken.

    Args:
        probes: (n, d), n ≥ 2.
        gallery: (m, d), m ≥ 2.

    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> round(frechet_distance(x, x + 2.0), 6)
    16.0
    """
    return _distance(_fit(probes), _fit(gallery))


def frechet_estimate(
    probes: NDArray[np.floating[Any]], identities: NDArray[np.int64], gallery: NDArray[np.floating[Any]], *, seed: int
) -> Estimate | None:
    """The distance with a 95 % interval over people: delete-a-group jackknife, the gallery held fixed.

    A bootstrap would not do: faces drawn twice make the covariance narrower, and the distance larger.

    Args:
        probes: (n, d) vectors.
        identities: (n,) whose they are.
        gallery: (m, d) vectors.
        seed: of the groups.

    Returns:
        The estimate, its low end at 0 at least; None with fewer than 3 people or gallery faces.
    """
    people = np.unique(identities)
    if len(people) < FEWEST or len(gallery) < FEWEST:
        return None
    real = _fit(gallery)
    value = _distance(_fit(probes), real)
    groups = np.array_split(np.random.default_rng(seed).permutation(people), min(GROUPS, len(people)))
    without = np.array([_distance(_fit(probes[~np.isin(identities, group)]), real) for group in groups])
    error = float(np.sqrt((len(groups) - 1) / len(groups) * ((without - without.mean()) ** 2).sum()))
    return Estimate(value, max(0.0, value - Z * error), value + Z * error, len(probes))


@dataclass(frozen=True)
class _Gaussian:
    """Mean (d,), A with Σ = AᵀA (at most d rows), and the trace of Σ."""

    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    trace: float


def _fit(vectors: NDArray[np.floating[Any]]) -> _Gaussian:
    """The Gaussian with mean and sample covariance of (n, d) vectors, read block by block."""
    n, d = vectors.shape
    mean = vectors.mean(axis=0, dtype=np.float64)
    root: NDArray[np.float64] = np.empty((0, d))
    trace = 0.0
    for start in range(0, n, BLOCK):
        block = (vectors[start : start + BLOCK] - mean) / np.sqrt(n - 1)
        trace += float((block**2).sum())
        root = np.concatenate([root, block])
        if len(root) > d:
            root = np.asarray(np.linalg.qr(root, mode="r"))  # an array already; its types know of pairs only
    return _Gaussian(mean, root, trace)


def _distance(one: _Gaussian, two: _Gaussian) -> float:
    shift = one.mean - two.mean
    cross = float(np.linalg.svdvals(one.root @ two.root.T).sum())
    return max(0.0, float(shift @ shift) + (one.trace + two.trace) - 2 * cross)
