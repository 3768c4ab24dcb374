"""Soft polygons on a small picture: the only drawing primitive of the synthetic faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
_FRACTION_BITS = 4  # cv2 takes polygon corners in 1/16 pixel


class Canvas:
    """A square RGBA picture, premultiplied, float32, transparent at first, drawn on in frame pixels.

    Args:
        size: side of the frame in pixels.
        scale: canvas pixels per frame pixel (supersampling).

    >>> canvas = Canvas(32, 2)
    >>> canvas.paint([(8, 8), (24, 8), (24, 24), (8, 24)], (200, 0, 0))
    >>> canvas.rgba.shape, canvas.rgba[32, 32].tolist(), canvas.rgba[2, 2].tolist()
    ((64, 64, 4), [200.0, 0.0, 0.0, 255.0], [0.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, size: int, scale: float) -> None:
        side = round(size * scale)
        self.scale = scale
        self.rgba: Floats = np.zeros((side, side, 4), np.float32)

    def paint(
        self,
        points: ArrayLike,
        colour: ArrayLike,
        *,
        opacity: float = 1.0,
        blur: float = 0.0,
        within: ArrayLike | None = None,
        inside: bool = False,
    ) -> None:
        """Lay one polygon of one colour over the picture.

        Args:
            points: (n, 2) corners x, y in frame pixels.
            colour: RGB, 0 to 255.
            opacity: 0 to 1.
            blur: softness of the edge, in frame pixels (standard deviation).
            within: a second polygon; only the part of the first inside it is laid.
            inside: lay it only where the picture is already opaque.
        """
        spot = self._mask(points, opacity, blur, within)
        if spot is None:
            return
        rows, cols, mask = spot
        patch = self.rgba[rows, cols]
        if inside:
            mask = mask * patch[..., 3:] * np.float32(1 / 255)
        patch += mask * (np.append(np.asarray(colour, np.float32), np.float32(255)) - patch)

    def shade(
        self, points: ArrayLike, factor: ArrayLike, *, blur: float = 0.0, within: ArrayLike | None = None
    ) -> None:
        """Multiply the colours under one polygon by ``factor`` (one number, or three for R, G, B).

        Arguments as for :meth:`paint`.
        """
        spot = self._mask(points, 1.0, blur, within)
        if spot is None:
            return
        rows, cols, mask = spot
        self.rgba[rows, cols, :3] *= 1 + mask * (np.asarray(factor, np.float32) - 1)

    def _mask(
        self, points: ArrayLike, opacity: float, blur: float, within: ArrayLike | None
    ) -> tuple[slice, slice, Floats] | None:
        """Coverage (h, w, 1) of a polygon on the smallest part of the picture that holds it."""
        import cv2

        corners = np.asarray(points, np.float64) * self.scale
        sigma = blur * self.scale
        margin = 3 * sigma + 2
        side = self.rgba.shape[0]
        left, top = np.clip(np.floor(corners.min(0) - margin), 0, side).astype(int)
        right, bottom = np.clip(np.ceil(corners.max(0) + margin), 0, side).astype(int)
        if right <= left or bottom <= top:
            return None
        origin = np.array([left, top])
        mask = _fill(corners - origin, bottom - top, right - left)
        if within is not None:
            mask = np.minimum(
                mask, _fill(np.asarray(within, np.float64) * self.scale - origin, bottom - top, right - left)
            )
        soft: Floats = mask.astype(np.float32)
        if sigma > 0:
            soft = np.asarray(cv2.GaussianBlur(soft, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT), np.float32)
        soft *= np.float32(opacity / 255)
        return slice(top, bottom), slice(left, right), soft[..., None]


def _fill(corners: Points, height: int, width: int) -> NDArray[np.uint8]:
    import cv2

    mask = np.zeros((height, width), np.uint8)
    fixed = np.round(corners * (1 << _FRACTION_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=_FRACTION_BITS)
    return mask


def ellipse(x: float, y: float, rx: float, ry: float, *, tilt: float = 0.0, corners: int = 40) -> Points:
    """An ellipse as (corners, 2) points; ``tilt`` in radians, clockwise on the screen.

    >>> ellipse(5, 5, 2, 1, corners=4).round(3).tolist()
    [[7.0, 5.0], [5.0, 6.0], [3.0, 5.0], [5.0, 4.0]]
    """
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    u, v = rx * np.cos(t), ry * np.sin(t)
    return np.stack([x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)], 1)


def curve(knots: ArrayLike, steps: int = 24) -> Points:
    """A smooth curve through (n, 2) knots as (steps, 2) points.

    >>> curve([(0, 0), (1, 1), (2, 0)], steps=3).round(3).tolist()
    [[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]]
    """
    p = np.asarray(knots, np.float64)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    at = np.linspace(0, len(p) - 3, steps)
    k = np.minimum(at.astype(int), len(p) - 4)
    t = (at - k)[:, None]
    a, b, c, d = p[k], p[k + 1], p[k + 2], p[k + 3]
    cubic = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    return np.asarray(0.5 * cubic)


def stroke(line: ArrayLike, width: float | ArrayLike) -> Points:
    """A line of (n, 2) points as a polygon (2n, 2); ``width`` in frame pixels, one number or one per point.

    >>> stroke([(0, 0), (4, 0)], 2).tolist()
    [[0.0, -1.0], [4.0, -1.0], [4.0, 1.0], [0.0, 1.0]]
    """
    p = np.asarray(line, np.float64)
    along = np.gradient(p, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.linalg.norm(along, axis=1), 1e-9)[:, None]
    half = np.broadcast_to(np.asarray(width, np.float64), len(p))[:, None] / 2
    return np.concatenate([p - across * half, (p + across * half)[::-1]])
