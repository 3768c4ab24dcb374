"""Speech, frames, crops, probing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slf_store.errors import ClipError
from slf_store.media.clip import ClipMedia
from slf_store.media.face import DetectedFace, crop_face, make_guide
from slf_store.media.frames import choose_frames, read_frames
from slf_store.media.probe import probe_file
from slf_store.media.speech import SPEECH_SAMPLES, fit_length


def test_speech_is_replayed_to_24_s() -> None:
    short = np.arange(5, dtype=np.float32)
    replayed = fit_length(short)
    assert replayed.size == SPEECH_SAMPLES
    assert replayed[:12].tolist() == [0, 1, 2, 3, 4] * 2 + [0, 1]


def test_frames_are_found_by_index_and_the_last_stands_in(tmp_path: Path, media_files: ModuleType) -> None:
    path = media_files.write_clip(tmp_path / "v.mp4", frames=12)
    found = read_frames(path, [0, 5, 11, 99])
    assert [media_files.index_of(found[i]) for i in (0, 5, 11, 99)] == [0, 5, 11, 11]
    assert probe_file(path).frames == 12


def test_frame_choice_is_seeded_by_the_clip_alone() -> None:
    chosen = {
        key: choose_frames("seeded", key=key, frames=100, seed=0, candidates=3)
        for key in ("id1/v/1", "id1/v/2", "id2/v/1")
    }
    assert len({tuple(c) for c in chosen.values()}) == 3
    assert choose_frames("seeded", key="id1/v/1", frames=100, seed=1, candidates=3) != chosen["id1/v/1"]
    assert choose_frames("fixed", key="id1/v/1", frames=100, seed=0, candidates=3)[0] == 9
    assert choose_frames("fixed", key="x", frames=4, seed=0, candidates=1) == [3]


def test_the_crop_is_square_centred_and_stays_inside_by_repeating_edges() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:120, 130:170] = 255
    inside = crop_face(DetectedFace(0, 130, 80, 40, 40, 1.0, 1, image))
    assert inside.shape == (128, 128, 3)
    white = np.argwhere(inside[:, :, 0] > 127)
    assert np.abs(white.mean(0) - 63.5).max() < 2
    assert abs(len(white) ** 0.5 - 64) < 3
    corner = crop_face(DetectedFace(0, -10, -10, 60, 60, 1.0, 1, np.full((50, 50, 3), 9, np.uint8)))
    assert corner.shape == (128, 128, 3)
    assert corner.min() == corner.max() == 9


def test_the_guide_is_the_area_mean() -> None:
    target = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    expected = target.reshape(8, 16, 8, 16, 3).mean((1, 3))
    assert np.abs(make_guide(target) - expected).max() <= 0.51


def test_a_failure_is_remembered_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("text")
    clip = ClipMedia(1, "k", tmp_path / "x.mp4", 10)
    with pytest.raises(ClipError) as first:
        _ = clip.speech
    with pytest.raises(ClipError) as second:
        _ = clip.speech
    assert first.value is second.value
