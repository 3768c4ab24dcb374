"""Sample order: a pure function of (seed, epoch, n), the same for any number of workers and ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Permutation of `range(n)` for one epoch: (n,) int64.

    >>> order(0, 0, 4).tolist() == order(0, 0, 4).tolist()
    True
    >>> sorted(order(7, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.random.default_rng([seed, epoch]).permutation(n).astype(np.int64)


def samples_at(position: int, count: int, *, seed: int, n: int) -> NDArray[np.int64]:
    """The samples at positions `position … position + count` of the endless sequence of epochs: (count,) int64.

    Position is the number of samples seen; it alone resumes a training.

    >>> samples_at(3, 2, seed=0, n=4).tolist() == [order(0, 0, 4)[3], order(0, 1, 4)[0]]
    True
    """
    parts: list[NDArray[np.int64]] = []
    while count > 0:
        epoch, offset = divmod(position, n)
        part = order(seed, epoch, n)[offset : offset + count]
        parts.append(part)
        position += len(part)
        count -= len(part)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
