"""The synthetic sample: what a user finds in the folder, and that real models can work with it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from slf_store.dataset.synthetic.person import CAUSES, FACE, VOICE, make_person
from slf_store.dataset.synthetic.tree import META, NOTE, SampleReport, write_sample
from slf_store.errors import DatasetError

SECONDS = 0.4


def small(root: Path, **changes: int | float) -> SampleReport:
    options: dict[str, int | float] = {"dev_identities": 2, "test_identities": 1, "videos": 2, "seconds": SECONDS}
    return write_sample(root, **(options | changes))  # type: ignore[arg-type]


def clips(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*.mp4"))


def decoded(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    with av.open(str(path)) as box:
        pictures = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in box.decode(video=0)]
    with av.open(str(path)) as box:
        sound = [np.asarray(frame.to_ndarray()[0], np.float32) for frame in box.decode(audio=0)]
    return np.stack(pictures), np.concatenate(sound)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "vox"
    small(root, clips=2)
    return root


def test_the_tree_has_the_official_layout(sample: Path) -> None:
    found = clips(sample)
    assert len(found) == 3 * 2 * 2
    for split, mp4, identity, video, clip in (path.parts for path in found):
        assert split in ("dev", "test")
        assert mp4 == "mp4"
        assert identity[:2] == "id"
        assert identity[2:].isdigit()
        assert len(identity) == 7
        assert len(video) == 11
        assert clip in ("00001.mp4", "00002.mp4")


def test_dev_and_test_share_no_identity_and_none_is_official(sample: Path) -> None:
    names = [{folder.name for folder in (sample / split / "mp4").iterdir()} for split in ("dev", "test")]
    assert not names[0] & names[1]
    assert min(names[0] | names[1]) > "id09272"  # the last official identity


def test_the_metadata_file_has_the_official_form(sample: Path) -> None:
    data = (sample / META).read_bytes()
    assert data.startswith(b"\xef\xbb\xbfVoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \r\n")
    rows = data.decode("utf-8-sig").split("\r\n")
    assert rows[-1] == ""
    people = {folder.name: folder.parts[-3] for folder in sample.glob("*/mp4/*")}
    assert len(rows) - 2 == len(people)
    for identity, face_id, gender, split, *rest in (row.split(",") for row in rows[1:-1]):
        assert not rest
        assert all(field.endswith(" ") for field in (identity, face_id, gender, split))
        assert face_id == f"n0{identity[2:]}"
        assert gender.strip() == make_person(0, int(identity[2:])).gender
        assert split.strip() == people[identity.strip()]


def test_clips_are_h264_and_16_khz_aac_and_say_they_are_synthetic(sample: Path) -> None:
    assert "No real person" in (sample / NOTE).read_text(encoding="utf-8")
    with av.open(str(sample / clips(sample)[0])) as box:
        video, audio = box.streams.video[0], box.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", 224, 224)
        assert (video.pix_fmt, float(video.average_rate or 0), video.frames) == ("yuv420p", 25.0, round(SECONDS * 25))
        assert (audio.codec_context.name, audio.rate, audio.layout.name) == ("aac", 16_000, "mono")
        assert "SYNTHETIC" in box.metadata["comment"]


def test_the_same_seed_gives_the_same_pictures_and_sound_whatever_the_workers(sample: Path, tmp_path: Path) -> None:
    small(tmp_path / "again", test_identities=0, dev_identities=1, workers=2)
    for path in clips(tmp_path / "again"):
        for first, second in zip(decoded(sample / path), decoded(tmp_path / "again" / path), strict=True):
            np.testing.assert_array_equal(first, second)


def test_another_seed_gives_other_people() -> None:
    assert make_person(0, 50_000).face != make_person(1, 50_000).face


def test_running_again_only_adds_what_is_missing(sample: Path) -> None:
    before = {path: (sample / path).stat().st_mtime_ns for path in clips(sample)}
    gone = clips(sample)[0]
    (sample / gone).unlink()
    seen: list[tuple[int, int]] = []
    report = write_sample(
        sample,
        dev_identities=2,
        test_identities=1,
        clips=2,
        seconds=SECONDS,
        progress=lambda done, total: seen.append((done, total)),
    )
    after = {path: (sample / path).stat().st_mtime_ns for path in clips(sample)}
    assert (report.identities, report.videos, report.clips) == (3, 6, 12)
    assert report.bytes == sum((sample / path).stat().st_size for path in after)
    assert seen[-1] == (12, 12)
    assert {path for path in after if after[path] != before[path]} == {gone}
    assert not list(sample.rglob("*.part"))


def test_a_larger_sample_contains_the_smaller_one(sample: Path, tmp_path: Path) -> None:
    small(tmp_path / "more", dev_identities=3, test_identities=0, videos=1)
    larger = {path for path in clips(tmp_path / "more") if path.parts[2] < "id50002"}
    assert len(larger) == 2
    assert larger < set(clips(sample))


def test_a_foreign_tree_is_never_written_to(tmp_path: Path) -> None:
    real = tmp_path / "dev" / "mp4" / "id00012" / "21Uxsk56VDQ" / "00001.mp4"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a real clip")
    with pytest.raises(DatasetError, match="not a synthetic sample"):
        small(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


@pytest.mark.parametrize("changes", [{"seed": 1}, {"seconds": 0.8}])
def test_a_sample_of_another_seed_or_length_is_not_mixed_in(sample: Path, changes: dict[str, int]) -> None:
    with pytest.raises(DatasetError, match="another seed or clip length"):
        small(sample, **changes)


@pytest.mark.parametrize(
    "changes", [{"videos": 0}, {"seconds": 0.0}, {"seed": -1}, {"workers": 0}, {"test_identities": 10_001}]
)
def test_impossible_samples_are_refused_before_anything_is_written(tmp_path: Path, changes: dict[str, int]) -> None:
    with pytest.raises(DatasetError):
        small(tmp_path / "none", **changes)
    assert not (tmp_path / "none").exists()


def test_videos_of_one_person_differ(sample: Path) -> None:
    folder = next((sample / "dev" / "mp4").iterdir())
    first, second = (decoded(path)[0][0].astype(int) for path in sorted(folder.glob("*/00001.mp4")))
    assert np.abs(first - second).mean() > 3


def test_one_face_is_detected_in_every_video(tmp_path: Path) -> None:
    dlib = pytest.importorskip("dlib")
    small(tmp_path / "s", dev_identities=6, test_identities=0, videos=1, seconds=0.2)
    detect = dlib.get_frontal_face_detector()
    assert [len(detect(decoded(tmp_path / "s" / path)[0][2], 1)) for path in clips(tmp_path / "s")] == [1] * 6


def test_every_cause_shows_in_the_face_and_sounds_in_the_voice() -> None:
    for cause in CAUSES:
        assert any(cause in weights for weights in FACE.values()), cause
        assert cause == "sex" or any(cause in weights for weights in VOICE.values()), cause  # sex sets pitch and tract


def test_the_voice_tells_much_of_the_face() -> None:
    people = [make_person(0, 50_000 + k) for k in range(600)]
    sex = np.array([[p.causes["sex"]] for p in people])
    voice = np.concatenate([np.array([list(p.voice.values()) for p in people]), sex], 1)
    face = np.array([list(p.face.values()) for p in people])
    weights, *_ = np.linalg.lstsq(voice[:400], face[:400], rcond=None)
    left = ((face[400:] - voice[400:] @ weights) ** 2).mean() / face[400:].var()
    assert 0.1 < left < 0.5
