"""Hair of the head and of the face."""

from __future__ import annotations

import numpy as np

from slf_store.dataset.synthetic.brush import curve, ellipse, stroke
from slf_store.dataset.synthetic.sketch import Sketch, mirrored


def paint_hair_behind(s: Sketch) -> None:
    """The mass of hair behind the head; nothing when it is cropped."""
    a = s.a
    if a.hair_length < 0.8:
        return
    w = a.width + 3 + 7 * a.hair_volume
    end = -8 + 36 * a.hair_length
    top = a.crown - 4 - 5 * a.hair_volume
    fall = [(w * 0.62, top + 9), (w, -22), (w + 1, end * 0.5), (w * 0.96, end - 6), (w * 0.6, end)]
    mass = curve([*mirrored(fall, -1)[::-1], (0, top), *fall], 80)
    s.canvas.paint(s.flat(mass), a.hair * 0.74, blur=1.2)


def paint_hair_front(s: Sketch) -> None:
    """The hair over the skull down to the hairline, with a sheen."""
    a = s.a
    rise = 3 + 6 * a.hair_volume if a.hair_length > 0.15 else 1.5
    w = a.width + (1.0 + 4.0 * a.hair_volume if a.hair_length > 0.15 else 0.6)
    burn = -6.0 if a.hair_length < 0.8 else 16.0
    dome = [(w - 1, burn), (w, -24), (w * 0.74, a.crown * 0.82 - rise)]
    outer = curve([*dome, (0, a.crown - rise), *mirrored(dome, -1)[::-1]], 60)
    part = 10.0 * (a.hair_volume - 0.5)
    temple = [(a.width - 3, burn), (a.width - 6, a.hairline * 0.55), (a.width * 0.62, a.hairline * 0.92)]
    inner = curve([*mirrored(temple, -1), (part, a.hairline - 2), *temple[::-1]], 50)
    cap = s.flat(np.concatenate([outer, inner]))
    lit = 0.72 + 0.28 * s.look.glow
    s.canvas.paint(cap, a.hair * lit, blur=1.1)
    sheen = ellipse(s.look.light[0] * 40, a.crown * 0.86, a.width * 0.55, 5.5)
    s.canvas.shade(s.flat(sheen), 1.22, blur=5, within=cap)
    s.canvas.shade(s.at(stroke(inner + np.array([0, 2.0]), 2.4)), 0.86, blur=1.8)


def paint_beard(s: Sketch) -> None:
    """Beard and moustache, from a shadow to full; drawn before the mouth."""
    a = s.a
    colour = 0.8 * a.hair
    if a.beard > 0.05:
        w, under = a.width, a.mouth_y + a.lip + 3
        lower = s.outline[:48]
        lower = lower[lower[:, 1] > 20]
        edge = [(w * 0.86, 22), (w * 0.66, a.mouth_y - 10), (a.mouth_w + 4, a.mouth_y - 6), (a.mouth_w * 0.6, under)]
        inner = curve([*mirrored(edge, -1), (0, under + 2), *edge[::-1]], 50)
        s.canvas.paint(s.flat(np.concatenate([lower, inner])), colour, opacity=0.75 * a.beard, blur=2.2, inside=True)
    if a.moustache > 0.05:
        y = 0.5 * (a.nose_y + a.mouth_y) + 2.0
        half = [(a.mouth_w + 2, a.mouth_y + 1), (a.mouth_w * 0.6, y)]
        line = curve([*mirrored(half, -1), (0, y - 1.0), *half[::-1]], 24)
        width = np.interp(np.linspace(-1, 1, 24), [-1, -0.4, 0, 0.4, 1], [1.5, 6, 5.0, 6, 1.5])
        s.canvas.paint(s.at(stroke(line, width), out=3), colour, opacity=0.85 * a.moustache, blur=1.2)
