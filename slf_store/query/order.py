"""Sample order: a pure function of (seed, epoch, n), the same for any number of workers and ranks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Permutation of `range(n)` for one epoch: (n,) int64, read-only. The last two are kept: a batch asks every time.

    >>> order(0, 0, 4).tolist() == order(0, 0, 4).tolist()
    True
    >>> sorted(order(7, 3, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    drawn = np.random.default_rng([seed, epoch]).permutation(n).astype(np.int64)
    drawn.flags.writeable = False
    return drawn


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


def shares(
    position: int, samples: int | None, *, batch_size: int, rank: int = 0, world: int = 1
) -> Iterator[tuple[int, int, int]]:
    """What one rank takes of each step, as (first position, count, position after the step).

    A step is `batch_size × world` samples that lie beside each other in the order; each rank takes the next
    `batch_size` of them. So it does not matter to the order how many ranks there are, and a training that stopped
    at a position goes on there with any other number. The last step of a budget may be smaller: it is split as evenly
    as whole samples allow.

    Args:
        position: samples seen by all ranks together.
        samples: budget of all ranks together; None goes on for ever.
        batch_size: samples of a rank in a step.
        rank, world: whose share, of how many.

    >>> list(shares(0, 5, batch_size=2, rank=1, world=2))
    [(2, 2, 4)]
    >>> list(shares(0, 5, batch_size=2, rank=0, world=2))
    [(0, 2, 4), (4, 1, 5)]
    """
    end = None if samples is None else position + samples
    while end is None or position < end:
        step = batch_size * world if end is None else min(batch_size * world, end - position)
        each, more = divmod(step, world)
        count = each + (rank < more)
        if count:
            yield position + rank * each + min(rank, more), count, position + step
        position += step
