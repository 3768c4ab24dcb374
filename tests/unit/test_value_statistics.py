"""What is kept of a value for judging quality in SQL."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from slf_store.constituents.extractor import AttributeValue
from slf_store.constituents.spec import ConstituentSpec
from slf_store.errors import ClipError
from slf_store.jobs.value_statistics import ValueStatistics, measure, measure_array
from slf_store.media.face import DetectedFace

LARGEST_REAL = float(np.finfo(np.float32).max)


def spec(kind: Any = "array", dtype: str | None = "float16") -> ConstituentSpec:
    return ConstituentSpec("made_up", kind, (2, 3), dtype, "-", "-", 1)


def face(confidence: float) -> DetectedFace:
    return DetectedFace(0, 1, 2, 3, 4, confidence, 1, np.zeros((8, 8, 3), np.uint8))


@example(np.array([[3.4000002e38]], np.float32))  # close to the largest, and still kept
@example(np.full((3, 1), LARGEST_REAL, np.float32))
@given(arrays(st.sampled_from(["f2", "f4", "u1"]), array_shapes(min_dims=2, max_dims=3)))
def test_arrays_are_measured_as_numpy_does(value: np.ndarray[Any, Any]) -> None:
    found, numbers = measure_array(value), value.astype(np.float64)
    if np.isfinite(numbers).all():
        expected = (numbers.min(), numbers.mean(), numbers.max(), np.sqrt((numbers**2).mean()))
        measured = (found.value_min, found.value_mean, found.value_max, found.value_rms)
        for wanted, kept in zip(expected, measured, strict=True):
            if kept is None:  # too big for the `real` it is stored as; the last digit of a mean may round over the edge
                assert abs(wanted) >= LARGEST_REAL * (1 - 1e-12)
            else:
                assert kept == pytest.approx(wanted)
                assert abs(kept) <= LARGEST_REAL
    assert (found.value_rows, found.zero_rows) == (len(value), sum(not row.any() for row in value))


def test_the_hash_is_that_of_the_stored_bytes() -> None:
    value = np.arange(6, dtype="<f4").reshape(2, 3)
    digest = hashlib.blake2b(value.tobytes(), digest_size=8).digest()
    assert measure_array(value).value_hash == int.from_bytes(digest, "little", signed=True)
    assert measure_array(value.astype(">f4")).value_hash == measure_array(value).value_hash
    assert measure_array(np.asfortranarray(value)).value_hash == measure_array(value).value_hash
    assert measure_array(value + 1).value_hash != measure_array(value).value_hash


def test_an_array_is_measured_as_it_is_stored() -> None:
    value = np.array([[1 / 3, 0, 0], [0, 0, 0]], np.float32)
    assert measure(spec(), value) == measure_array(value.astype(np.float16))
    assert measure(spec("embedding", None), value[0].astype(np.float64)) == measure_array(value[0])


def test_numbers_that_are_not_finite_are_left_out() -> None:
    overflowing = measure(spec(), np.array([[70_000.0, 1, 1]], np.float32))  # more than float16 can hold
    assert (overflowing.value_min, overflowing.value_mean, overflowing.value_max) == (1, None, None)
    assert measure(spec("face", None), face(float("nan"))) == ValueStatistics(value_rows=1)


def test_faces_attributes_and_failures() -> None:
    score = measure(spec("face", None), face(0.5))
    assert (score.value_min, score.value_mean, score.value_max, score.value_rows) == (0.5, 0.5, 0.5, 1)
    assert measure(spec("attribute", None), [AttributeValue("age", number=3.0)]) == ValueStatistics(value_rows=1)
    assert measure(spec("attribute", None), []) == ValueStatistics(value_rows=0)
    assert measure(spec(), ClipError("no_audio", "none")) == ValueStatistics()
