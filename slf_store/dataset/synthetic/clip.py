"""Encode one clip: H.264 pictures and AAC sound in an mp4 that says it is synthetic."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slf_store.dataset.synthetic.motion import FPS
from slf_store.dataset.synthetic.sketch import FRAME, Pixels
from slf_store.dataset.synthetic.voice import RATE

COMMENT = "SYNTHETIC: drawn face and synthesised voice; no real person (slf-store sample)"
_AAC_FRAME = 1024  # samples


def write_clip(path: Path, pictures: Iterable[Pixels], samples: NDArray[np.float64]) -> None:
    """Write one mp4 under a temporary name, then give it its own.

    Args:
        path: the mp4 to write; its folder must exist.
        pictures: (224, 224, 3) uint8 RGB, 25 a second.
        samples: (n,) -1 to 1, 16 kHz.
    """
    import av

    partial = path.with_name(path.name + ".part")
    with av.open(str(partial), "w", format="mp4", options={"fflags": "+bitexact"}) as box:
        box.metadata["comment"] = COMMENT
        video = box.add_stream("libx264", rate=FPS)
        video.width = video.height = FRAME
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.options = {"preset": "ultrafast", "crf": "20", "g": "50"}
        audio = box.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 64_000
        for picture in pictures:
            for packet in video.encode(av.VideoFrame.from_ndarray(_planes(picture), format="yuv420p")):
                box.mux(packet)
        box.mux(video.encode(None))
        sound = np.asarray(samples, np.float32)[None]
        for at in range(0, sound.shape[1], _AAC_FRAME):
            piece = np.ascontiguousarray(sound[:, at : at + _AAC_FRAME])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate = RATE
            frame.pts = at
            box.mux(audio.encode(frame))
        box.mux(audio.encode(None))
    partial.replace(path)


def _planes(picture: Pixels) -> Pixels:
    """RGB (h, w, 3) as planar 4:2:0 (h·3/2, w)."""
    import cv2

    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420))
