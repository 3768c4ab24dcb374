"""What is kept of every value, so that its quality can be judged in SQL without reading it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.extractor import Value
from slf_store.constituents.spec import ConstituentSpec
from slf_store.media.face import DetectedFace

COLUMNS = [
    ("value_hash", "int8"),
    ("value_min", "float8"),
    ("value_mean", "float8"),
    ("value_max", "float8"),
    ("value_rms", "float8"),
    ("value_rows", "int4"),
    ("zero_rows", "int4"),
]
"""Columns of `extraction`, with the types they are sent as."""


@dataclass(frozen=True)
class ValueStatistics:
    """Statistics of one value, in the order of :data:`COLUMNS`; None where they say nothing or are not finite."""

    value_hash: int | None = None
    value_min: float | None = None
    value_mean: float | None = None
    value_max: float | None = None
    value_rms: float | None = None
    value_rows: int | None = None
    zero_rows: int | None = None


def measure(spec: ConstituentSpec, value: Value | Exception) -> ValueStatistics:
    """Statistics of what an extractor gave for one clip.

    An array or embedding is measured as it is stored; of a face the score is; attributes are only counted, their
    numbers are in the table `attribute`; an exception has no statistics.
    """
    if isinstance(value, np.ndarray):
        with np.errstate(over="ignore"):  # what does not fit is stored as infinity
            stored = value.astype("float32" if spec.kind == "embedding" else spec.dtype, copy=False)
        return measure_array(stored)
    if isinstance(value, DetectedFace):
        score = _real(value.confidence)
        return ValueStatistics(None, score, score, score, None, value_rows=1)
    if isinstance(value, list):
        return ValueStatistics(value_rows=len(value))
    return ValueStatistics()


def measure_array(value: NDArray[Any]) -> ValueStatistics:
    """Statistics of an array of (rows, ...), or of a vector, which is one row.

    >>> found = measure_array(np.array([[0.0, 0.0], [3.0, 1.0]], np.float32))
    >>> found.value_min, found.value_mean, found.value_max, found.value_rows, found.zero_rows
    (0.0, 1.0, 3.0, 2, 1)
    >>> measure_array(np.array([3.0, 4.0], np.float32)).value_rms == 12.5**0.5
    True
    """
    little_endian = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    digest = hashlib.blake2b(little_endian.data, digest_size=8).digest()
    flat = little_endian.astype(np.float64).ravel()
    rows = flat.reshape(len(value) if value.ndim > 1 else 1, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        return ValueStatistics(
            int.from_bytes(digest, "little", signed=True),
            _real(flat.min()),
            _real(flat.mean()),
            _real(flat.max()),
            _real(float(np.square(flat).mean()) ** 0.5),
            len(rows),
            int(len(rows) - rows.any(axis=1).sum()),
        )


def _real(number: float) -> float | None:
    """The number, if PostgreSQL's `real` can hold it."""
    return float(number) if abs(number) <= np.finfo(np.float32).max else None
