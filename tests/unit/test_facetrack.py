"""Published face tracks: what is read, what is refused, where it is laid."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from slf_store.errors import DatasetError
from slf_store.media.facetrack import (
    MOST_BYTES,
    best_overlap,
    find_track,
    overlap,
    read_track,
    track_file,
)

DATA = Path(os.environ.get("SLF_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))

HEADER = (
    "Identity  : \tid00017\nReference : \t01dfn2spqyE\nOffset    : \t-1\n"
    "FV Conf   : \t20.061\t(1)\nASD Conf  : \t5.254\n\n"
)
COLUMNS = "FRAME \tX \tY \tW \tH \n"


def write(path: Path, rows: str, *, head: str = HEADER + COLUMNS) -> Path:
    path.write_text(head + rows)
    return path


def test_pixels_and_fractions(tmp_path: Path) -> None:
    pixels = read_track(write(tmp_path / "a.txt", "001493 \t138 \t90 \t108 \t109 \n001494 \t147 \t-3 \t102 \t103 \n"))
    assert pixels.header["Reference"] == "01dfn2spqyE"
    assert pixels.header["FV Conf"] == "20.061\t(1)"
    assert (pixels.frames, pixels.fractions) == ((1493, 1494), False)
    assert pixels.box(1, 2, 640, 360) == (147, -3, 102, 103)
    fractions = read_track(write(tmp_path / "b.txt", "000302 0.5 0.25 0.25 0.5\r\n000303 0 0 1 1\r\n"))
    assert fractions.fractions
    assert fractions.box(0, 2, 640, 360) == (320, 90, 160, 180)
    assert fractions.box(1, 2, 640, 360) == (0, 0, 640, 360)


def test_frame_i_of_a_clip_goes_with_line_i_of_its_track(tmp_path: Path) -> None:
    rows = "".join(f"{500 + i} {i} 0 10 10\n" for i in range(100))
    track = read_track(write(tmp_path / "a.txt", rows))
    assert [track.box(i, 100, 1, 1)[0] for i in range(100)] == list(range(100))
    assert [track.box(i, 120, 1, 1)[0] for i in (0, 60, 119)] == [0, 50, 99]  # the same clip at 30 fps
    assert [track.box(i, 0, 1, 1)[0] for i in (0, 7, 100_000)] == [0, 99, 99]  # a file that does not tell its length


def test_a_gap_in_a_track_shifts_nothing_after_it(tmp_path: Path) -> None:
    track = read_track(write(tmp_path / "a.txt", "10 0 0 9 9\n11 1 0 9 9\n18 8 0 9 9\n19 9 0 9 9\n"))
    assert [track.box(i, 10, 1, 1)[0] for i in range(10)] == [0, 1, 1, 1, 1, 1, 1, 1, 8, 9]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("", "no line with a box"),
        ("1 2 3 4\n", "line 8: 4 values instead of 5"),
        ("1 2 3 4 5\n2 3 4 5", "line 9: 4 values"),
        ("1 2 3 4 5 6\n", "line 8: 6 values"),
        ("1 x 3 4 5\n", "line 8: '1 x 3 4 5' are no numbers"),
        ("1.5 2 3 4 5\n", "line 8"),
        ("1 nan 3 4 5\n", "line 8: .* is no box"),
        ("1 2 3 inf 5\n", "line 8: .* is no box"),
        ("1 2 1e300 4 5\n", "line 8: .* is no box"),
        ("-1 2 3 4 5\n", "line 8: .* is no box"),
        ("9" * 5000 + " 2 3 4 5\n", "line 8"),
        ("1 2 3 0 5\n", "line 8: a box of no size"),
        ("1 2 3 4 -5\n", "line 8: a box of no size"),
        ("5 2 3 4 5\n5 2 3 4 5\n", "line 9: frame 5 comes after frame 5"),
        ("1 2 3 4 5\n2 0.2 0.3 0.4 0.5\n", "in pixels and in fractions"),
        ("1 2 3 4 5\nFRAME X Y W H\n", "line 9"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, rows: str, what: str) -> None:
    path = write(tmp_path / "00001.txt", rows)
    with pytest.raises(DatasetError, match=what) as caught:
        read_track(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no line FRAME X Y W H"),
        (HEADER.encode(), "no line FRAME X Y W H"),
        (b"\0\1\2\xff\xfe", "no text"),
        (b"<html>404</html>\n", "line 1: '<html>404</html>' is neither"),
        (b"1 2 3 4 5\n", "line 1"),
        (b"\n" * (MOST_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_track_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "00001.txt"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=what):
        read_track(path)


def test_any_bytes_are_a_track_or_an_error(tmp_path: Path) -> None:
    chance = random.Random(0)
    good = (HEADER + COLUMNS + "".join(f"{i} {i} 5 40 40\n" for i in range(20))).encode()
    path = tmp_path / "00001.txt"
    outcomes = set()
    for _ in range(500):
        start, end = sorted(chance.choices(range(len(good) + 1), k=2))
        damage = chance.choice([b"", chance.randbytes(3), b"-", b"\n", b"\t", b"1e9", "٣".encode()])
        path.write_bytes(good[:start] + damage + good[chance.choice([start, end]) :])
        try:
            outcomes.add(bool(read_track(path).boxes))
        except DatasetError:
            outcomes.add(False)
    assert outcomes == {True, False}


def test_a_folder_or_a_pipe_in_its_place_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("folder.txt", "pipe.txt"):
        with pytest.raises(DatasetError, match="is no file"):
            read_track(tmp_path / name)


def test_tracks_lie_beside_mp4_in_an_official_tree_only(tmp_path: Path) -> None:
    clip = tmp_path / "dev" / "mp4" / "id00017" / "01dfn2spqyE" / "00001.mp4"
    assert find_track(clip) is None
    path = track_file(clip)
    assert path == tmp_path / "dev" / "txt" / "id00017" / "01dfn2spqyE" / "00001.txt"
    path.parent.mkdir(parents=True)
    write(path, "1 2 3 4 5\n")
    assert find_track(clip) is not None
    assert track_file(tmp_path / "videos" / "id00017" / "x" / "00001.mp4") is None
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="cannot be read"):
        find_track(clip)


def test_overlap() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (20, 20, 10, 10)) == 0
    assert overlap((0, 0, 10, 10), (-5, -5, 10, 10)) == pytest.approx(25 / 175)
    faces = [(0.0, 0.0, 100.0, 100.0), (10.0, 10.0, 40.0, 40.0)]
    assert best_overlap((12, 12, 40, 40), faces) == 1
    assert best_overlap((0, 0, 90, 100), faces) == 0
    assert best_overlap((60, 60, 50, 50), faces) is None
    assert best_overlap((0, 0, 1, 1), []) is None


@pytest.mark.skipif(not (DATA / "tracks").is_dir(), reason=f"no real tracks at {DATA} (set SLF_TEST_DATA)")
def test_every_real_track_is_read() -> None:
    tracks = [read_track(path) for path in sorted((DATA / "tracks").rglob("*.txt"))]
    assert len(tracks) == 158
    assert {track.header["Identity"] for track in tracks} == {"id10270"}
    assert not any(track.fractions for track in tracks)
    assert all(track.frames == tuple(range(track.frames[0], track.frames[0] + len(track.boxes))) for track in tracks)
    assert min(len(track.boxes) for track in tracks) == 100
