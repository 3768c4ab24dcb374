"""Normalisation statistics: mean and standard deviation of each column, the same bits however the values are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Blocks = Iterable[NDArray[np.floating]]


def column_statistics(blocks: Callable[[], Blocks], columns: int) -> dict[str, list[float]]:
    """Mean and standard deviation of each column over clips and rows: {mean: [columns], std: [columns]}.

    Numbers are added in float64, one after the other in the order they come: neither threads nor the size of blocks
    change a bit. A column that never changes gets standard deviation 1.

    Args:
        blocks: called twice; gives all values in order, (b, …, columns) at a time.
        columns: of a value.

    >>> column_statistics(lambda: [np.array([[[1.0, 5.0]]]), np.array([[[3.0, 5.0]]])], 2)
    {'mean': [2.0, 5.0], 'std': [1.0, 1.0]}
    """
    total, rows = _sum(blocks(), columns, lambda values: values)
    if not rows:
        return {"mean": [0.0] * columns, "std": [1.0] * columns}
    mean = total / rows
    squares, _ = _sum(blocks(), columns, lambda values: np.square(values - mean))
    std = np.sqrt(squares / rows)
    return {"mean": mean.tolist(), "std": np.where(std > 1e-6, std, 1.0).tolist()}


def _sum(
    blocks: Blocks, columns: int, of: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], int]:
    """Sum of each column, and the rows added."""
    total, rows = np.zeros(columns), 0
    for block in blocks:
        flat = of(block.reshape(-1, columns).astype(np.float64))
        flat = np.concatenate([total[None], flat])
        # numpy adds the rows of several columns one after the other, but a single column pairwise.
        total = np.add.reduce(flat, axis=0) if columns > 1 else np.add.accumulate(flat, axis=0)[-1]
        rows += len(flat) - 1
    return total, rows
