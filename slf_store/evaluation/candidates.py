"""Exact search in large galleries: a matrix product proposes a few faces for each probe, PostgreSQL decides.

A matrix product computes distances many times faster than SQL does (docs/evaluation.md). It rounds otherwise, though,
so it only proposes: the distances that are stored are pgvector's, of more faces than are wanted, and a bound on the
rounding says for which probes no other face can belong to the first. The rest is searched in SQL.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 64 * 2**20
"""Distances in memory at once."""
UNIT = 2.0**-24
"""Unit roundoff of float32."""

Vectors = NDArray[np.float32]


def propose(
    probes: Vectors, gallery: Vectors, keep: int, distance: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest gallery vectors of each probe as a float32 matrix product sees them.

    Args:
        probes: (n, d).
        gallery: (m, d), m > keep.
        keep: proposals for each probe.
        distance: `euclidean` or `cosine`.

    Returns:
        (n, keep) int64 indices into the gallery, in no order; and (n,) float64: a distance that pgvector's distance to
        any other gallery vector is not below.

    >>> found, floor = propose(np.eye(4, dtype=np.float32)[:1], np.eye(4, dtype=np.float32), 1, "euclidean")
    >>> found.tolist(), bool(1.41 < floor[0] <= 2**0.5)
    ([[0]], True)
    """
    if distance == "cosine":
        probes, gallery = _unit(probes), _unit(gallery)
    lengths = _squared(gallery)
    dimension, longest = gallery.shape[1], float(np.sqrt(lengths.max()))
    indices = np.empty((len(probes), keep), np.int64)
    floor = np.empty(len(probes))
    rows = max(1, BLOCK_BYTES // (4 * len(gallery)))
    half = (lengths / 2).astype(np.float32)
    for start in range(0, len(probes), rows):
        block = probes[start : start + rows]
        products = block @ gallery.T  # as near as it gets: half the squared length minus this, smallest first
        np.subtract(half, products, out=products)
        nearest = np.argpartition(products, keep, axis=1)
        indices[start : start + rows] = nearest[:, :keep]
        next_ = np.take_along_axis(products, nearest[:, keep : keep + 1], axis=1)[:, 0].astype(np.float64)
        own = _squared(block)
        floor[start : start + rows] = 2 * next_ + own - _rounding(dimension, np.sqrt(own), longest)
    squared = floor.clip(0)
    return indices, squared / 2 if distance == "cosine" else np.sqrt(squared)


def _rounding(dimension: int, length: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """How far the product's squared distance and pgvector's can be apart, at most.

    A sum of d products in float32, in any order, is off by no more than d·u·|x||y| (Higham 2002, eq. 3.5); the
    product's squared distance holds two such, pgvector's one of a vector no longer than |x| + |y|.
    """
    return 4 * (dimension + 4) * UNIT * (length + longest) ** 2


def _squared(vectors: Vectors) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    squared: NDArray[np.float64] = np.einsum("nd,nd->n", wide, wide)
    return squared


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.sqrt(_squared(vectors))
    scaled: Vectors = (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
    return scaled
