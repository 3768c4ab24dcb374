"""Faces through DeepFace: detection, crop, target, image guide, embedding."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ConfigError, ModelUnavailable
from slf_store.media import facenet

TARGET_SIZE = 128
"""Pixels of the target's side."""
GUIDE_SIZE = 8
"""Pixels of the image guide's side."""
GROW_HEIGHT = 0.4
"""Share of the box height added above and below (published code)."""
GROW_WIDTH = 0.5
"""Share of the box width added left and right (published code)."""
ENGINES = ("pytorch", "onnx")
"""What DeepFace's networks can run on here."""

FoundBox = tuple[int, int, int, int, float]
"""x, y, width, height (pixels), score."""

ChosenBy = Literal["only", "largest", "track", "bad_track"]
"""Why this face of the frame: it is the `only` one; of several it is the `largest`, or the one that the published
`track` follows; `bad_track`: the largest, because the track beside the clip cannot be read."""


@dataclass(frozen=True)
class DetectedFace:
    """The chosen face of a frame: its box in pixels, the detector's score, and how many faces there were."""

    frame: int
    x: int
    y: int
    width: int
    height: int
    confidence: float
    faces_in_frame: int
    image: NDArray[np.uint8]
    """The whole frame, (h, w, 3) uint8 RGB."""
    chosen_by: ChosenBy = "only"


def prepare_deepface(models: Path) -> None:
    """Point DeepFace to the store's weights and keep it quiet; before its first import."""
    os.environ["DEEPFACE_HOME"] = str(models)
    os.environ.setdefault("DEEPFACE_LOG_LEVEL", "40")
    os.environ["DEEPFACE_BACKEND_ENGINE"] = deepface_engine()
    (models / ".deepface" / "weights").mkdir(parents=True, exist_ok=True)
    _link_packaged_weights(models / ".deepface" / "weights")


def deepface_engine() -> str:
    """What DeepFace's networks run on: `DEEPFACE_BACKEND_ENGINE` if it is set, else `pytorch` where there is torch.

    Raises:
        ConfigError: the variable names another engine than pytorch or onnx.
    """
    wanted = os.environ.get("DEEPFACE_BACKEND_ENGINE", "").strip().lower()
    if wanted not in ("", *ENGINES):
        raise ConfigError(
            f"DEEPFACE_BACKEND_ENGINE={wanted} is not supported here", hint=f"unset it, or use {' or '.join(ENGINES)}"
        )
    return wanted or ("pytorch" if importlib.util.find_spec("torch") else "onnx")


def detect_faces(image: NDArray[np.uint8], detector: str) -> list[FoundBox]:
    """Boxes (x, y, width, height, score) of every face in an RGB image, largest first.

    Raises:
        ModelUnavailable: the detector's weights or library are missing.
    """
    model = build_model("face_detector", detector)
    boxes = [
        (int(face.x), int(face.y), int(face.w), int(face.h), float(face.confidence or 0.0))
        for face in model.detect_faces(np.ascontiguousarray(image[:, :, ::-1]))
        if face.w > 0 and face.h > 0
    ]
    return sorted(boxes, key=lambda box: box[2] * box[3], reverse=True)


def crop_face(face: DetectedFace, size: int = TARGET_SIZE) -> NDArray[np.uint8]:
    """The face with hair and chin: (size, size, 3) uint8 RGB.

    The box is grown by 0.4 of its height up and down and 0.5 of its width left and right; what lies outside the
    frame is filled by repeating the frame's edge, so that every face has the same place and scale.
    """
    import cv2

    left, right = face.x - GROW_WIDTH * face.width, face.x + (1 + GROW_WIDTH) * face.width
    top, bottom = face.y - GROW_HEIGHT * face.height, face.y + (1 + GROW_HEIGHT) * face.height
    side = max(right - left, bottom - top)
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    side = max(1, round(side))
    height, width = face.image.shape[:2]
    pad = max(0, -x, -y, x + side - width, y + side - height)
    padded: NDArray[Any] = (
        cv2.copyMakeBorder(face.image, pad, pad, pad, pad, cv2.BORDER_REPLICATE) if pad else face.image
    )
    square = padded[y + pad : y + pad + side, x + pad : x + pad + side]
    return resample_area(square, size)


