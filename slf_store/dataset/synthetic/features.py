"""Nose, brows, eyes and mouth."""

from __future__ import annotations

import numpy as np

from slf_store.dataset.synthetic.brush import Points, curve, ellipse, stroke
from slf_store.dataset.synthetic.sketch import Sketch, mirrored

_GAPE = 11.0  # widest opening between the lips, frame pixels


def paint_nose(s: Sketch) -> None:
    """Flanks, wings, ridge, tip, shadow and nostrils."""
    a, c = s.a, s.canvas
    w, y = a.nose_w, a.nose_y
    shadow = 1 if s.look.light[0] < 0 else -1
    for side in (-1, 1):
        flank = mirrored(curve([(4.5, -9), (3.8, 4), (5.0, y - 10), (w * 0.85, y - 4)]), side)
        darkness = 0.74 if side == shadow else 0.86
        c.shade(s.at(stroke(flank, np.linspace(4, 6, len(flank))), out=3), darkness, blur=2.2)
        c.shade(s.at(mirrored(ellipse(w * 0.72, y - 2.5, 3.6, 4.2), side), out=6), 0.97, blur=1.0)
        crease = mirrored(curve([(w, y - 7), (w * 1.12, y - 2), (w * 0.8, y + 2)]), side)
        c.shade(s.at(stroke(crease, 1.8), out=5), 0.62, blur=0.9)
    c.shade(s.at(stroke(curve([(0, -8), (0, 6), (0, y - 8)]), 3.2), out=7), 1.12, blur=1.8)
    c.shade(s.at(ellipse(0, y - 4.5, 4.2, 3.4), out=10), 1.13, blur=2)
    c.shade(s.at(ellipse(0, y + 2.8, w * 0.95, 2.6), out=5), 0.66, blur=1.8)
    for side in (-1, 1):
        hole = mirrored(ellipse(w * 0.42, y + 0.8, w * 0.23, 1.7, tilt=-0.25), side)
        c.paint(s.at(hole, out=6), a.skin * 0.22, opacity=0.85, blur=0.6)


def paint_brows(s: Sketch) -> None:
    """Both brows, lifted as the look has it."""
    a = s.a
    x, y = a.eye_x, a.brow_y - s.look.lift
    for side in (-1, 1):
        run = curve([(x - 13, y + 1.5), (x - 3, y - 1.2), (x + 6, y - 1.6), (x + 15, y + 2.2)])
        run[:, 1] -= np.tan(a.brow_tilt) * (run[:, 0] - x)
        width = a.brow_w * np.interp(np.linspace(0, 1, len(run)), [0, 0.25, 0.7, 1], [0.75, 1.0, 0.85, 0.3])
        s.canvas.paint(s.at(mirrored(stroke(run, width), side), out=2), a.brow, opacity=0.88, blur=0.8)


def paint_eyes(s: Sketch, shut: float) -> None:
    """Both eyes, and glasses over them; ``shut`` from 0 (open) to 1."""
    a, c = s.a, s.canvas
    w, h = a.eye_w, a.eye_h
    tall = h * (1 - 0.92 * shut)
    arch = np.array([(-w, 1.0), (-w * 0.45, -tall * 0.8), (w * 0.15, -tall), (w * 0.7, -tall * 0.55), (w, 0.2)])
    upper = curve(arch + np.array([0, 0.6 * h * shut]), 20)
    lower = curve([(w, 0.2), (w * 0.5, h * 0.62), (-w * 0.2, h * 0.72), (-w, 1.0)], 20)
    upper[[0, -1]] = lower[[-1, 0]]
    crease = upper[2:-1] * (1.02, 1) - np.array([0, 2.6])
    lash = np.interp(np.linspace(0, 1, len(upper)), [0, 0.5, 1], [1.0, 2.1, 1.7])
    for side in (-1, 1):

        def put(points: Points, side: int = side) -> Points:
            raised = points[:, 1] - np.tan(a.eye_tilt) * points[:, 0]
            return s.at(mirrored(np.stack([points[:, 0] + a.eye_x, raised], 1), side), out=1)

        c.shade(put(stroke(crease, 1.3)), 0.66, blur=0.7)
        if shut < 1:
            almond = put(np.concatenate([upper, lower]))
            gaze = -s.look.yaw * 8 * side
            c.paint(almond, np.array([226, 222, 218]) * (0.75 + 0.25 * s.look.glow), blur=0.4)
            c.paint(put(ellipse(gaze, -0.5, 4.5, 4.5)), a.iris, blur=0.4, within=almond)
            c.paint(put(ellipse(gaze, -0.5, 2.1, 2.1)), (14, 12, 12), blur=0.3, within=almond)
            c.paint(put(ellipse(gaze - 1.4 * side, -2.1, 1.0, 1.0)), (250, 250, 250), blur=0.2, within=almond)
            c.shade(put(stroke(upper + np.array([0, 1.0]), 2.2)), 0.6, blur=0.7, within=almond)
        c.paint(put(stroke(upper, lash)), (34, 24, 22), opacity=0.92, blur=0.35)
        c.paint(put(stroke(lower, 0.9)), a.skin * 0.35, opacity=0.7, blur=0.5)
    if a.glasses:
        _paint_glasses(s)


