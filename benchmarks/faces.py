"""How well each offline face embedding tells real people apart: the nearest other face, is it the same person?

    python benchmarks/faces.py --data DIR [--models Dlib facenet-casia-20180408] [--detector dlib] [--json]

DIR holds `voxmini/` (an official VoxCeleb2 tree) and, if it is there, `faces/knn_examples/train/` (folder = person).
Every face goes the store's own way: frame and face chosen as in extraction, cropped to the 128×128 target, found again
in it, turned, embedded; Euclidean distance, as the evaluation's SQL searches.

Three measures:
- ``other clip``: for each clip of an identity with two or more clips, is its nearest neighbour among *all* other clips
  of the tree of the same identity? Clips of one video are alike, which flatters.
- ``other video``: the same, but clips of the query's own video are left out of the search.
- ``photo``: the same over the photos.

A query whose face is not found is a miss and is counted (``undetected``); a searched face that is not found cannot be
the answer. ``chance`` is the expectation for a neighbour drawn at random. Intervals (95 %) draw identities, not clips.
``eer``: equal error rate of "same person?" over all pairs of different videos, of detected faces.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slf_store.constituents.faces import FaceEmbedding, face_choice
from slf_store.dataset.voxceleb2 import walk
from slf_store.errors import ClipError
from slf_store.evaluation.interval import bootstrap_mean
from slf_store.media.clip import ClipMedia
from slf_store.media.face import DetectedFace, crop_face, detect_faces, embed_face
from slf_store.media.probe import probe_file
from slf_store.settings import Settings, load_settings

MODELS = ("Dlib", "facenet-casia-20180408")
PHOTOS = (".jpg", ".jpeg", ".png")
Target = NDArray[np.uint8]


class Faces:
    """Targets with whose they are; None where no face was found."""

    def __init__(self) -> None:
        self.targets: list[Target | None] = []
        self.people: list[str] = []
        self.videos: list[str] = []

    def add(self, target: Target | None, person: str, video: str) -> None:
        self.targets.append(target)
        self.people.append(person)
        self.videos.append(video)


def faces_of_clips(root: Path, settings: Settings) -> Faces:
    """The target of every clip of a tree."""
    found, choice = Faces(), face_choice(settings)
    for clip in walk(root):
        path = root / clip.path
        media = ClipMedia(0, f"{clip.identity}/{clip.video}/{clip.clip}", path, probe_file(path).frames or 1)
        try:
            target = media.target(choice)
        except ClipError:
            target = None
        found.add(target, clip.identity, f"{clip.identity}/{clip.video}")
    return found


def faces_of_photos(root: Path, detector: str) -> Faces:
    """The target of the largest face of every photo."""
    found = Faces()
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in PHOTOS):
        image = np.array(Image.open(path).convert("RGB"))
        boxes = detect_faces(image, detector)
        target = crop_face(DetectedFace(0, *boxes[0], len(boxes), image)) if boxes else None
        found.add(target, path.parent.name, str(path))
    return found


def embed(faces: Faces, detector: str, model: str) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Vectors (n, d), which of them there are (n,), and seconds per face."""
    start = time.perf_counter()
    vectors = [
        None if target is None else embed_face(target, detector=detector, model=model) for target in faces.targets
    ]
    seconds = (time.perf_counter() - start) / max(1, len(vectors))
    there = np.array([vector is not None for vector in vectors])
    empty = np.zeros_like(next(vector for vector in vectors if vector is not None))
    return np.stack([empty if vector is None else vector for vector in vectors]), there, seconds


def nearest(
    faces: Faces, vectors: NDArray[np.float32], there: NDArray[np.bool_], *, other_video: bool
) -> dict[str, Any]:
    """Share of queries whose nearest neighbour is the same person."""
    people, videos = np.array(faces.people), np.array(faces.videos)
    hits, queries, chances, undetected = [], [], [], 0
    for i, vector in enumerate(vectors):
        searched = videos != videos[i] if other_video else np.arange(len(people)) != i
        same = searched & (people == people[i])
        if not same.any():
            continue
        queries.append(people[i])
        chances.append(same.sum() / searched.sum())
        if not there[i]:
            undetected += 1
            hits.append(False)
            continue
        distance = np.where(searched & there, np.linalg.norm(vectors - vector, axis=1), np.inf)
        hits.append(bool(same[distance.argmin()]))
    estimate = bootstrap_mean(np.array(hits), np.unique(queries, return_inverse=True)[1], seed=0)
    return {
        "accuracy": round(estimate.value, 4),
        "low": round(estimate.low, 4),
        "high": round(estimate.high, 4),
        "n": estimate.n,
        "identities": len(set(queries)),
        "searched": len(people) - 1,
        "chance": round(float(np.mean(chances)), 5),
        "undetected": undetected,
    }


