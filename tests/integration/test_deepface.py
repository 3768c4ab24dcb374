"""DeepFace: our tables against the library, and its own networks, with random weights where theirs cannot be had.

Tests called `random_weights` prove how values travel, and nothing about how right they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import getsource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slf_store.constituents import deepface_models as models
from slf_store.constituents.deepface_attributes import DeepFaceAttributes
from slf_store.constituents.faces import FaceEmbedding
from slf_store.constituents.registry import extractors
from slf_store.constituents.weights import Weights
from slf_store.errors import ConfigError, ModelUnavailable
from slf_store.jobs.extract import LoadedExtractors, extract_chunk, plan
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.media import facenet
from slf_store.media.clip import ClipMedia, FaceChoice
from slf_store.media.face import deepface_engine
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

LABELS = {"asian", "indian", "black", "white", "middle eastern", "latino hispanic"}
PYTORCH = "deepface.models.facial_recognition.pytorch"
DEMOGRAPHY = "deepface.models.demography.pytorch"


@pytest.fixture(params=["pytorch", "onnx"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """DeepFace on each of its engines."""
    from deepface.commons import backend_utils
    from retinaface.commons import backend_utils as retinaface_backend

    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", request.param)
    for module in (backend_utils, retinaface_backend):
        monkeypatch.setattr(module, "_backend_engine", request.param)
    return str(request.param)


@pytest.fixture
def _no_models_kept() -> Iterator[None]:
    """DeepFace keeps every model it built: let those with random weights go."""
    from deepface.modules import modeling

    yield
    for kept in getattr(modeling, "cached_models", {}).values():
        kept.clear()


class Wanted(Exception):
    """The library asked for a file."""


def wanted_files(monkeypatch: pytest.MonkeyPatch, build: Callable[[], Any]) -> dict[str, str]:
    """{file: address} that DeepFace asks for when it builds a model; nothing is downloaded or computed."""
    import torch
    from deepface.commons import weight_utils
    from retinaface.commons import weight_utils as retinaface_weights

    asked: dict[str, str] = {}

    def ask(file_name: str, source_url: Any = None, compress_type: Any = None, source_urls: Any = None) -> str:
        urls = source_urls or source_url
        asked[file_name] = urls if isinstance(urls, str) else urls[0]
        if file_name == "deploy.prototxt":
            return file_name
        raise Wanted

    for module in (weight_utils, retinaface_weights):
        monkeypatch.setattr(module, "download_weights_if_necessary", ask)
    with torch.device("meta"), pytest.raises(Wanted):
        build()
    return asked


def declared(weights: tuple[Weights, ...]) -> dict[str, str]:
    return {name: one.source_of(name) for one in weights if one.package is None for name in one.files}


def test_every_model_and_detector_of_the_library_is_in_our_tables() -> None:
    from deepface.modules.modeling import AVAILABLE_MODELS

    assert set(models.EMBEDDINGS) == {*AVAILABLE_MODELS["facial_recognition"], facenet.NAME}
    assert set(models.DETECTORS) == set(AVAILABLE_MODELS["face_detector"])
    assert set(models.ATTRIBUTES) == set(AVAILABLE_MODELS["facial_attribute"]) - {"Emotion"}


def test_vectors_are_as_long_as_the_library_says(engine: str) -> None:
    from deepface.modules.modeling import get_model_class

    for name, (dimension, _) in models.EMBEDDINGS.items():
        if name != facenet.NAME:
            source = getsource(get_model_class("facial_recognition", name).__init__)
            assert re.findall(r"output_shape = (\d+)", source) == [str(dimension)], name


def test_files_and_addresses_are_those_the_library_asks_for(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepface.models.face_detection.CenterFace import CenterFaceClient
    from deepface.modules.modeling import get_model_class

    packaged = {"Dlib", "Buffalo_L", facenet.NAME}
    for name, (_, files) in models.EMBEDDINGS.items():
        if name not in packaged:
            client = get_model_class("facial_recognition", name)
            assert declared(files()) == wanted_files(monkeypatch, client), name
    for name, files in models.ATTRIBUTES.items():
        assert declared(files()) == wanted_files(monkeypatch, get_model_class("facial_attribute", name)), name
    retinaface = import_module(f"retinaface.model.retinaface_{'pth' if engine == 'pytorch' else 'onnx'}_model")
    detectors = {
        "retinaface": retinaface.build_model,
        "ssd": get_model_class("face_detector", "ssd"),
        "yunet": get_model_class("face_detector", "yunet"),
        "centerface": CenterFaceClient().build_model,
    }
    for name, build in detectors.items():
        assert declared(models.DETECTORS[name]()) == wanted_files(monkeypatch, build), name


def test_files_of_detectors_whose_library_is_not_installed() -> None:
    from deepface.models.face_detection.Yolo import YoloModel
    from deepface.models.facial_recognition.onnx import Buffalo_L

    yolo = {name.replace("yolov", "V").upper(): files for name, files in models.DETECTORS.items() if "yolo" in name}
    assert {name: declared(files()) for name, files in yolo.items()} == {
        model.name: {model.file_name: model.url} for model in YoloModel
    }
    ((file, address),) = declared(models.EMBEDDINGS["Buffalo_L"][1]()).items()
    source = getsource(Buffalo_L)
    assert all(f'"{part}"' in source for part in file.split("/"))
    (drive_id,) = re.findall(r"id=([\w-]+)", address)
    assert drive_id in source


def test_what_ships_in_installed_packages_is_there(tmp_path: Path) -> None:
    for files in (models.EMBEDDINGS["Dlib"][1], models.DETECTORS["dlib"], models.DETECTORS["opencv"]):
        for weights in files():
            size = sum(path.stat().st_size for path in weights.paths(tmp_path)) / 1e6
            assert size == pytest.approx(weights.megabytes, rel=0.1, abs=0.1), weights.model


def test_sizes_are_those_of_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes as announced before a download: the bytes of the library's own networks' parameters."""
    import torch

    networks = {
        "VGG-Face": (f"{PYTORCH}.VGGFace", "base_model"),
        "ArcFace": (f"{PYTORCH}.ArcFace", "base_model"),
        "DeepID": (f"{PYTORCH}.DeepID", "DeepIdNet"),
        "DeepFace": (f"{PYTORCH}.FbDeepFace", "DeepFaceNet"),
        "Age": (f"{DEMOGRAPHY}.Age", "base_model"),
        "Race": (f"{DEMOGRAPHY}.Race", "base_model"),
    }
    for name, (module, maker) in networks.items():
        with torch.device("meta"):
            state = getattr(import_module(module), maker)().state_dict()
        megabytes = sum(value.numel() * value.element_size() for value in state.values()) / 1e6
        files = models.ATTRIBUTES[name] if name in models.ATTRIBUTES else models.EMBEDDINGS[name][1]
        assert files()[0].megabytes == pytest.approx(megabytes, rel=0.03), name


