"""A person's face traits as sizes and colours, ready to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slf_store.dataset.synthetic.person import Person

Colour = NDArray[np.float64]


@dataclass(frozen=True)
class Anatomy:
    """Sizes in frame pixels around the point between the eyes (x right, y down); colours RGB, 0 to 255."""

    width: float  # half width at the cheekbones
    jaw: float  # exponent of the lower outline: small is square
    chin: float
    crown: float  # y of the skull's top
    hairline: float
    cheeks: float  # 0 hollow, 1 full
    eye_x: float
    eye_w: float
    eye_h: float
    eye_tilt: float  # radians, outer corner up
    brow_y: float
    brow_w: float
    brow_tilt: float  # radians, outer end up
    nose_y: float
    nose_w: float
    mouth_y: float
    mouth_w: float  # half width
    lip: float  # height of the lower lip
    wrinkles: float  # 0 to 1
    beard: float  # 0 to 1
    moustache: float  # 0 to 1
    hair_length: float  # 0 cropped to 3 past the shoulders
    hair_volume: float
    glasses: bool
    skin: Colour
    hair: Colour
    brow: Colour
    iris: Colour
    lips: Colour


def anatomy(person: Person) -> Anatomy:
    """Turn a person's standard-normal traits into sizes and colours.

    >>> from slf_store.dataset.synthetic.person import make_person
    >>> a = anatomy(make_person(0, 50000))
    >>> 40 < a.width < 65, a.skin.shape
    (True, (3,))
    """
    t = person.face
    male = person.gender == "m"
    skin = _blend((242, 206, 182), (122, 76, 52), _unit(t["skin_depth"], 0.33, 0.24))
    skin = np.clip(skin + np.array([2.0, -3.0, -8.0]) * t["skin_hue"], 0, 255)
    pigment = _blend((226, 184, 112), (30, 22, 20), _unit(t["hair_depth"], 0.62, 0.3))
    pigment = np.clip(pigment + np.array([16.0, 4.0, -8.0]) * t["hair_hue"], 12, 255)
    grey = float(np.clip((person.age - 45) / 30, 0, 0.85))
    hair = _blend(pigment, (196, 194, 192), grey)
    nose_y = 27.0 + 2.6 * t["nose_length"]
    chin = 73.0 + 2.8 * t["chin"]
    red = _blend((176, 92, 84), (186, 52, 62), _unit(t["lip_red"], 0.4, 0.3))
    return Anatomy(
        width=51.0 + 3.2 * t["head_width"],
        jaw=float(np.clip(0.70 - 0.11 * t["jaw_width"], 0.42, 1.0)),
        chin=chin,
        crown=-66.0 - 2.5 * t["head_height"],
        hairline=-41.0 + 1.0 * t["head_height"] - 4.0 * t["hairline"],
        cheeks=_unit(t["cheeks"], 0.5, 0.25),
        eye_x=23.0 + 1.5 * t["eye_gap"] + 0.4 * t["head_width"],
        eye_w=9.6 + 0.8 * t["eye_size"],
        eye_h=4.7 + 0.75 * t["eye_size"],
        eye_tilt=0.03 + 0.07 * t["eye_tilt"],
        brow_y=-13.5 - 1.8 * t["brow_height"],
        brow_w=float(np.clip(3.9 + 1.2 * t["brow_thick"], 1.5, 7.5)),
        brow_tilt=0.02 + 0.08 * t["brow_tilt"],
        nose_y=nose_y,
        nose_w=10.5 + 1.6 * t["nose_width"],
        mouth_y=nose_y + 0.45 * (chin - nose_y) + 1.2 * t["mouth_height"],
        mouth_w=18.5 + 2.5 * t["mouth_width"],
        lip=float(np.clip(5.0 + 1.3 * t["lips"], 2.2, 9.0)),
        wrinkles=float(np.clip((person.age - 38) / 38, 0, 1)),
        beard=_unit(t["beard"], 0.1, 0.5) if male else 0.0,
        moustache=_unit(t["moustache"], 0.0, 0.5) if male else 0.0,
        hair_length=float(np.clip((0.5 if male else 2.0) + 0.7 * t["hair_length"] * (0.6 if male else 1), 0, 3)),
        hair_volume=_unit(t["hair_volume"], 0.5, 0.25),
        glasses=t["glasses"] > 1.1,
        skin=skin,
        hair=hair,
        brow=_blend(hair * 0.72, skin * 0.5, 0.25),
        iris=_blend((96, 138, 168), (62, 40, 26), _unit(t["eye_colour"], 0.55, 0.35)),
        lips=_blend(red, skin * (0.82, 0.6, 0.58), 0.35 + 0.3 * male),
    )


def _unit(z: float, middle: float, spread: float) -> float:
    """A standard-normal trait as a share between 0 and 1."""
    return float(np.clip(middle + spread * z, 0.0, 1.0))


def _blend(a: object, b: object, share: float) -> Colour:
    """Colour ``a`` turned towards ``b`` by ``share``."""
    start, end = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.asarray(start + (end - start) * share)
