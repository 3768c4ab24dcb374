"""Draw a synthetic person's head as soft shaded shapes, with every mouth and eyelid position it will need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slf_store.dataset.synthetic.anatomy import anatomy
from slf_store.dataset.synthetic.features import paint_brows, paint_eyes, paint_mouth, paint_nose
from slf_store.dataset.synthetic.hair import paint_beard, paint_hair_behind, paint_hair_front
from slf_store.dataset.synthetic.look import Look
from slf_store.dataset.synthetic.person import Person
from slf_store.dataset.synthetic.sketch import Box, Pixels, Sketch
from slf_store.dataset.synthetic.skin import paint_age, paint_hollows, paint_neck_and_ears, paint_skin

MOUTHS = 6  # mouth positions, shut to wide open
LIDS = 3  # eyelid positions, open to shut


@dataclass(frozen=True)
class Head:
    """A drawn head and its movable parts, premultiplied RGBA uint8.

    Attributes:
        rgba: (336, 336, 4), mouth shut and eyes open.
        eyes_at, mouth_at: rows and columns that the patches replace.
        eyes: (LIDS, h, w, 4). mouths: (MOUTHS, h, w, 4).
    """

    rgba: Pixels
    eyes_at: Box
    eyes: Pixels
    mouth_at: Box
    mouths: Pixels


def draw_head(person: Person, look: Look) -> Head:
    """Draw a person under one video's light and pose.

    >>> from slf_store.dataset.synthetic.look import make_look
    >>> from slf_store.dataset.synthetic.person import make_person
    >>> head = draw_head(make_person(0, 50000), make_look(np.random.default_rng(0)))
    >>> head.rgba.shape, head.mouths.shape[0], head.eyes.dtype
    ((336, 336, 4), 6, dtype('uint8'))
    """
    sketch = Sketch(anatomy(person), look)
    paint_hair_behind(sketch)
    paint_neck_and_ears(sketch)
    paint_skin(sketch)
    paint_hollows(sketch)
    paint_nose(sketch)
    paint_age(sketch)
    paint_beard(sketch)
    paint_brows(sketch)
    paint_hair_front(sketch)
    bare = sketch.canvas.rgba.copy()
    a = sketch.a
    eyes_at = sketch.box(-a.eye_x - 20, -16, a.eye_x + 20, 16)
    mouth_at = sketch.box(-a.mouth_w - 10, a.mouth_y - 14, a.mouth_w + 10, a.mouth_y + 26)
    eyes, mouths = [], []
    for k in range(LIDS):
        sketch.canvas.rgba[eyes_at] = bare[eyes_at]
        paint_eyes(sketch, k / (LIDS - 1))
        eyes.append(sketch.finish(eyes_at))
    for k in range(MOUTHS):
        sketch.canvas.rgba[mouth_at] = bare[mouth_at]
        paint_mouth(sketch, k / (MOUTHS - 1))
        mouths.append(sketch.finish(mouth_at))
    rgba = sketch.finish((slice(None), slice(None)))
    rgba[eyes_at], rgba[mouth_at] = eyes[0], mouths[0]
    return Head(rgba, eyes_at, np.stack(eyes), mouth_at, np.stack(mouths))
