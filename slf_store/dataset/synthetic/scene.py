"""Put the moving head in front of a background, over shoulders, with the label, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slf_store.dataset.synthetic.brush import Canvas, curve
from slf_store.dataset.synthetic.face import Head
from slf_store.dataset.synthetic.look import Look
from slf_store.dataset.synthetic.motion import Motion
from slf_store.dataset.synthetic.sketch import EYES, FRAME, SCALE, Pixels

LABEL = "SYNTHETIC"
_PIVOT = (EYES[0], EYES[1] + 60.0)  # the head turns around the neck


def draw_backdrop(look: Look) -> Pixels:
    """Everything that stands still: background, shoulders, label. (224, 224, 3) uint8 RGB.

    >>> from slf_store.dataset.synthetic.look import make_look
    >>> draw_backdrop(make_look(np.random.default_rng(0))).shape
    (224, 224, 3)
    """
    import cv2

    canvas = Canvas(FRAME, 1)
    first, second = (np.asarray(c) for c in look.background)
    canvas.paint([(0, 0), (FRAME, 0), (FRAME, FRAME), (0, FRAME)], first)
    slant = 40 * look.light[0]
    canvas.paint([(110 + slant, 0), (FRAME, 0), (FRAME, FRAME), (110 - slant, FRAME)], second, blur=30)
    x, y = EYES
    half = [(0, 96), (26, 99), (52, 108), (84, 120), (100, 150)]
    right = curve(half, 24)
    body = np.concatenate([right, (right * (-1, 1))[::-1]]) + np.array([x, y])
    cloth, trim = (np.clip(c, 0, 255) for c in look.clothes)
    canvas.paint(body, cloth, blur=1.0)
    front = [(x - 30, y + 90), (x + 30, y + 90), (x + 14, 230), (x - 14, 230)]
    canvas.shade(front, np.clip(trim / 128, 0.6, 1.4), blur=3, within=body)
    rgb = np.clip(canvas.rgba[..., :3] * np.asarray(look.tint, np.float32), 0, 255).astype(np.uint8)
    cv2.putText(rgb, LABEL, (3, FRAME - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.28, (245, 245, 245), 1, cv2.LINE_AA)
    return rgb


def frames(head: Head, backdrop: Pixels, look: Look, motion: Motion) -> Iterator[Pixels]:
    """The frames of one clip, (224, 224, 3) uint8 RGB, one for each step of ``motion``."""
    import cv2

    canvas = head.rgba.copy()
    behind = np.ascontiguousarray(backdrop)
    for k in range(len(motion.mouth)):
        canvas[head.eyes_at] = head.eyes[motion.lids[k]]
        canvas[head.mouth_at] = head.mouths[motion.mouth[k]]
        warp = _placement(look.zoom * motion.zoom[k], look.roll + motion.roll[k], motion.shift[k] + look.shift)
        moved = cv2.warpAffine(canvas, warp, (FRAME, FRAME), flags=cv2.INTER_LINEAR)
        clear = cv2.merge([255 - moved[..., 3]] * 3)
        picture = cv2.add(cv2.multiply(behind, clear, scale=1 / 255), cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB))
        yield np.asarray(picture, np.uint8)


def _placement(zoom: float, roll: float, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Affine map (2, 3) from head canvas to frame pixels."""
    turn = zoom * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    pivot = np.asarray(_PIVOT)
    return np.concatenate([turn / SCALE, (pivot + shift - turn @ pivot)[:, None]], 1)