def test_an_engine_that_is_not_supported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "tensorflow")
    with pytest.raises(ConfigError, match="pytorch or onnx"):
        deepface_engine()
    monkeypatch.delenv("DEEPFACE_BACKEND_ENGINE")
    assert deepface_engine() == "pytorch"


def test_deepface_attributes_are_made_by_the_hub_profile_only() -> None:
    names = {profile: [e.name for e in extractors(Settings(profile=profile))] for profile in ("offline", "hub")}
    assert "deepface_attributes" in names["hub"]
    assert "age_gender" not in names["hub"]
    assert "deepface_attributes" not in names["offline"]


@pytest.mark.parametrize("name", ["deepface_attributes", "face_vgg_face", "face_sface"])
def test_missing_weights_are_one_error_with_the_next_step_and_nothing_is_downloaded(
    store: Store, sample: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("deepface.commons.weight_utils.download_weights_if_necessary", pytest.fail)
    store.settings.face_models = ("VGG-Face", "SFace")
    ingest(store, sample / "test")
    folder = store.settings.models / ".deepface" / "weights"
    with pytest.raises(ModelUnavailable, match=r"weights of .* are not in .* missing") as caught:
        extract(store, [name])
    assert str(folder) in str(caught.value)
    assert "slf models --download" in str(caught.value)
    extractor = next(e for e in extractors(store.settings, [name]))
    with pytest.raises(ModelUnavailable, match=r"weights of .* are not in .* missing"):
        extractor.load()


def test_a_detector_without_weights_stops_everything_made_from_the_face(store: Store, sample: Path) -> None:
    ingest(store, sample / "test")
    store.settings.face_detector = "yunet"
    with pytest.raises(ModelUnavailable, match=r"YuNet.*face_detection_yunet_2023mar\.onnx"):
        extract(store, ["image_guide"])


def save_random_weights(folder: Path, module: str, maker: str, seed: int) -> Path:
    """A file as the library publishes it, for its own network, with random numbers in it.

    Large parameters are one random number for each output, spread over its inputs: the file stays small. The last
    layer is so strong that the answer follows from the picture.
    """
    import torch

    with torch.device("meta"):
        network = getattr(import_module(f"{DEMOGRAPHY}.{module}"), maker)()
    drawn = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in network.state_dict().items():
        if value.ndim == 1:
            state[name] = torch.zeros(value.shape)
            continue
        large = value.numel() > 100_000
        shape = (value.shape[0], *[1] * (value.ndim - 1)) if large else value.shape
        strength = 1e5 if name == "predictions.weight" else 2.5
        state[name] = (strength * torch.randn(shape, generator=drawn) / value[0].numel()).expand(value.shape)
    file = {"Age": "age_model_weights", "Gender": "gender_model_weights", "Race": "race_model_single_batch"}[module]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / f"{file}.pth")
    return folder / f"{file}.pth"


def save_attribute_weights(home: Settings, seed: int = 0) -> list[Path]:
    folder = home.models / ".deepface" / "weights"
    return [save_random_weights(folder, name, "base_model", seed + i) for i, name in enumerate(models.ATTRIBUTES)]


