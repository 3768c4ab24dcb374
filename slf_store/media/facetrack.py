"""Published face tracks: VoxCeleb's `txt/<identity>/<video>/<clip>.txt` beside `mp4/<identity>/<video>/<clip>.mp4`.

A file has header lines (`Identity`, `Reference`, `Offset`, `FV Conf`, `ASD Conf`), then `FRAME X Y W H` and one line
for each frame: its number in the original video at 25 fps, and the box of the talking face. VoxCeleb1 gives boxes in
pixels of the original video, VoxCeleb2 as fractions of its width and height.

How a track is laid over a clip:

- Time. VoxCeleb cuts a clip where its track begins and ends, so both cover the same time: frame i of n goes with what
  the track says at i/n of its length. At 25 fps that is line i. `Offset` shifts sound against pictures and is not used.
- Place. Fractions are multiplied by the clip's own width and height; pixels are taken as they are. Both are right for
  clips cut in time only. Where the clip was cropped or scaled as well (VoxCeleb2 releases 224×224 crops) the file does
  not say how: the boxes are out of place, hardly ever overlap a detected face by enough, and are not used.
"""

from __future__ import annotations

import math
import stat
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slf_store.errors import DatasetError

Box = tuple[float, float, float, float]
"""x, y, width, height."""

LEAST_OVERLAP = 0.3
"""Intersection over union from which a detected face is the track's."""
MOST_BYTES = 8_000_000
"""A track of an hour has 3 MB; a larger file is none."""
_MOST = 100_000.0
"""No video has so many pixels in a row."""
_COLUMNS = ["FRAME", "X", "Y", "W", "H"]


@dataclass(frozen=True)
class FaceTrack:
    """The face of a clip, frame by frame.

    Attributes:
        header: the lines above the table, as read.
        frames: numbers in the original video at 25 fps, rising.
        boxes: one for each of them.
        fractions: boxes are fractions of the frame (VoxCeleb2); else pixels (VoxCeleb1).
    """

    header: dict[str, str]
    frames: tuple[int, ...]
    boxes: tuple[Box, ...]
    fractions: bool

    def box(self, index: int, frames: int, width: int, height: int) -> Box:
        """The track's box at a frame of a clip, in pixels of the clip.

        Args:
            index: of the frame, from 0.
            frames: in the clip.
            width, height: of the clip, pixels.
        """
        wanted = self.frames[0] + index * (self.frames[-1] - self.frames[0] + 1) // max(frames, 1)
        x, y, w, h = self.boxes[bisect_right(self.frames, wanted) - 1]
        return (x * width, y * height, w * width, h * height) if self.fractions else (x, y, w, h)


def track_file(clip: Path) -> Path | None:
    """Where the track of a clip lies in an official tree; None where the clip is in no such tree.

    >>> track_file(Path("/vox/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4")).as_posix()
    '/vox/dev/txt/id00012/21Uxsk56VDQ/00001.txt'
    >>> track_file(Path("/videos/id00012/00001.mp4")) is None
    True
    """
    if len(clip.parents) < 4 or clip.parents[2].name != "mp4":
        return None
    return clip.parents[3] / "txt" / clip.parents[1].name / clip.parent.name / f"{clip.stem}.txt"


def find_track(clip: Path) -> FaceTrack | None:
    """The published track of a clip; None where there is none.

    Raises:
        DatasetError: there is a file, and it is no track.
    """
    path = track_file(clip)
    if path is None:
        return None
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # something is there; reading it will say what is wrong
    return read_track(path)


def read_track(path: Path) -> FaceTrack:
    """Read one track file.

    Raises:
        DatasetError: naming the file and the line that cannot be understood.
    """
    header: dict[str, str] = {}
    frames: list[int] = []
    boxes: list[Box] = []
    in_table = False
    for number, line in enumerate(_text(path).splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        if in_table:
            frame, box = _row(path, number, cells)
            if frames and frame <= frames[-1]:
                raise _wrong(path, number, f"frame {frame} comes after frame {frames[-1]}")
            frames.append(frame)
            boxes.append(box)
        elif [cell.upper() for cell in cells] == _COLUMNS:
            in_table = True
        elif ":" in line:
            key, _, value = line.partition(":")
            header[key.strip()] = value.strip()
        else:
            raise _wrong(path, number, f"{line.strip()[:40]!r} is neither a header line nor {' '.join(_COLUMNS)}")
    if not boxes:
        raise DatasetError(
            f"face track {path}: no line with a box"
            if in_table
            else f"face track {path}: no line {' '.join(_COLUMNS)}",
            hint=_HINT,
        )
    small = [width <= 1 and height <= 1 for _, _, width, height in boxes]
    if any(small) and not all(small):
        raise DatasetError(f"face track {path}: boxes in pixels and in fractions", hint=_HINT)
    return FaceTrack(header, tuple(frames), tuple(boxes), fractions=all(small))


def best_overlap(track: Box, faces: Sequence[Box]) -> int | None:
    """Which of the detected faces is the track's: its index, or None where none overlaps it enough.

    >>> best_overlap((10, 10, 20, 20), [(100, 0, 50, 50), (12, 12, 20, 20)])
    1
    >>> best_overlap((10, 10, 20, 20), [(100, 0, 50, 50)]) is None
    True
    """
    overlaps = [overlap(track, face) for face in faces]
    best = max(range(len(faces)), key=overlaps.__getitem__, default=None)
    return best if best is not None and overlaps[best] >= LEAST_OVERLAP else None


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1.

    >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


_HINT = "repair or delete it: without a track the largest face is taken"


def _text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise DatasetError(f"face track {path} is no file", hint=_HINT)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DatasetError(f"face track {path}: larger than {MOST_BYTES:,} bytes", hint=_HINT)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"face track {path} cannot be read: {error.strerror}", hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"face track {path} is no text: {error}", hint=_HINT) from error


def _row(path: Path, number: int, cells: list[str]) -> tuple[int, Box]:
    if len(cells) != len(_COLUMNS):
        raise _wrong(path, number, f"{len(cells)} values instead of {len(_COLUMNS)}")
    try:
        frame = int(cells[0])
        x, y, width, height = map(float, cells[1:])
    except ValueError:
        raise _wrong(path, number, f"{' '.join(cells)[:60]!r} are no numbers") from None
    if frame < 0 or not all(math.isfinite(value) and abs(value) < _MOST for value in (x, y, width, height)):
        raise _wrong(path, number, f"{' '.join(cells)[:60]!r} is no box in a video")
    if width <= 0 or height <= 0:
        raise _wrong(path, number, "a box of no size")
    return frame, (x, y, width, height)


def _wrong(path: Path, number: int, what: str) -> DatasetError:
    return DatasetError(f"face track {path}, line {number}: {what}", hint=_HINT)
