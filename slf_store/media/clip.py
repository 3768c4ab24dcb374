"""One clip while it is being extracted: decoded once, shared by every constituent that needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ClipError, DatasetError
from slf_store.media.face import ChosenBy, DetectedFace, FoundBox, crop_face, detect_faces
from slf_store.media.facetrack import best_overlap, find_track
from slf_store.media.frames import choose_frames, iterate_frames
from slf_store.media.speech import fit_length, read_speech

T = TypeVar("T")


@dataclass(frozen=True)
class FaceChoice:
    """How the frame and the face of a clip are chosen; part of the spec of everything made from the face."""

    detector: str = "dlib"
    frame: str = "seeded"
    seed: int = 0
    candidates: int = 3
    """Frames tried before the clip is said to have no face."""
    tracks: bool = True
    """Of several faces take the one that the published track beside the clip follows, if it follows one."""


@dataclass
class ClipMedia:
    """Lazily decoded media of one clip. Each part is computed at most once, also when it fails.

    Attributes:
        clip_id: key in the store.
        key: natural key `identity/video/clip`.
        path: absolute path of the file.
        frames: number of video frames.
        audio: file the sound is read from, where that is not the clip's own.
        seconds: time spent in each part so far: `speech` (decoding sound), `face` (decoding frames, finding the face).
    """

    clip_id: int
    key: str
    path: Path
    frames: int
    audio: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _done: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def speech(self) -> NDArray[np.float32]:
        """16 kHz mono speech of 24 s: (384000,) float32. ClipError as :func:`read_speech`."""
        return fit_length(self.recorded_speech)

    @property
    def recorded_speech(self) -> NDArray[np.float32]:
        """The same before it is replayed to 24 s: (n,) float32, n ≤ 384000. ClipError as :func:`read_speech`."""
        return self._once("speech", None, lambda: read_speech(self.audio or self.path))

    def face(self, choice: FaceChoice) -> DetectedFace:
        """The face chosen in the clip. ClipError: `no_face`, `unreadable`."""
        return self._once("face", choice, lambda: self._find_face(choice))

    def target(self, choice: FaceChoice) -> NDArray[np.uint8]:
        """The face crop: (128, 128, 3) uint8 RGB. ClipError: `no_face`, `unreadable`."""
        face = self.face(choice)
        return self._once("target", choice, lambda: crop_face(face))

    def _find_face(self, choice: FaceChoice) -> DetectedFace:
        indices = choose_frames(
            choice.frame,
            key=self.key,
            frames=max(1, self.frames),
            seed=choice.seed,
            candidates=choice.candidates,
        )
        for index, image in iterate_frames(self.path, indices):
            boxes = detect_faces(image, choice.detector)
            if boxes:
                chosen, chosen_by = self._choose(boxes, index, image, choice)
                x, y, width, height, score = boxes[chosen]
                return DetectedFace(index, x, y, width, height, score, len(boxes), image, chosen_by)
        raise ClipError("no_face", f"{self.path}: no face in frames {indices}")

    def _choose(
        self, boxes: Sequence[FoundBox], index: int, image: NDArray[np.uint8], choice: FaceChoice
    ) -> tuple[int, ChosenBy]:
        """Which of a frame's faces, largest first, is the clip's, and why."""
        if len(boxes) == 1:
            return 0, "only"
        if not choice.tracks:
            return 0, "largest"
        try:
            track = find_track(self.path)
        except DatasetError:
            return 0, "bad_track"
        if track is None:
            return 0, "largest"
        height, width = image.shape[:2]
        best = best_overlap(track.box(index, self.frames, width, height), [box[:4] for box in boxes])
        return (0, "largest") if best is None else (best, "track")

    def _once(self, part: str, choice: FaceChoice | None, compute: Callable[[], T]) -> T:
        if (part, choice) not in self._done:
            start = time.perf_counter()
            try:
                self._done[part, choice] = compute()
            except ClipError as error:
                self._done[part, choice] = error
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
        found = self._done[part, choice]
        if isinstance(found, ClipError):
            raise found
        return found  # type: ignore[no-any-return]
