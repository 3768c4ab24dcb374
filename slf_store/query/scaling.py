"""Arithmetic whose bits do not depend on who computes it: numpy, torch, any device, any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

LIMIT = 10.0
"""Standardised values are clamped to ±10 (published code)."""
SMALLEST = 1e-12
"""Length below which a speaker embedding counts as zero."""

Array = TypeVar("Array", bound=Any)
"""A numpy array or a torch tensor."""


def sum_by_halves(values: Array) -> Array:
    """Sum over the last axis, (..., n) to (..., 1), adding the second half to the first until one is left.

    Libraries sum in an order of their own, which the last bits show. `values` is overwritten.

    >>> sum_by_halves(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)).tolist()
    [[15.0]]
    """
    n = values.shape[-1]
    while n > 1:
        half = (n + 1) // 2
        first = values[..., : n - half]
        first += values[..., half:n]
        n = half
    total: Array = values[..., :1]
    return total


def unit_factor(rows: Array, sqrt: Callable[[Array], Array]) -> Array:
    """What rows (..., n) float32 are multiplied with to have length √n (design §6): (..., 1).

    `sqrt` must be correctly rounded: numpy's is, torch's in float32 is not.
    """
    length = sqrt(sum_by_halves(rows * rows)).clip(SMALLEST)
    wanted = length * 0 + rows.shape[-1] ** 0.5  # not a plain number: torch divides those in ways of its own
    factor: Array = wanted / length
    return factor


def standardisation(statistics: Mapping[str, Sequence[float]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and inverse standard deviation of each column: standardised is `(x - mean) * inverse`, clamped."""
    return np.array(statistics["mean"], np.float32), np.float32(1) / np.array(statistics["std"], np.float32)
