"""Pictures of faces as PNG files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import NotFoundInStore


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Decode a picture: (h, w, 3) uint8 RGB.

    Raises:
        NotFoundInStore: the file is missing or no picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise NotFoundInStore(
            f"the generated face {path} cannot be read: {error}", hint="generate it again with `slf generate`"
        ) from error


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """A PNG file of an (h, w, 3) uint8 RGB image.

    >>> encode_png(np.zeros((2, 2, 3), np.uint8))[1:4]
    b'PNG'
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
