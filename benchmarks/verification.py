"""How well the offline speech constituents tell people and languages apart, on real recordings.

    python benchmarks/verification.py --data DIR [--json]

``DIR`` holds ``librispeech/<speaker>/*.flac`` and ``wav_<speaker>/**/*.wav``. Every recording is used as the store uses
a clip: 16 kHz mono, cut or replayed to 24 s. For each speaker embedding, over all pairs of recordings and over those of
LibriSpeech alone (one kind of microphone, so that only the voice tells people apart):

- ``eer``: equal error rate, percent: the share of pairs of one person below the threshold, and of pairs of two people
  at or above it, where the two shares are closest; their mean;
- ``threshold``: that cosine; ``same``, ``different``: mean cosine of the pairs of one person and of two;
- ``nearest``: percent of recordings whose nearest other one is of the same person.

``language_whisper``: percent of LibriSpeech recordings called English, each other answer, and the mean probability of
the label given. ``ms``: milliseconds of one core's time a recording, without decoding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from slf_store.constituents.registry import known_extractors
from slf_store.media.clip import ClipMedia
from slf_store.settings import Settings, load_settings

EMBEDDINGS = ("camplusplus", "resemblyzer")
LIBRISPEECH = "librispeech"


@dataclass(frozen=True)
class Recording:
    """One recording of one person."""

    corpus: str
    speaker: str
    clip: ClipMedia


def find_recordings(data: Path, folder: Path) -> list[Recording]:
    """The recordings below `data`, copied into `folder` as wav: a clip's container is never FLAC."""
    found = [(LIBRISPEECH, path.parent.name, path) for path in sorted((data / LIBRISPEECH).rglob("*.flac"))]
    for top in sorted(data.glob("wav_*")):
        found += [(top.name, top.name.removeprefix("wav_"), path) for path in sorted(top.rglob("*.wav"))]
    recordings = []
    for index, (corpus, speaker, path) in enumerate(found):
        samples, rate = soundfile.read(path, dtype="float32")
        copy = folder / f"{index}.wav"
        soundfile.write(copy, samples, rate, subtype="FLOAT")
        clip = ClipMedia(index, f"{speaker}/{path.parent.name}/{path.stem}", copy, 0)
        recordings.append(Recording(corpus, speaker, clip))
    return recordings


def verify(embeddings: NDArray[np.float32], speakers: Sequence[str]) -> dict[str, float]:
    """Equal error rate and what goes with it, over all pairs of (n, d) embeddings."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = unit @ unit.T
    first, second = np.triu_indices(len(unit), 1)
    names = np.array(speakers)
    alike = names[first] == names[second]
    same, different = np.sort(cosines[first, second][alike]), np.sort(cosines[first, second][~alike])
    thresholds = np.union1d(same, different)
    missed = np.searchsorted(same, thresholds) / len(same)
    taken = 1 - np.searchsorted(different, thresholds) / len(different)
    best = int(np.abs(missed - taken).argmin())
    np.fill_diagonal(cosines, -2)
    return {
        "recordings": len(unit),
        "speakers": len(set(speakers)),
        "same_pairs": len(same),
        "different_pairs": len(different),
        "eer": 50 * float(missed[best] + taken[best]),
        "threshold": float(thresholds[best]),
        "same": float(same.mean()),
        "different": float(different.mean()),
        "nearest": 100 * float((names[cosines.argmax(axis=1)] == names).mean()),
    }


def measure(recordings: Sequence[Recording], settings: Settings) -> dict[str, Any]:
    """Everything this benchmark reports."""
    clips = [recording.clip for recording in recordings]
    for clip in clips:
        assert clip.speech.any()  # decoded before the clock runs
    read = [index for index, recording in enumerate(recordings) if recording.corpus == LIBRISPEECH]
    report: dict[str, Any] = {}
    for name in (*EMBEDDINGS, "language_whisper"):
        extractor = known_extractors(settings)[name]
        extractor.load()
        extractor.extract_many(clips[:2])
        began = time.process_time()
        values: list[Any] = extractor.extract_many(clips)
        spent = 1000 * (time.process_time() - began) / len(clips)
        for value in values:
            if isinstance(value, Exception):
                raise value
        if name in EMBEDDINGS:
            matrix, speakers = np.concatenate(values), [recording.speaker for recording in recordings]
            report[name] = {
                "all": verify(matrix, speakers),
                LIBRISPEECH: verify(matrix[read], [speakers[index] for index in read]),
                "ms": spent,
            }
        else:
            labels = [values[index][0] for index in read]
            report[name] = {
                "recordings": len(labels),
                "english": 100 * float(np.mean([label.text == "English" for label in labels])),
                "others": {label.text: round(label.score, 2) for label in labels if label.text != "English"},
                "probability": float(np.mean([label.score for label in labels])),
                "ms": spent,
            }
    return report


def show(report: dict[str, Any]) -> None:
    """The report as text."""
    for name, found in report.items():
        for part, row in found.items():
            if isinstance(row, dict) and "eer" in row:
                print(
                    f"{name:<17}{part:<12}EER {row['eer']:.2f} % at cosine {row['threshold']:.2f}; {row['speakers']}"
                    f" speakers, {row['recordings']} recordings, {row['same_pairs']} same and {row['different_pairs']}"
                    f" different pairs (mean cosine {row['same']:.2f}, {row['different']:.2f});"
                    f" nearest is the same person: {row['nearest']:.1f} %"
                )
        if "english" in found:
            print(
                f"{name:<17}{LIBRISPEECH:<12}English {found['english']:.1f} % of {found['recordings']},"
                f" mean probability {found['probability']:.2f}; others {found['others']}"
            )
        print(f"{name:<17}{'':<12}{found['ms']:.0f} ms a recording")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with librispeech/ and wav_<speaker>/")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        recordings = find_recordings(given.data, Path(folder))
        if not recordings:
            parser.error(f"{given.data} holds neither {LIBRISPEECH}/<speaker>/*.flac nor wav_<speaker>/**/*.wav")
        report = measure(recordings, load_settings(folder, device="cpu"))
    if given.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)


if __name__ == "__main__":
    main()
