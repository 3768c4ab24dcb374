"""Neck, ears, skin under the light, and the soft relief of a face."""

from __future__ import annotations

import numpy as np

from slf_store.dataset.synthetic.brush import curve, ellipse, stroke
from slf_store.dataset.synthetic.sketch import EYES, SCALE, Sketch, mirrored


def paint_neck_and_ears(s: Sketch) -> None:
    """Neck with the chin's shadow, and ears; drawn before the head."""
    a = s.a
    half = a.width * (0.62 - 0.1 * (a.jaw - 0.7))
    edge = [(half, 30), (half * 0.97, 75), (half * 1.1, 92)]
    neck = curve([*mirrored(edge, -1), (0, 112), *edge[::-1]], 40)
    s.canvas.paint(s.flat(neck), a.skin * 0.82, blur=0.8)
    s.canvas.shade(s.flat(s.outline + np.array([0, 9])), 0.62, blur=5, within=s.flat(neck))
    for side in (-1, 1):
        ear = ellipse(side * (a.width + 1.5), 9, 6.5, 13.5, tilt=side * 0.15)
        s.canvas.paint(s.flat(ear), a.skin * (0.93, 0.85, 0.83), blur=0.6)
        s.canvas.shade(s.flat(ellipse(side * (a.width + 2), 9, 3, 8)), 0.75, blur=1.2)


def paint_skin(s: Sketch) -> None:
    """The head's outline filled with skin, lit as a ball would be."""
    a, look = s.a, s.look
    s.canvas.paint(s.flat(s.outline), a.skin, blur=0.6)
    side = s.canvas.rgba.shape[0]
    grid = (np.arange(side, dtype=np.float32) + 0.5) / SCALE
    u = ((grid - EYES[0]) / (a.width * 1.12))[None, :]
    v = ((grid - EYES[1] - 4) / (a.chin * 1.12))[:, None]
    w = np.sqrt(np.maximum(1 - u * u - v * v, 0.02))
    lit = u * look.light[0] + v * look.light[1] * 0.8 + w * look.light[2]
    light = look.glow + (1.08 - look.glow) * np.maximum(lit, 0)
    head = s.canvas.rgba[..., :3]
    head *= np.clip(light, 0.3, 1.15).astype(np.float32)[..., None]


def paint_hollows(s: Sketch) -> None:
    """Eye sockets, cheeks, temples, chin: the soft relief of a face."""
    a, c = s.a, s.canvas
    for side in (-1, 1):
        socket = ellipse(side * (a.eye_x - 1.5), -3.5, 15.5, 10.5)
        c.shade(s.at(socket), (0.80, 0.75, 0.74), blur=3.6)
        inner = ellipse(side * 10.5, -4, 4.5, 8, tilt=side * 0.3)
        c.shade(s.at(inner), (0.84, 0.80, 0.80), blur=2.6)
        c.shade(s.at(ellipse(side * (a.eye_x + 7), 27, 12, 8)), (1.07, 1.0, 0.99), blur=6)
        hollow = ellipse(side * a.width * 0.72, 42, 7, 15, tilt=side * 0.5)
        c.shade(s.at(hollow), 0.80 + 0.18 * a.cheeks, blur=5)
    c.shade(s.at(ellipse(0, a.hairline * 0.66, 20, 9)), 1.06, blur=7)
    chin_y = a.mouth_y + 0.68 * (a.chin - a.mouth_y)
    c.shade(s.at(ellipse(0, chin_y, 9, 5)), 1.08, blur=4)
    c.shade(s.at(ellipse(0, a.mouth_y + a.lip + 4.5, a.mouth_w * 0.55, 2.6)), 0.78, blur=2.2)
    c.shade(s.at(ellipse(0, 0.5 * (a.nose_y + a.mouth_y) + 1, 2.2, 5)), 0.90, blur=1.5)


def paint_age(s: Sketch) -> None:
    """Folds, bags and lines, deeper with age."""
    a, c = s.a, s.canvas
    for side in (-1, 1):
        fold = curve([(a.nose_w + 3, a.nose_y - 3), (a.nose_w + 8, a.nose_y + 8), (a.mouth_w + 5, a.mouth_y + 1)])
        c.shade(s.at(mirrored(stroke(fold, 2.2), side)), 0.93 - 0.27 * a.wrinkles, blur=1.3)
        bag = curve([(a.eye_x - 9, 7.5), (a.eye_x, 11), (a.eye_x + 9, 7.5)])
        c.shade(s.at(mirrored(stroke(bag, 2.0), side)), 0.93 - 0.22 * a.wrinkles, blur=1.2)
        if a.wrinkles > 0.3:
            for rise in (-3, 0, 3):
                foot = [(a.eye_x + 13, 1 + rise * 0.6), (a.eye_x + 19, 1 + rise * 1.4)]
                c.shade(s.at(mirrored(stroke(curve(foot, 6), 1.0), side)), 1 - 0.25 * a.wrinkles, blur=0.6)
    if a.wrinkles > 0.1:
        for y in (0.58, 0.74):
            line = curve([(-22, a.hairline * y + 1), (0, a.hairline * y - 1), (22, a.hairline * y + 1)])
            c.shade(s.at(stroke(line, 1.3)), 1 - 0.20 * a.wrinkles, blur=1.0)
