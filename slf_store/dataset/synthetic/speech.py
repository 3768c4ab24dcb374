"""What is said: random syllables as tracks of pitch, loudness, formants and consonants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# F1 to F5 (Hz) of a middle-sized vocal tract, and how far the mouth opens (0 to 1).
VOWELS: dict[str, tuple[tuple[float, float, float, float, float], float]] = {
    "i": ((300, 2250, 2950, 3600, 4500), 0.30),
    "e": ((430, 2050, 2650, 3500, 4500), 0.50),
    "a": ((760, 1350, 2550, 3500, 4500), 1.00),
    "o": ((480, 880, 2500, 3450, 4500), 0.60),
    "u": ((330, 820, 2350, 3400, 4500), 0.25),
    "@": ((540, 1500, 2550, 3500, 4500), 0.55),
    "E": ((590, 1850, 2600, 3500, 4500), 0.75),
}
NEUTRAL = VOWELS["@"][0]
# Consonants: share of the syllable, voicing, hiss, place (share of a person's /s/ centre), nasal, stop before it.
CONSONANTS: dict[str, tuple[float, float, float, float, float, bool]] = {
    "s": (0.34, 0.00, 0.55, 1.00, 0.0, False),
    "S": (0.34, 0.00, 0.60, 0.62, 0.0, False),
    "f": (0.30, 0.00, 0.16, 1.15, 0.0, False),
    "z": (0.26, 0.30, 0.30, 0.95, 0.0, False),
    "t": (0.26, 0.00, 0.60, 0.80, 0.0, True),
    "k": (0.28, 0.00, 0.50, 0.40, 0.0, True),
    "b": (0.20, 0.15, 0.20, 0.25, 0.0, True),
    "d": (0.20, 0.15, 0.35, 0.70, 0.0, True),
    "m": (0.26, 0.55, 0.00, 1.00, 1.0, False),
    "n": (0.26, 0.55, 0.00, 1.00, 1.0, False),
    "l": (0.20, 0.70, 0.00, 1.00, 0.2, False),
    "": (0.05, 1.00, 0.00, 1.00, 0.0, False),
}
_PAUSE = 0.10  # chance of a short silence after a syllable

Track = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Tracks over equal steps of time.

    Attributes:
        pitch: (steps,) standard-normal-like deviation from a speaker's mean.
        voiced, hiss, nasal, open: (steps,) 0 to 1. place: (steps,) see ``CONSONANTS``.
        formants: (steps, 5) Hz for a middle-sized vocal tract.
    """

    pitch: Track
    voiced: Track
    hiss: Track
    place: Track
    nasal: Track
    open: Track
    formants: Track


def write_score(steps: int, step: float, rate: float, rng: np.random.Generator) -> Score:
    """Random syllables.

    Args:
        steps: number of steps, ≥ 1. step: seconds each. rate: syllables per second.

    >>> score = write_score(200, 0.005, 4.0, np.random.default_rng(0))
    >>> score.formants.shape, bool(score.voiced.max() <= 1)
    ((200, 5), True)
    """
    vowels, consonants = list(VOWELS.values()), list(CONSONANTS.values())
    voiced, hiss, nasal, wide = (np.zeros(steps) for _ in range(4))
    place, pitch = np.ones(steps), np.zeros(steps)
    formants = np.tile(vowels[5][0], (steps, 1)).astype(np.float64)
    at = round(rng.uniform(0, 0.1) / step)
    phrase = rng.uniform(0.5, 1.0)
    vowel_bag, consonant_bag = _Bag(len(vowels), rng), _Bag(len(consonants), rng)
    while at < steps:
        long = max(8, round(rng.uniform(0.75, 1.35) / rate / step))
        share, buzz, noise, where, nose, stop = consonants[consonant_bag.draw()]
        tones, opening = vowels[vowel_bag.draw()]
        start = at + max(1, round(share * long))
        end = at + long
        loud = rng.uniform(0.7, 1.0)
        burst = start - max(2, (start - at) // 3) if stop else at
        voiced[at:start], hiss[burst:start] = buzz * loud * 0.6, noise
        place[at:start], nasal[at:start] = where, nose
        voiced[start:end], wide[start:end] = loud, opening * loud
        formants[at:end] = np.asarray(tones) * np.exp(rng.normal(0, 0.02))
        pitch[at:end] = phrase + rng.normal(0, 0.7)
        phrase -= 0.25
        at = end
        if rng.random() < _PAUSE:
            at += round(rng.uniform(0.12, 0.3) / step)
            phrase = rng.uniform(0.5, 1.0)
    for track, width in ((voiced, 0.018), (hiss, 0.012), (nasal, 0.03), (pitch, 0.09), (wide, 0.07), (place, 0.01)):
        track[:] = _smooth(track, width / step)
    for k in range(formants.shape[1]):
        formants[:, k] = _smooth(formants[:, k], 0.05 / step)
    return Score(pitch, voiced, hiss, place, nasal, np.clip(wide, 0, 1), formants)


class _Bag:
    """Numbers 0 to n-1 in random order, each once before any comes again: even a short clip says every sound."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self._n, self._rng = n, rng
        self._left: list[int] = []

    def draw(self) -> int:
        if not self._left:
            self._left = self._rng.permutation(self._n).tolist()
        return self._left.pop()


def _smooth(track: Track, width: float) -> Track:
    """A moving weighted mean, ``width`` steps wide, that keeps the ends."""
    half = max(1, round(width))
    kernel = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(np.pad(track, half, mode="edge"), kernel / kernel.sum(), mode="valid")
