"""What is made from the face: the face itself, the target, the image guide, the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.deepface_models import DETECTORS, EMBEDDINGS, check_name
from slf_store.constituents.extractor import Extractor
from slf_store.constituents.spec import ConstituentSpec
from slf_store.constituents.speech_network import torch_device
from slf_store.constituents.weights import Weights
from slf_store.errors import ClipError, ConfigError
from slf_store.media import face as faces
from slf_store.media import facenet
from slf_store.media.clip import ClipMedia, FaceChoice
from slf_store.settings import Settings

_CROP = {"grow_height": faces.GROW_HEIGHT, "grow_width": faces.GROW_WIDTH, "outside": "edge repeated"}


def face_choice(settings: Settings) -> FaceChoice:
    """How frames and faces are chosen under these settings.

    Raises:
        ConfigError: there is no such detector.
    """
    check_name("face detector", settings.face_detector, DETECTORS, "SLF_FACE_DETECTOR")
    return FaceChoice(
        detector=settings.face_detector,
        frame=settings.frame_choice,
        seed=settings.seed,
        tracks=settings.face_tracks,
    )


@dataclass(eq=False)
class FromFace(Extractor):
    """Base of extractors that start from the clip's face; the choice of frame and detector is part of the spec."""

    @cached_property
    def choice(self) -> FaceChoice:
        """How the frame and the face are chosen."""
        return face_choice(self.settings)

    @property
    def weights(self) -> tuple[Weights, ...]:
        return DETECTORS[self.choice.detector]()

    @property
    def parameters(self) -> dict[str, Any]:
        return {**super().parameters, "face": asdict(self.choice), "crop": _CROP}

    def load(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        for weights in self.weights:  # or DeepFace would fetch what is missing, in every process at once
            weights.paths(self.settings.models)
        faces.prepare_deepface(self.settings.models)
        faces.build_model("face_detector", self.choice.detector)


@dataclass(eq=False)
class FaceBox(FromFace):
    """Which frame, box and score the face has, and how many faces the frame shows; one row in `face`."""

    name = "face"

    @cached_property
    def spec(self) -> ConstituentSpec:
        return self.declare("face", unit="pixels", paper="section 3, face extraction")

    def extract(self, clip: ClipMedia) -> faces.DetectedFace:
        return clip.face(self.choice)


@dataclass(eq=False)
class Target(FromFace):
    """The face to be generated: (128, 128, 3) uint8 RGB."""

    name = "target"

    @cached_property
    def spec(self) -> ConstituentSpec:
        shape = (faces.TARGET_SIZE, faces.TARGET_SIZE, 3)
        return self.declare("array", shape, "uint8", unit="sRGB", paper="128×128 output")

    def extract(self, clip: ClipMedia) -> NDArray[np.uint8]:
        return clip.target(self.choice)


@dataclass(eq=False)
class ImageGuide(FromFace):
    """The target averaged over areas: (8, 8, 3) uint8 RGB."""

    name = "image_guide"

    @cached_property
    def spec(self) -> ConstituentSpec:
        shape = (faces.GUIDE_SIZE, faces.GUIDE_SIZE, 3)
        return self.declare("array", shape, "uint8", unit="sRGB", paper="8×8 image guide", also={"resampler": "area"})

    def extract(self, clip: ClipMedia) -> NDArray[np.uint8]:
        return faces.make_guide(clip.target(self.choice))


@dataclass(eq=False)
class FaceEmbedding(FromFace):
    """Embedding of the target: (d,) float32 into pgvector; one constituent for each network.

    Attributes:
        model: DeepFace's name of the network, or `facenet-casia-20180408`.
    """

    model: str = "Dlib"

    @classmethod
    def from_settings(cls, settings: Settings) -> Sequence[Self]:
        """One for each model of the settings: `face_model` and then `face_models`.

        Raises:
            ConfigError: there is no such model, or `[parameters.face_…]` names one: the settings do.
        """
        models = dict.fromkeys((settings.face_model, *settings.face_models))
        made = [cls(settings, model=model) for model in models]
        for extractor in made:
            if settings.parameters.get(extractor.name):
                raise ConfigError(
                    f"[parameters.{extractor.name}]: {extractor.name} has no parameters",
                    hint="choose models with face_model and face_models",
                )
        return made

    def __post_init__(self) -> None:
        check_name("face model", self.model, EMBEDDINGS, "SLF_FACE_MODEL (or each of SLF_FACE_MODELS)")
        self.name = f"face_{self.model.lower().replace('-', '_')}"  # type: ignore[misc]

    @property
    def weights(self) -> tuple[Weights, ...]:
        _, files = EMBEDDINGS[self.model]
        return (*super().weights, *files())

    @cached_property
    def spec(self) -> ConstituentSpec:
        dimension, _ = EMBEDDINGS[self.model]
        grown = {"box_grown_percent": facenet.GROW_PERCENT} if self.model == facenet.NAME else {}
        return self.declare(
            "embedding",
            (dimension,),
            "float32",
            unit="embedding",
            paper="section 4, evaluation: face embeddings by DeepFace",
            also={"from": "128×128 target, detected again", **grown},
        )

    def load(self) -> None:
        super().load()
        if self.model == facenet.NAME:
            facenet.load()
        else:
            to_device(faces.build_model("facial_recognition", self.model), self.settings)

    def extract(self, clip: ClipMedia) -> NDArray[np.float32]:
        vector = faces.embed_face(clip.target(self.choice), detector=self.choice.detector, model=self.model)
        if vector is None:
            raise ClipError("no_face_in_target", f"{clip.path}: the detector finds no face in the 128×128 crop")
        return vector


def to_device(network: Any, settings: Settings) -> None:
    """Move one of DeepFace's torch networks to the device of the settings; others stay where they are.

    Raises:
        ModelUnavailable: there is no such device.
    """
    if hasattr(network, "device"):
        network.device = torch_device(settings.device)
        network.model.to(network.device)
