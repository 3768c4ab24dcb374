"""A head being drawn: its canvas, its sizes, and where a point of the face lies on the frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slf_store.dataset.synthetic.anatomy import Anatomy
from slf_store.dataset.synthetic.brush import Canvas, Points
from slf_store.dataset.synthetic.look import Look

FRAME = 224  # pixels
EYES = (112.0, 82.0)  # the point between the eyes on the frame
SCALE = 1.5  # canvas pixels per frame pixel
_DEPTH = 46.0  # of the face in front of its outline, frame pixels

Pixels = NDArray[np.uint8]
Box = tuple[slice, slice]


class Sketch:
    """A head being drawn: its canvas, its anatomy, and where a point of the face lies on the frame."""

    def __init__(self, a: Anatomy, look: Look) -> None:
        self.a = a
        self.look = look
        self.canvas = Canvas(FRAME, SCALE)
        self.outline = _outline(a)

    def at(self, points: ArrayLike, *, out: float = 0.0) -> Points:
        """Points of the face (n, 2) on the frame; ``out`` lifts them off the skin towards the camera."""
        p = np.asarray(points, np.float64)
        bulge = 1 - (p[:, 0] / 60) ** 2 - ((p[:, 1] - 4) / 82) ** 2
        z = _DEPTH * (np.sqrt(np.maximum(bulge, 0)) - 0.45) + out
        turned = p[:, 0] * np.cos(self.look.yaw) + z * np.sin(self.look.yaw)
        nodded = p[:, 1] * np.cos(self.look.pitch) + z * np.sin(self.look.pitch)
        return np.stack([turned + EYES[0], nodded + EYES[1]], 1)

    def flat(self, points: ArrayLike) -> Points:
        """Points (n, 2) that do not turn with the face (outline, hair, neck) on the frame."""
        return np.asarray(points, np.float64) + EYES

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Rows and columns of the canvas that hold this part of the face."""
        corners = self.at([(left, top), (right, top), (left, bottom), (right, bottom)]) * SCALE
        low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    def finish(self, box: Box) -> Pixels:
        """A part of the canvas as pixels, under the light's colour."""
        tint = np.array([*self.look.tint, 1.0], np.float32)
        return np.asarray(np.clip(self.canvas.rgba[box] * tint, 0, 255), np.uint8)


def mirrored(points: ArrayLike, side: int) -> Points:
    """Points given for the picture's right side, on the side asked for (±1)."""
    return np.asarray(points, np.float64) * (side, 1)


def _outline(a: Anatomy) -> Points:
    t = np.linspace(0, np.pi, 48)
    lower = np.stack([a.width * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** a.jaw, a.chin * np.sin(t) ** 1.15], 1)
    full = 1 - (0.10 - 0.07 * a.cheeks) * np.sin(t) * 2 * np.abs(np.cos(t))
    lower[:, 0] *= full
    upper = np.stack([a.width * np.cos(t + np.pi), a.crown * np.abs(np.sin(t + np.pi)) ** 0.8], 1)
    return np.concatenate([lower, upper])
