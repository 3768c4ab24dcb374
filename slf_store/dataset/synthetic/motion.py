"""How a head moves while it speaks: sway, blinks, and a mouth that follows the voice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slf_store.dataset.synthetic.face import LIDS, MOUTHS

FPS = 25


@dataclass(frozen=True)
class Motion:
    """One clip's movement, one value a frame (n frames).

    Attributes:
        mouth: (n,) int, 0 (shut) to ``MOUTHS`` - 1. lids: (n,) int, 0 (open) to ``LIDS`` - 1.
        roll: (n,) radians. zoom: (n,) factor. shift: (n, 2) frame pixels.
    """

    mouth: NDArray[np.int64]
    lids: NDArray[np.int64]
    roll: NDArray[np.float64]
    zoom: NDArray[np.float64]
    shift: NDArray[np.float64]


def make_motion(openness: NDArray[np.float64], rng: np.random.Generator) -> Motion:
    """Movement for a voice that opens the mouth this much.

    Args:
        openness: (n,) 0 to 1, one value a frame.
        rng: source of sway and blinks.

    >>> motion = make_motion(np.array([0.0, 0.5, 1.0]), np.random.default_rng(0))
    >>> motion.mouth.tolist(), motion.shift.shape
    ([0, 2, 5], (3, 2))
    """
    n = len(openness)
    seconds = np.arange(n) / FPS

    def sway(size: float) -> NDArray[np.float64]:
        slow, fast = rng.uniform(0.1, 0.3), rng.uniform(0.4, 0.8)
        a, b = rng.uniform(0, 2 * np.pi, 2)
        wave = np.sin(2 * np.pi * slow * seconds + a) + 0.4 * np.sin(2 * np.pi * fast * seconds + b)
        return np.asarray(size * wave)

    lids = np.zeros(n, np.int64)
    at = rng.uniform(0.3, 3.0)
    while at < n / FPS:
        first = round(at * FPS)
        for offset, lid in enumerate((1, LIDS - 1, LIDS - 1, 1)):
            if first + offset < n:
                lids[first + offset] = lid
        at += rng.uniform(2.0, 5.0)
    nod = 0.6 * (openness - openness.mean())
    return Motion(
        mouth=np.round(openness * (MOUTHS - 1)).astype(np.int64),
        lids=lids,
        roll=sway(0.012),
        zoom=1 + sway(0.006),
        shift=np.stack([sway(1.2), sway(0.8) + nod], 1),
    )
