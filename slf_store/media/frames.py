"""Picking and decoding single frames of a clip."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ClipError
from slf_store.media.container import decode, first_video, open_media

if TYPE_CHECKING:
    from av import VideoFrame

FIXED_FRAME = 9
"""Frame used for evaluation by the published code: the tenth."""
MOST_FRAMES = 2_000_000
"""Frames are drawn among the first so many (22 h at 25 fps), whatever a file says of itself."""
FAR = 250
"""From this index on a frame is sought from a key frame; before it, everything up to it is decoded."""
REORDERED = 64
"""Packets after which no earlier picture comes any more; codecs allow 16."""
_TIMED = ("mov", "matroska", "mpegts")
"""Containers that say when each packet is shown; AVI does not."""
_ONE_PACKET_ONE_FRAME = frozenset({"h264", "hevc", "vp9", "av1", "libdav1d", "mjpeg"})


def choose_frames(choice: str, *, key: str, frames: int, seed: int, candidates: int) -> list[int]:
    """Indices of the frames to look for a face in, the first one first.

    Args:
        choice: `fixed` (the tenth frame, for evaluation) or `seeded` (drawn for each clip, for training).
        key: the clip's natural key; the same clip gives the same frames in any store.
        frames: frames in the clip.
        seed: the store's seed.
        candidates: how many frames to try before saying `no_face`.

    >>> choose_frames("fixed", key="a/b/c", frames=100, seed=0, candidates=1)
    [9]
    >>> choose_frames("seeded", key="a/b/c", frames=1, seed=0, candidates=3)
    [0]
    """
    frames = min(frames, MOST_FRAMES)
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "little"))
    drawn = generator.permutation(frames)[: candidates + 1].tolist()
    if choice == "fixed":
        drawn.insert(0, min(FIXED_FRAME, frames - 1))
    return list(dict.fromkeys(drawn))[:candidates]


def read_frames(path: Path, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """Decode frames by index: {index: (height, width, 3) uint8 RGB}, upright. See :func:`iterate_frames`."""
    return dict(iterate_frames(path, indices))


def iterate_frames(path: Path, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode frames one by one, in the order asked for and only as far as each needs.

    An index counts the frames as they are shown, from 0, whatever time lies between them; one past the real end gives
    the last frame there is.

    Args:
        path: a video file.
        indices: which frames.

    Yields:
        (index, frame): (height, width, 3) uint8 RGB, upright.

    Raises:
        ClipError: `unreadable` (not one frame can be decoded), `no_video`, `too_large`, and those of
            :func:`slf_store.media.container.open_media`.
    """
    wanted = set(indices)
    passed: dict[int, VideoFrame] = {}
    last: VideoFrame | None = None
    with open_media(path) as container:
        shown = enumerate(decode(container, first_video(container, path)))
        for index in dict.fromkeys(indices):
            frame = _seek(path, index) if index >= FAR else None
            if frame is None:
                while index not in passed:
                    at, last = next(shown, (index, last))
                    if last is None:
                        raise ClipError("unreadable", f"{path}: no video frame can be decoded")
                    if at in wanted:
                        passed[at] = last
                frame = passed[index]
            yield index, _upright(frame)


def _seek(path: Path, index: int) -> VideoFrame | None:
    """A frame by its index, decoded from the last key frame before it; None where the file does not tell which it is.

    The times of all packets up to it, in order, say when it is shown; they are read, not decoded.
    """
    import av

    times: list[int] = []
    keys: list[tuple[int, int]] = []
    with open_media(path) as container:
        video = first_video(container, path)
        if not container.format.name.startswith(_TIMED) or video.codec_context.name not in _ONE_PACKET_ONE_FRAME:
            return None
        try:
            for packet in container.demux(video):
                if len(times) > index + REORDERED or (packet.size == 0 and packet.dts is None):
                    break
                if packet.pts is None or packet.size == 0:
                    return None
                if not packet.is_discard:
                    times.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            times.sort()
            if not keys or keys[0][0] != times[0] or len(set(times)) < len(times):
                return None  # begins amid a group of pictures, or two are shown at one time
            wanted = times[min(index, len(times) - 1)]
            key, decoded_at = max(key for key in keys if key[0] <= wanted)
            container.seek(min(key, decoded_at), stream=video)
            begun = False
            for packet in container.demux(video):
                begun = begun or packet.pts == key
                for frame in packet.decode() if begun else []:
                    if frame.pts is not None and frame.pts >= wanted:
                        return frame if frame.pts == wanted else None
        except av.error.FFmpegError:
            return None  # damaged somewhere: only decoding from the start tells
    return None


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """RGB array of a frame, mirrored and turned as its display matrix says."""
    from av.buffer import Buffer

    rgb = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, Buffer):
        return rgb
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
    if a * d < b * c:
        rgb = np.flipud(rgb)
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90) % 4))