@pytest.mark.usefixtures("_no_models_kept")
def test_random_weights_attributes_of_the_library_s_own_networks(
    store: Store, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sources of age and gender stand side by side; labels, scores and the target's way into the networks."""
    monkeypatch.setattr("deepface.commons.weight_utils.gdown.download", pytest.fail)
    files = save_attribute_weights(store.settings)
    ingest(store, sample / "test")
    names = ["age_gender", "deepface_attributes"]
    plan(store, names)
    loaded = LoadedExtractors(store, names)
    done = 0
    while (report := extract_chunk(store, loaded, clips=2)).clips:
        assert report.reasons == {}
        done += report.done["deepface_attributes"]
        if done >= 2:
            break
    rows = store.query("SELECT clip_id, name, source, value_text, value_number, score FROM attribute ORDER BY 1, 2, 3")
    by_clip = {clip: [row for row in rows if row["clip_id"] == clip] for clip in {row["clip_id"] for row in rows}}
    assert len(by_clip) == 2
    for clip, found in by_clip.items():
        assert [(row["name"], row["source"]) for row in found] == [
            ("age", "age_gender"),
            ("age", "deepface_attributes"),
            ("ethnicity", "deepface_attributes"),
            ("gender", "age_gender"),
            ("gender", "deepface_attributes"),
        ]
        age, ethnicity, gender = found[1], found[2], found[4]
        assert 0 <= age["value_number"] <= 100
        assert (age["value_number"] % 1, age["score"], age["value_text"]) == (0, None, None)
        assert ethnicity["value_text"] in LABELS
        assert 1 / 6 < ethnicity["score"] <= 1
        assert gender["value_text"] in ("f", "m")
        assert 0.5 <= gender["score"] <= 1
        labels, numbers = expected(store, clip)
        assert labels == (gender["value_text"], ethnicity["value_text"])
        assert numbers == pytest.approx((age["value_number"], gender["score"], ethnicity["score"]), rel=1e-4)
    first = DeepFaceAttributes(store.settings).spec
    assert {path.name for path in files} <= set(first.weights)
    assert len(first.weights) == 4
    save_random_weights(files[0].parent, "Age", "base_model", 99)
    assert DeepFaceAttributes(store.settings).spec.version != first.version


def expected(store: Store, clip_id: int) -> tuple[tuple[str, str], tuple[float, ...]]:
    """The same by the library's networks alone: the target in BGR, 0 to 1, enlarged to 224 pixels."""
    import cv2
    from deepface.models.demography.DemographyUtils import GENDER_LABELS, RACE_LABELS
    from deepface.modules.modeling import build_model

    clip = store.query(
        "SELECT identity || '/' || video || '/' || clip AS key, path, frames FROM clips WHERE clip_id = :id", id=clip_id
    )[0]
    root = Path(store.query("SELECT root FROM source")[0]["root"])
    target = ClipMedia(clip_id, clip["key"], root / clip["path"], clip["frames"]).target(FaceChoice())
    pixels = cv2.resize(target[:, :, ::-1] / 255, (224, 224)).astype(np.float32)
    age, gender, race = (build_model("facial_attribute", name).predict(pixels) for name in ("Age", "Gender", "Race"))
    label = {"Woman": "f", "Man": "m"}[GENDER_LABELS[int(gender.argmax())]]
    labels = label, RACE_LABELS[int(race.argmax())]
    return labels, (int(age), float(gender.max()), float(race.max()))


@pytest.mark.usefixtures("_no_models_kept")
def test_damaged_attribute_weights_are_named(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for path in save_attribute_weights(settings):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelUnavailable, match=r"Age.*age_model_weights\.pth"):
        DeepFaceAttributes(settings).load()


@pytest.mark.usefixtures("_no_models_kept")
def test_random_weights_deepid_goes_into_pgvector_beside_dlib(store: Store, sample: Path) -> None:
    """One of DeepFace's own networks through its own file format, by setting alone."""
    import torch
    from deepface.models.facial_recognition.pytorch.DeepID import DeepIdNet

    torch.manual_seed(0)
    folder = store.settings.models / ".deepface" / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(DeepIdNet().state_dict(), folder / "deepid_weights.pth")
    store.settings.face_models = ("DeepID",)
    ingest(store, sample / "test")
    names = ["face_dlib", "face_deepid"]
    plan(store, names)
    loaded = LoadedExtractors(store, names)
    while extract_chunk(store, loaded).clips:
        pass
    rows = store.query("""
        SELECT name, vector_dims(vector) AS dims, count(*) AS faces FROM face_embedding
        JOIN constituent ON constituent.id = constituent_id GROUP BY 1, 2 ORDER BY 1
    """)
    clips = store.query("SELECT count(*) AS n FROM clips")[0]["n"]
    assert [(row["name"], row["dims"], row["faces"]) for row in rows] == [
        ("face_deepid", 160, clips),
        ("face_dlib", 128, clips),
    ]
    assert set(FaceEmbedding(store.settings, model="DeepID").spec.weights) == {
        "models/shape_predictor_5_face_landmarks.dat",
        "deepid_weights.pth",
    }