def _paint_glasses(s: Sketch) -> None:
    x = s.a.eye_x
    rims = [stroke(ellipse(side * x, 1.5, 15.5, 11.0)[np.arange(41) % 40], 1.7) for side in (-1, 1)]
    temples = [stroke([(side * (x + 15), -2), (side * (x + 20), -3)], 1.7) for side in (-1, 1)]
    bridge = stroke(curve([(-x + 15, 0), (0, -2.5), (x - 15, 0)], 10), 1.6)
    for part, out in ((rims[0], 6), (rims[1], 6), (temples[0], 3), (temples[1], 3), (bridge, 8)):
        s.canvas.paint(s.at(part, out=out), (40, 34, 34), blur=0.35, opacity=0.9)


def paint_mouth(s: Sketch, opening: float) -> None:
    """Lips, and teeth and tongue between them; ``opening`` from 0 (shut) to 1."""
    a, c = s.a, s.canvas
    w, gap = a.mouth_w * (1 - 0.10 * opening), _GAPE * opening
    ends = a.mouth_y - s.look.smile + 0.25 * gap
    top, low = a.mouth_y - 0.12 * gap, a.mouth_y + 0.85 * gap
    bow, brim = top - a.lip * 0.72, low + a.lip * 0.9
    crest = [(-w, ends), (-w * 0.5, bow + 0.8), (-w * 0.17, bow - 0.5)]
    upper = curve([*crest, (0, bow + 0.7), *mirrored(crest, -1)[::-1]], 36)
    seam = curve([(w, ends), (w * 0.5, top + 0.4), (0, top + 0.9), (-w * 0.5, top + 0.4), (-w, ends)], 30)
    floor = curve([(w, ends), (w * 0.55, low + 0.3), (0, low + 1.0), (-w * 0.55, low + 0.3), (-w, ends)], 30)
    rim = curve([(-w, ends), (-w * 0.55, brim), (0, brim + 0.1 * a.lip + 1.0), (w * 0.55, brim), (w, ends)], 36)
    light = s.look.glow + (1.0 - s.look.glow) * 0.85
    c.paint(s.at(np.concatenate([rim, floor]), out=3), a.lips * light, opacity=0.95, blur=0.7)
    c.paint(s.at(np.concatenate([upper, seam]), out=3), a.lips * light * 0.84, opacity=0.95, blur=0.7)
    c.shade(s.at(ellipse(0, low + a.lip * 0.5, w * 0.35, a.lip * 0.25), out=4), 1.22, blur=1.2)
    if opening > 0:
        hole = s.at(np.concatenate([seam, floor[::-1]]), out=2)
        teeth = ellipse(0, top + 0.5, w * 0.72, min(2.9, 0.45 * gap))
        tongue = ellipse(0, low + 2, w * 0.5, 0.35 * gap)
        c.paint(hole, (46, 18, 18), blur=0.5)
        c.paint(s.at(teeth, out=1), np.array([214, 208, 198]) * light, opacity=0.9, blur=0.5, within=hole)
        c.paint(s.at(tongue, out=1), (150, 70, 70), opacity=0.8, blur=0.8, within=hole)
    slit = stroke(seam, np.interp(np.linspace(-1, 1, len(seam)), [-1, 0, 1], [0.9, 1.5, 0.9]))
    c.paint(s.at(slit, out=3), a.lips * 0.28, opacity=0.85, blur=0.5)
    for side in (-1, 1):
        c.shade(s.at(ellipse(side * (w + 0.5), ends, 2.0, 1.8), out=2), 0.7, blur=1.0)
