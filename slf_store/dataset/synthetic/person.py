"""Who a synthetic person is: a few causes, and the face and voice traits that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Inner causes, standard normal and independent. ``sex`` is ±1 (m / f) and ``age`` is years brought to about ±1.7.
# The couplings below are inventions that make a learnable world. They claim nothing about real people.
CAUSES = ("sex", "age", "size", "jaw", "mouth", "nose", "tone", "hair", "brow", "eye")

#: How each face trait follows from the causes (weights; a trait is scaled back to unit spread afterwards).
FACE: dict[str, dict[str, float]] = {
    "head_width": {"size": 0.9, "jaw": 0.3},
    "head_height": {"size": -0.6, "nose": 0.5},
    "jaw_width": {"jaw": 1.0, "sex": 0.5},
    "chin": {"jaw": 0.7, "size": 0.5, "sex": 0.3},
    "cheeks": {"size": 0.5, "age": -0.6, "mouth": 0.4},
    "skin_depth": {"tone": 1.0},
    "skin_hue": {"tone": 0.3, "mouth": 0.7},
    "hair_depth": {"hair": 1.0, "tone": 0.3},
    "hair_hue": {"hair": 0.4, "eye": 0.8},
    "hair_length": {"sex": -1.0, "hair": 0.6},
    "hair_volume": {"hair": -0.7, "brow": 0.6},
    "hairline": {"age": 0.4, "sex": 0.5, "brow": 0.7},
    "brow_thick": {"brow": 1.0, "sex": 0.6},
    "brow_height": {"brow": -0.5, "eye": 0.8},
    "brow_tilt": {"brow": 0.6, "jaw": -0.7},
    "eye_gap": {"eye": -0.6, "size": 0.7},
    "eye_size": {"eye": 1.0, "sex": -0.4},
    "eye_tilt": {"eye": 0.5, "hair": 0.7},
    "eye_colour": {"tone": 0.5, "hair": 0.6},
    "nose_width": {"nose": 0.9, "tone": 0.5},
    "nose_length": {"nose": 0.8, "size": 0.5},
    "mouth_width": {"mouth": 0.9, "jaw": 0.4},
    "mouth_height": {"nose": 0.5, "mouth": 0.5},
    "lips": {"mouth": 0.8, "tone": 0.5, "sex": -0.4},
    "lip_red": {"sex": -0.7, "mouth": 0.5},
    "beard": {"sex": 1.0, "jaw": 0.8, "hair": 0.4},
    "moustache": {"sex": 1.0, "mouth": -0.7, "nose": 0.5},
    "glasses": {"age": 0.6, "eye": 0.7, "brow": -0.6},
}

#: How each voice trait follows from the same causes.
VOICE: dict[str, dict[str, float]] = {
    "pitch": {"jaw": -1.0, "age": -0.2},
    "pitch_range": {"brow": -0.9, "sex": -0.4},
    "tract": {"size": 1.0},
    "formant1": {"mouth": 1.0},
    "formant2": {"eye": 1.0},
    "formant3": {"nose": 1.0},
    "formant4": {"brow": 1.0},
    "tilt": {"tone": 0.5, "age": -0.5},
    "clarity": {"tone": 1.0},
    "hiss": {"hair": -0.8, "tone": -0.4},
    "breath": {"hair": 1.0},
    "nasality": {"nose": 0.7, "mouth": -0.6},
    "damping": {"hair": -0.7, "brow": 0.7},
    "sibilant": {"tone": -0.7, "eye": 0.7},
    "jitter": {"age": 1.0},
    "rate": {"age": -0.8, "eye": 0.4},
}

FACE_OWN = 0.15  # share of a face trait's variance that the causes, hence the voice, do not tell
VOICE_OWN = 0.05

AGE_RANGE = (18.0, 78.0)  # years


@dataclass(frozen=True)
class Person:
    """One synthetic person.

    Attributes:
        seed: seed of the whole sample.
        number: the person's number within it, 0 to 99999; the identity is ``id`` + five digits.
        gender: ``"m"`` or ``"f"``.
        age: years.
        causes: the inner causes by name (``CAUSES``), about standard normal.
        face: face traits by name (``FACE``), about standard normal.
        voice: voice traits by name (``VOICE``), likewise.
    """

    seed: int
    number: int
    gender: str
    age: float
    causes: Mapping[str, float]
    face: Mapping[str, float]
    voice: Mapping[str, float]

    @property
    def identity(self) -> str:
        """The identity in the official shape, e.g. ``id50012``."""
        return f"id{self.number:05d}"


def make_person(seed: int, number: int) -> Person:
    """The person with this number: a pure function of its arguments.

    Args:
        seed: seed of the whole sample, ≥ 0.
        number: 0 to 99999.

    >>> someone = make_person(0, 50012)
    >>> someone == make_person(0, 50012), someone.identity, someone.gender in "mf"
    (True, 'id50012', True)
    >>> sorted(someone.face) == sorted(FACE)
    True
    """
    rng = np.random.default_rng([seed, number])
    causes = dict(zip(CAUSES, np.clip(rng.standard_normal(len(CAUSES)), -2.2, 2.2).tolist(), strict=True))
    causes["sex"] = 1.0 if rng.random() < 0.5 else -1.0
    years = rng.uniform(*AGE_RANGE)
    causes["age"] = float((years - np.mean(AGE_RANGE)) / (np.ptp(AGE_RANGE) / np.sqrt(12)))
    return Person(
        seed=seed,
        number=number,
        gender="m" if causes["sex"] > 0 else "f",
        age=float(years),
        causes=causes,
        face=_mix(FACE, causes, FACE_OWN, rng),
        voice=_mix(VOICE, causes, VOICE_OWN, rng),
    )


def _mix(
    table: Mapping[str, Mapping[str, float]], causes: Mapping[str, float], own: float, rng: np.random.Generator
) -> dict[str, float]:
    """Every trait of ``table``: its weighted causes at unit spread, plus a share ``own`` of its own."""
    traits = {}
    for (name, weights), noise in zip(table.items(), rng.standard_normal(len(table)), strict=True):
        norm = np.sqrt(sum(w * w for w in weights.values()))
        shared = sum(w * causes[cause] for cause, w in weights.items()) / norm
        traits[name] = float(np.clip(np.sqrt(1 - own) * shared + np.sqrt(own) * noise, -2.5, 2.5))
    return traits
