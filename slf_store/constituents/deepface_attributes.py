"""Age, gender and ethnicity from the face through DeepFace's attribute networks (hub)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from slf_store.constituents.deepface_models import ATTRIBUTES
from slf_store.constituents.extractor import AttributeValue
from slf_store.constituents.faces import FromFace, to_device
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.weights import Weights
from slf_store.media import face as faces
from slf_store.media.clip import ClipMedia

GENDERS = {"Woman": "f", "Man": "m"}
"""DeepFace's words as the metadata files write them."""


@dataclass(eq=False)
class DeepFaceAttributes(FromFace):
    """Estimated age (whole years), gender (`f` or `m`) and ethnicity with scores; rows in `attribute`.

    The ethnicity is DeepFace's own label, one of six: asian, indian, black, white, middle eastern, latino hispanic.
    What becomes of them in a snapshot is the setting `ethnicity_mapping`. The networks see the whole 128×128 target;
    the paper's code searched it for a face again, and took the whole where it found none.

    Three networks of VGG-Face's size: 1.6 GB of memory in each process, or on the device.
    """

    name = "deepface_attributes"
    profiles = frozenset({"hub"})

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (*super().weights, *(weights for files in ATTRIBUTES.values() for weights in files()))

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "attribute",
            unit="years; f | m; DeepFace's six labels",
            paper="section 3, additional attributes: DeepFace",
            also={"from": "128×128 target, not searched again"},
        )

    def load(self) -> None:
        super().load()
        for network in ATTRIBUTES:
            to_device(faces.build_model("facial_attribute", network), self.settings)

    def extract(self, clip: ClipMedia) -> list[AttributeValue]:
        from deepface import DeepFace

        (found,) = DeepFace.analyze(
            np.ascontiguousarray(clip.target(self.choice)[:, :, ::-1]),
            actions=("age", "gender", "race"),
            detector_backend="skip",
            enforce_detection=False,
            silent=True,
        )
        return as_attributes(found)


def as_attributes(found: dict[str, Any]) -> list[AttributeValue]:
    """What DeepFace says of one face, as stored. Age has no score: it is the mean of the network's distribution.

    >>> [v.text or v.number for v in as_attributes({"age": 31, "dominant_gender": "Woman", "gender": {"Woman": 97.0},
    ...     "dominant_race": "latino hispanic", "race": {"latino hispanic": 61.0}})]
    [31.0, 'f', 'latino hispanic']
    """
    gender, ethnicity = found["dominant_gender"], found["dominant_race"]
    return [
        AttributeValue("age", number=float(found["age"])),
        AttributeValue("gender", text=GENDERS[gender], score=float(found["gender"][gender]) / 100),
        AttributeValue("ethnicity", text=ethnicity, score=float(found["race"][ethnicity]) / 100),
    ]
