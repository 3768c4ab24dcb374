"""A picture given by a person: read with care, and the face found in it as in a frame of a clip."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ClipError
from slf_store.media.container import MAX_PIXELS
from slf_store.media.face import DetectedFace, detect_faces


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Decode a picture, upright: (h, w, 3) uint8 RGB.

    Raises:
        ClipError: `not_a_file`, `empty_file`, `unreadable` (no picture, or damaged), `too_large` (over 36 million
            pixels, told before it is decoded).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise ClipError("not_a_file", f"{path} is not a regular file", hint="name a picture, e.g. a PNG or JPEG")
    if path.stat().st_size == 0:
        raise ClipError("empty_file", f"{path} has no bytes", hint="name a picture, e.g. a PNG or JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ClipError(
                        "too_large",
                        f"{path}: {image.width}×{image.height} pixels; {MAX_PIXELS:,} are the most",
                        hint="make it smaller: a face needs a few hundred pixels",
                    )
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except ClipError:
        raise
    except Exception as error:  # what Pillow's decoders raise on a damaged file is of many kinds
        what = "not a picture that can be read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ClipError("unreadable", f"{path}: {what}", hint="name a picture, e.g. a PNG or JPEG") from error


def face_of(image: NDArray[np.uint8], path: Path, detector: str) -> DetectedFace:
    """The largest face of a picture.

    Args:
        image: (h, w, 3) uint8 RGB.
        path: for messages.
        detector: DeepFace's name, loaded.

    Raises:
        ClipError: `no_face`.
    """
    boxes = detect_faces(image, detector)
    if not boxes:
        raise ClipError(
            "no_face", f"{path}: no face is found in it", hint="give another, or a square face crop and --guide-is-face"
        )
    x, y, width, height, score = boxes[0]
    chosen = "only" if len(boxes) == 1 else "largest"
    return DetectedFace(0, x, y, width, height, score, len(boxes), image, chosen)  # type: ignore[arg-type]
