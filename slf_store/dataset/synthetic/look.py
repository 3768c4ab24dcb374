"""What changes from one video of a person to the next: pose, light, expression, surroundings, microphone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Look:
    """One video's circumstances.

    Attributes:
        yaw, pitch: of the head, radians; positive looks to the picture's right, down.
        roll: radians, clockwise. shift: x, y in frame pixels. zoom: 1 = as is.
        light: unit vector towards the light; x right, y down, z towards the camera.
        glow: share of light that comes from everywhere, 0 to 1.
        tint: colour of the light, three factors near 1.
        smile, lift: mouth corners and brows raised, in frame pixels.
        background, clothes: two RGB colours each, 0 to 255.
        gain, tone, room: voice level (dB), microphone slope (dB per octave), reverberation time (s).
        hiss: noise level below the voice, dB.
    """

    yaw: float
    pitch: float
    roll: float
    shift: tuple[float, float]
    zoom: float
    light: tuple[float, float, float]
    glow: float
    tint: tuple[float, float, float]
    smile: float
    lift: float
    background: tuple[tuple[float, float, float], tuple[float, float, float]]
    clothes: tuple[tuple[float, float, float], tuple[float, float, float]]
    gain: float
    tone: float
    room: float
    hiss: float


def make_look(rng: np.random.Generator) -> Look:
    """Draw one video's circumstances.

    >>> look = make_look(np.random.default_rng(0))
    >>> abs(look.yaw) < 0.25, round(float(np.linalg.norm(look.light)), 6)
    (True, 1.0)
    """

    def colour(low: float, high: float) -> tuple[float, float, float]:
        r, g, b = rng.uniform(low, high) + rng.normal(0, 14, 3)
        return float(r), float(g), float(b)

    light = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.6, -0.1), 1.0])
    light /= np.linalg.norm(light)
    warm = float(np.clip(rng.normal(0, 0.02), -0.04, 0.04))
    level = float(np.clip(rng.normal(1.03, 0.05), 0.9, 1.15))
    return Look(
        yaw=float(np.clip(rng.normal(0, 0.08), -0.2, 0.2)),
        pitch=float(np.clip(rng.normal(0, 0.05), -0.1, 0.1)),
        roll=float(np.clip(rng.normal(0, 0.035), -0.09, 0.09)),
        shift=(float(rng.uniform(-4, 4)), float(rng.uniform(-2, 2))),
        zoom=float(rng.uniform(0.93, 0.98)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        glow=float(rng.uniform(0.45, 0.65)),
        tint=(level * (1 + warm), level, level * (1 - warm)),
        smile=float(rng.normal(0.6, 0.7)),
        lift=float(rng.normal(0, 0.5)),
        background=(colour(60, 200), colour(60, 200)),
        clothes=(colour(30, 200), colour(30, 200)),
        gain=float(rng.uniform(-6, 0)),
        tone=float(rng.normal(0, 1.0)),
        room=float(rng.uniform(0.04, 0.12)),
        hiss=float(rng.uniform(32, 48)),
    )
