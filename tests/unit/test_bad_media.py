"""Odd and broken media files: the right value, or one reason. What is odd in sound alone is in test_bad_sound.py."""

from __future__ import annotations

import ast
import os
import random
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from slf_store.errors import ClipError
from slf_store.media import frames as frames_module
from slf_store.media.clip import ClipMedia
from slf_store.media.frames import choose_frames, iterate_frames, read_frames
from slf_store.media.probe import probe_file
from slf_store.media.speech import SPEECH_SAMPLES, read_speech

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SLF_TEST_DATA", ROOT.parent / "shared" / "data"))
READERS: list[Callable[[Path], object]] = [probe_file, read_speech, lambda path: read_frames(path, [0])]
KEYS = "keyint=30:bframes=3"


def reasons(path: Path) -> list[str]:
    """What probing, sound and pictures say of a file."""
    found = []
    for read in READERS:
        try:
            read(path)
            found.append("ok")
        except ClipError as error:
            found.append(error.code if path.name in error.what else f"{error.code}, of no named file")
    return found


def peak_mb(code: str, path: Path) -> float:
    """Most memory that a process of its own holds for some reading, MB."""
    script = (
        "import pathlib, re, sys\n"
        "from slf_store.errors import ClipError\n"
        "from slf_store.media.frames import read_frames\n"
        "from slf_store.media.probe import probe_file\n"
        "from slf_store.media.speech import read_speech\n"
        "path = pathlib.Path(sys.argv[1])\n"
        f"try:\n    {code}\nexcept ClipError as error:\n    print(error.code, file=sys.stderr)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])"
    )
    return float(subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=True).stdout) / 1024


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with every frame that is decoded from the start of a file."""
    decoded: list[int] = []
    decode = frames_module.decode

    def counted(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        for frame in decode(container, stream):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(frames_module, "decode", counted)
    return decoded


def noise(index: int) -> NDArray[np.uint8]:
    """Pictures that are all different, with more in them than one grey."""
    generator = np.random.default_rng(index // 10)
    return (generator.integers(0, 128, (64, 64, 3)) + index % 10 * 12).astype(np.uint8)


# --- what is not a clip at all -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "this is no video\n" * 50,
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ngood.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile good.mp4\n",
        "v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    ],
    ids=["prose", "HLS play list", "ffconcat", "SDP", "subtitles"],
)
def test_text_called_mp4_opens_no_other_file(tmp_path: Path, media_files: ModuleType, text: str) -> None:
    media_files.write_clip(tmp_path / "good.mp4", sound=media_files.tone(1, 16000))
    (tmp_path / "text.mp4").write_text(text)
    assert reasons(tmp_path / "text.mp4") == ["unreadable"] * 3


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "nowhere.mp4").symlink_to("gone.mp4")
    for name in ("folder", "pipe", "loop", "nowhere", "missing"):
        assert reasons(tmp_path / f"{name}.mp4") == ["not_a_file"] * 3
    assert reasons(tmp_path / "empty.mp4") == ["empty_file"] * 3


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        'it\'s "quoted".mp4',
        "new\nline.mp4",
        "-i.mp4",
        "_x.mp4",
        "%03d.mp4",
        "file:a.mp4",
        "concat:a|b.mp4",
        "http:x.mp4",
        "back\\slash.mp4",
        "naïve 🎞.mp4",
        os.fsdecode(b"caf\xe9.mp4"),
    ],
)
def test_no_name_is_taken_for_anything_but_a_name(
    tmp_path: Path, media_files: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = media_files.write_clip(tmp_path / "made.mp4", sound=media_files.tone(1, 16000))
    made.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        assert (probe_file(path).frames, read_speech(path).size) == (25, 16384)
        assert media_files.index_of(read_frames(path, [7])[7]) == 7


def test_cover_art_is_no_video(tmp_path: Path, media_files: ModuleType) -> None:
    song = media_files.write_song(tmp_path / "song.mp4", frames=0)
    assert reasons(song) == ["no_video", "ok", "no_video"]
    film = media_files.write_song(tmp_path / "film.mp4", frames=10)
    assert probe_file(film).frames == 10
    assert media_files.index_of(read_frames(film, [4])[4]) == 4
    sound = media_files.write_sound(tmp_path / "b.mp4", media_files.tone(1, 16000), 16000, "mono", "aac")
    assert reasons(sound) == ["no_video", "ok", "no_video"]


# --- what is damaged -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mov", {}),
        ("a.mkv", {}),
        ("a.avi", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("movflags", "plain"),
)
def test_a_file_cut_off_is_not_taken_for_a_whole_one(
    tmp_path: Path, media_files: ModuleType, name: str, options: dict[str, str], share: float
) -> None:
    path = media_files.write_clip(
        tmp_path / name, frames=100, sound=media_files.tone(4, 16000), container_options=options
    )
    assert reasons(path) == ["ok"] * 3
    assert reasons(media_files.cut(path, share))[0] == "truncated"


def test_a_stream_without_a_stated_end_is_used_as_far_as_it_goes(tmp_path: Path, media_files: ModuleType) -> None:
    path = media_files.write_clip(tmp_path / "a.ts", frames=100, sound=media_files.tone(4, 16000))
    whole, before = probe_file(path), read_frames(path, range(20))
    assert (whole.frames, whole.fps, whole.duration_s) == (100, pytest.approx(25), pytest.approx(4, abs=0.1))
    media_files.cut(path, 0.5)
    half = probe_file(path)
    after = read_frames(path, [*range(20), half.frames - 1, 99])
    assert 40 < half.frames < 60
    assert half.duration_s == pytest.approx(half.frames / 25, abs=0.15)
    assert half.fps == pytest.approx(25)
    assert all(np.array_equal(before[index], after[index]) for index in before)
    assert np.array_equal(after[99], after[half.frames - 1])
    assert read_speech(path).size == pytest.approx(half.frames * 640, abs=5000)


def test_what_follows_a_whole_file_does_not_matter(tmp_path: Path, media_files: ModuleType) -> None:
    for junk in (bytes(5000), b"\xff" * 5000, b"some text\n" * 500):
        path = media_files.write_clip(tmp_path / "a.mp4", sound=media_files.tone(1, 16000))
        path.write_bytes(path.read_bytes() + junk)
        assert reasons(path) == ["ok"] * 3


@pytest.mark.parametrize("atom", ["mvhd", "mdhd", "tkhd"])
@pytest.mark.parametrize("ticks", [0, 1, 2**31 - 1])
def test_a_wrong_duration_is_not_believed(tmp_path: Path, media_files: ModuleType, atom: str, ticks: int) -> None:
    path = media_files.write_clip(tmp_path / "a.mp4", sound=media_files.tone(1, 16000))
    content, offset = path.read_bytes(), 20 if atom != "tkhd" else 24
    for found in re.finditer(atom.encode(), content):
        at = found.start() + offset
        content = content[:at] + struct.pack(">I", ticks) + content[at + 4 :]
    path.write_bytes(content)
    probe = probe_file(path)
    assert (probe.frames, probe.fps, probe.duration_s) == (25, 25, pytest.approx(1, abs=0.1))


@pytest.mark.parametrize("stated", [1000, 2**31 - 1])
def test_a_wrong_number_of_frames_is_not_believed(tmp_path: Path, media_files: ModuleType, stated: int) -> None:
    path = media_files.write_clip(tmp_path / "a.avi", sound=media_files.tone(1, 16000))
    content = path.read_bytes()
    at = content.index(b"vids") + 32  # length in the stream's header
    path.write_bytes(content[:at] + struct.pack("<I", stated) + content[at + 4 :])
    assert (probe_file(path).frames, probe_file(path).duration_s) == (25, pytest.approx(1, abs=0.1))
    path = media_files.write_clip(tmp_path / "c.mp4", sound=media_files.tone(1, 16000))
    content = path.read_bytes()
    at = content.index(b"stts") + 12  # frames of the first duration
    path.write_bytes(content[:at] + struct.pack(">I", stated * 2) + content[at + 4 :])
    assert probe_file(path).frames in (25, 2000)  # 2000 could be: the file has more bytes
    path = media_files.write_clip(tmp_path / "b.mkv", sound=media_files.tone(1, 16000))
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # duration, ms
    path.write_bytes(content[:at] + struct.pack(">d", 1000.0 * stated) + content[at + 8 :])
    assert (probe_file(path).frames, probe_file(path).duration_s) == (25, pytest.approx(1, abs=0.1))


def test_frames_are_chosen_in_little_memory_whatever_number_is_stated() -> None:
    start = time.perf_counter()
    chosen = choose_frames("seeded", key="a/b/c", frames=2**31 - 1, seed=0, candidates=3)
    assert time.perf_counter() - start < 2
    assert len(set(chosen)) == 3
    assert max(chosen) < 2_000_000


def test_damaged_bytes_give_a_value_or_a_reason_never_another_error(tmp_path: Path, media_files: ModuleType) -> None:
    chance, path = random.Random(0), tmp_path / "damaged"
    for name, options in (("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.ts", {}), ("a.avi", {})):
        sound = media_files.tone(1.2, 16000)
        whole = media_files.write_clip(tmp_path / name, sound=sound, layout="stereo", container_options=options)
        content = whole.read_bytes()
        header = content.find(b"moov") if b"moov" in content else 0
        for _ in range(40):
            damaged = bytearray(content)
            for _ in range(chance.choice((1, 5, 50))):
                at = chance.randrange(header, len(content) if chance.random() < 0.5 else header + 2000)
                damaged[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), chance.randbytes(4), b""))
            path.write_bytes(damaged)
            if reasons(path)[0] == "ok":
                probe = probe_file(path)
                assert 0 < probe.frames < 2**31
                assert min(probe.duration_s, probe.fps) > 0


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_frames_index_counts_pictures_not_time(tmp_path: Path, media_files: ModuleType, name: str) -> None:
    times = [0, 40, 60, 500, 520, 1000, 1400, 1410, 1420, 3000]
    path = media_files.write_clip(tmp_path / name, frames=10, times_ms=times, sound=media_files.tone(3, 16000))
    found = read_frames(path, [*range(10), 50])
    assert [media_files.index_of(picture) for picture in found.values()] == [*range(10), 9]
    probe = probe_file(path)
    assert (probe.frames, probe.fps) == (10, pytest.approx(3.2, rel=0.1))
    assert probe.duration_s == pytest.approx(3.1, abs=0.3)


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),  # as stored
        (0, 1, -1, 0),  # turned clockwise by 90°
        (-1, 0, 0, -1),  # 180°
        (0, -1, 1, 0),  # 270°
        (-1, 0, 0, 1),  # mirrored: left and right
        (1, 0, 0, -1),  # upside down
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_a_turned_video_gives_upright_frames(
    tmp_path: Path, media_files: ModuleType, matrix: tuple[int, int, int, int]
) -> None:
    a, b, c, d = matrix
    corners = {(-1, -1): (250, 0, 0), (1, -1): (0, 250, 0), (-1, 1): (0, 0, 250), (1, 1): (250, 250, 250)}
    stored = np.zeros((64, 96, 3), np.uint8)
    for (x, y), colour in corners.items():
        stored[32 * (y > 0) :, 48 * (x > 0) :][:32, :48] = colour
    path = media_files.write_clip(tmp_path / "a.mp4", frames=3, picture=lambda _: stored)
    shown = read_frames(media_files.turn(path, a, b, c, d), [1])[1]
    height, width = shown.shape[:2]
    assert (height, width) == ((64, 96) if a else (96, 64))
    for (x, y), colour in corners.items():
        right, down = a * x + c * y, b * x + d * y
        found = shown[height // 4 * (2 + down), width // 4 * (2 + right)]
        assert np.abs(found.astype(int) - colour).max() < 40
    assert (probe_file(path).width, probe_file(path).height) == (96, 64)


def test_portrait_4k_is_read_in_bounded_memory(tmp_path: Path, media_files: ModuleType) -> None:
    path = media_files.write_clip(tmp_path / "a.mp4", frames=6, picture=lambda i: media_files.grey(i, 2160, 3840))
    probe = probe_file(path)
    assert (probe.width, probe.height) == (2160, 3840)
    found = read_frames(path, [5, 1])
    assert found[5].shape == (3840, 2160, 3)
    assert [media_files.index_of(picture) for picture in found.values()] == [5, 1]
    assert peak_mb("read_frames(path, [4, 2, 0])", path) < 400


def test_a_frame_beyond_8k_is_refused_before_it_takes_memory(tmp_path: Path, media_files: ModuleType) -> None:
    path = media_files.write_bomb(tmp_path / "bomb.mp4", 15000)
    assert reasons(path) == ["too_large", "no_audio", "too_large"]
    later = media_files.write_bomb(tmp_path / "later.mkv", 15000, good_frames=5)
    assert probe_file(later).width == 64
    assert read_frames(later, [0, 7])[7].shape == (64, 64, 3)
    for bomb in (path, later):
        for code in ("probe_file(path)", "read_frames(path, [0, 7])"):
            assert peak_mb(code, bomb) < 150  # one such frame takes 215 MB, in RGB 645 MB


# --- long clips, and which frames are decoded ----------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_three_hours_cost_no_more_than_what_is_asked_for(
    tmp_path: Path, media_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media_files.write_long(tmp_path / "a.mp4", 3 * 3600)
    start = time.perf_counter()
    probe = probe_file(path)
    assert (probe.frames, probe.fps, probe.audio_rate) == (270_000, pytest.approx(25), 8000)
    assert probe.duration_s == pytest.approx(10_800, abs=20)
    assert read_speech(path).shape == (SPEECH_SAMPLES,)
    assert time.perf_counter() - start < 1
    clip = ClipMedia(1, "a/b/c", path, probe.frames)
    assert clip.speech.shape == (SPEECH_SAMPLES,)
    decoded = count_decoded(monkeypatch)
    start = time.perf_counter()
    asked = [269_990, 403, 12]
    assert [media_files.index_of(picture) for picture in read_frames(path, asked).values()] == [15, 3, 12]
    assert len(decoded) == 13  # up to the last; the others were sought
    assert time.perf_counter() - start < 15  # 1 s on an idle core
    assert peak_mb("read_speech(path); read_frames(path, [269_990])", path) < 250
    path.unlink()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize("keys", [KEYS, KEYS + ":open-gop=1", "keyint=40:intra-refresh=1", "keyint=infinite"])
def test_a_frame_sought_is_the_frame_counted(
    tmp_path: Path, media_files: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, keys: str
) -> None:
    options = {"preset": "medium", "crf": "24", "x264-params": keys}
    path = media_files.write_clip(tmp_path / name, frames=110, picture=noise, video_options=options)
    compare(path, [*range(0, 109, 6), 109, 200], monkeypatch)


def test_a_frame_sought_is_the_frame_counted_where_the_beginning_is_missing(
    tmp_path: Path, media_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"preset": "medium", "crf": "24", "x264-params": KEYS}
    path = media_files.write_clip(tmp_path / "a.ts", frames=110, picture=noise, video_options=options)
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 5 // 188 * 188 :])
    compare(path, [*range(0, 88, 6), 200], monkeypatch)


def test_a_frame_sought_is_the_frame_counted_in_real_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [path for kind in ("voxmini", "voxreal") for path in sorted((DATA / kind).rglob("*.mp4"))[:200:50]]
    if not clips:
        pytest.skip(f"no real data at {DATA / 'voxmini'} (set SLF_TEST_DATA)")
    for path in clips:
        compare(path, [140, 9, 31, 77, 500], monkeypatch)


def compare(path: Path, indices: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames decoded from the start, and each sought on its own, are the same."""
    monkeypatch.setattr(frames_module, "FAR", 10**9)
    counted = read_frames(path, indices)
    monkeypatch.setattr(frames_module, "FAR", 0)
    sought = read_frames(path, indices)
    assert list(sought) == list(counted) == indices
    for index in indices:
        assert np.array_equal(sought[index], counted[index]), f"{path.name}: frame {index}"


def test_no_more_is_decoded_than_the_frame_needs(
    tmp_path: Path, media_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media_files.write_clip(tmp_path / "a.mp4", frames=100)
    decoded = count_decoded(monkeypatch)
    found = iterate_frames(path, [20, 5, 90])
    for index, as_far_as in ((20, 21), (5, 21), (90, 91)):
        assert media_files.index_of(next(found)[1]) == index % media_files.GREYS
        assert len(decoded) == as_far_as


# --- reasons -------------------------------------------------------------------------------------------------------


def test_every_reason_is_explained_once() -> None:
    raised = set()
    for path in (ROOT / "slf_store").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ClipError":
                if isinstance(node.args[0], ast.Attribute) and node.args[0].attr == "code":
                    continue  # the reason of another error, told with another hint
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}: a reason is a plain word"
                raised.add(node.args[0].value)
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "reasons.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(raised | {"unexpected"})