def equal_error_rate(faces: Faces, vectors: NDArray[np.float32], there: NDArray[np.bool_]) -> float:
    """Error where as many same as different pairs, of different videos, are told wrongly."""
    keep = np.flatnonzero(there)
    x = vectors[keep].astype(np.float64)
    squared = (x**2).sum(1)
    distance = np.sqrt(np.maximum(squared[:, None] + squared - 2 * x @ x.T, 0))
    people, videos = np.array(faces.people)[keep], np.array(faces.videos)[keep]
    pairs = np.triu(videos[:, None] != videos, 1)
    same = np.sort(distance[pairs & (people[:, None] == people)])
    different = np.sort(distance[pairs & (people[:, None] != people)])
    missed = 1 - np.searchsorted(same, same, side="right") / len(same)
    accepted = np.searchsorted(different, same, side="right") / len(different)
    at = int(np.abs(missed - accepted).argmin())
    return float((missed[at] + accepted[at]) / 2)


def measure(data: Path, models: Sequence[str], detector: str) -> dict[str, Any]:
    """Everything, as printed with --json."""
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home, face_detector=detector)
        extractors = [FaceEmbedding(settings, model=model) for model in models]
        for extractor in extractors:
            extractor.load()
        start = time.perf_counter()
        clips = faces_of_clips(data / "voxmini", settings)
        seconds = (time.perf_counter() - start) / len(clips.targets)
        photos_root = data / "faces" / "knn_examples" / "train"
        photos = faces_of_photos(photos_root, detector) if photos_root.is_dir() else None
        result: dict[str, Any] = {
            "detector": detector,
            "clips": len(clips.targets),
            "clips_without_face": sum(target is None for target in clips.targets),
            "seconds_to_find_a_face": round(seconds, 4),
            "models": {},
        }
        for model in models:
            vectors, there, spent = embed(clips, detector, model)
            result["models"][model] = {
                "other clip": nearest(clips, vectors, there, other_video=False),
                "other video": nearest(clips, vectors, there, other_video=True),
                "eer": round(equal_error_rate(clips, vectors, there), 4),
                "seconds_per_face": round(spent, 4),
                "not_found_in_target": int(sum(target is not None for target in clips.targets) - there.sum()),
            }
            if photos is not None:
                vectors, there, _ = embed(photos, detector, model)
                result["models"][model]["photo"] = nearest(photos, vectors, there, other_video=False)
    return result


def table(result: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [
        f"{result['clips']} clips, {result['clips_without_face']} without a face ({result['detector']}), "
        f"{result['seconds_to_find_a_face']:.3f} s each",
        f"{'model':<24}{'search':<13}{'right':>7}  {'95 %':<13}{'n':>5}{'people':>8}{'chance':>9}{'undetected':>12}",
    ]
    for model, measured in result["models"].items():
        for search in ("other clip", "other video", "photo"):
            if search in measured:
                m = measured[search]
                interval = f"{m['low']:.1%}–{m['high']:.1%}"
                lines.append(
                    f"{model:<24}{search:<13}{m['accuracy']:>7.1%}  {interval:<13}"
                    f"{m['n']:>5}{m['identities']:>8}{m['chance']:>9.2%}{m['undetected']:>12}"
                )
        lines.append(f"{model:<24}eer {measured['eer']:.1%}; {measured['seconds_per_face']:.3f} s per face")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with voxmini/ and faces/knn_examples/")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--detector", default="dlib")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.data, arguments.models, arguments.detector)
    print(json.dumps(result, indent=2) if arguments.json else table(result))


if __name__ == "__main__":
    main()