def resample_area(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resample a square image: area averaging when shrinking, cubic when enlarging: (size, size, 3) uint8."""
    import cv2

    method = cv2.INTER_AREA if image.shape[0] >= size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), dtype=np.uint8)


def make_guide(target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image guide: the target averaged over areas to (8, 8, 3) uint8, in training and sampling alike.

    >>> make_guide(np.full((128, 128, 3), 7, np.uint8)).max()
    np.uint8(7)
    """
    return resample_area(target, GUIDE_SIZE)


def embed_face(image: NDArray[np.uint8], *, detector: str, model: str) -> NDArray[np.float32] | None:
    """Embedding of the largest face of an RGB image: (d,) float32, or None where no face is detected.

    Real and generated faces go through this one function, from the same 128×128 crop: detected in it, turned so that
    the eyes are level, cut out, embedded.

    Args:
        image: (h, w, 3) uint8 RGB.
        detector: DeepFace's name of a detector.
        model: DeepFace's name of a network, or `facenet-casia-20180408`.

    Raises:
        ModelUnavailable: weights or library of the detector or the model are missing.
    """
    build_model("face_detector", detector)
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    try:
        if model == facenet.NAME:
            return _embed_by_facenet(bgr, detector)
        build_model("facial_recognition", model)
        from deepface import DeepFace

        found = DeepFace.represent(
            bgr, model_name=model, detector_backend=detector, enforce_detection=True, align=True, max_faces=1
        )
    except ValueError as error:
        if "could not be detected" in str(error) or type(error).__name__ == "FaceNotDetected":
            return None
        raise
    return np.asarray(found[0]["embedding"], dtype=np.float32)


def _embed_by_facenet(bgr: NDArray[np.uint8], detector: str) -> NDArray[np.float32]:
    """As DeepFace does it for its own models, with a wider cut; its error where there is no face."""
    from deepface.modules import detection

    network = facenet.load()
    found = detection.extract_faces(
        bgr,
        detector_backend=detector,
        enforce_detection=True,
        align=True,
        expand_percentage=facenet.GROW_PERCENT,
        normalize_face=False,
        max_faces=1,
    )
    return network.embed(found[0]["face"])


def build_model(task: str, name: str) -> Any:
    """DeepFace's model of a task (`face_detector`, `facial_recognition`, `facial_attribute`), built once per process.

    Raises:
        ModelUnavailable: its weights or a library are missing.
    """
    try:
        from deepface.modules import modeling
    except ImportError as error:
        raise ModelUnavailable(f"DeepFace cannot be imported: {error}", hint="install the extra `extract`") from error
    try:
        return modeling.build_model(task=task, model_name=name)
    except Exception as error:
        folder = Path(os.environ.get("DEEPFACE_HOME", "~")) / ".deepface" / "weights"
        raise ModelUnavailable(
            f"DeepFace model {name} ({task}) cannot be loaded: {error}",
            hint=f"put its weights into {folder}, or choose another with SLF_FACE_DETECTOR / SLF_FACE_MODEL",
        ) from error


def _link_packaged_weights(folder: Path) -> None:
    """Make dlib's weights from the `face-recognition-models` package known to DeepFace, without a download."""
    packaged = packaged_dlib_weights()
    for name in ("shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"):
        target = folder / name
        if packaged is not None and not target.exists():
            temporary = folder / f".{name}.{os.getpid()}"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(packaged / name)
            temporary.replace(target)


def packaged_dlib_weights() -> Path | None:
    """Folder of the weights in the `face-recognition-models` package, found without importing it."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "models"
