"""Speech networks by batch size: time per clip, and whether a batch gives what one by one gives.

    python benchmarks/speech_networks.py [--only NAME …] [--device cpu|cuda] [--clips 64] [--batch 16 …] [--json]

Clips are 24 s of noise shaped like a voice. The time is that of a whole extractor call: features on the CPU and the
network on the device. `difference` is the largest |batched − one by one| over the largest |one by one|, on the same
device; `from_cpu` the same against the CPU, one by one.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.registry import known_extractors
from slf_store.constituents.speech_network import SpeechNetwork
from slf_store.media.speech import SPEECH_RATE, SPEECH_SAMPLES, SPEECH_SECONDS
from slf_store.settings import Settings


def waves(count: int) -> list[NDArray[np.float32]]:
    """Pulse trains of different pitch in noise, swelling and fading like syllables."""
    random = np.random.default_rng(0)
    times = np.arange(SPEECH_SAMPLES) / SPEECH_RATE
    made = []
    for _ in range(count):
        pulses = np.sin(2 * np.pi * random.uniform(80, 300) * times) ** 15
        swell = 0.55 + 0.45 * np.sin(2 * np.pi * random.uniform(2, 5) * times)
        made.append((0.3 * swell * (pulses + 0.1 * random.standard_normal(times.size))).astype(np.float32))
    return made


def network(name: str, device: str) -> SpeechNetwork:
    """A loaded extractor on a device."""
    extractor = known_extractors(Settings(device=device))[name]
    if not isinstance(extractor, SpeechNetwork):
        raise SystemExit(f"{name} is no network over speech")
    extractor.load()
    return extractor


def measure(name: str, device: str, clips: int, batches: list[int]) -> list[dict[str, Any]]:
    """One row for each batch size."""
    speech = waves(clips)
    reference = np.stack(network(name, "cpu").embed_all(speech[: min(clips, 8)]))
    extractor = network(name, device)
    windows_s = max(length for length, _ in extractor.windows)
    rows: list[dict[str, Any]] = []
    single: NDArray[np.float32] | None = None
    for batch in sorted({1, *batches}):
        extractor.batch_seconds = {device.partition(":")[0]: batch * windows_s}  # type: ignore[misc]
        extractor.embed_all(speech[:batch])  # warm up at this size
        start = time.perf_counter()
        values = np.concatenate(
            [np.stack(extractor.embed_all(speech[first : first + batch])) for first in range(0, clips, batch)]
        )
        seconds = time.perf_counter() - start
        single = values if single is None else single
        rows.append(
            {
                "constituent": name,
                "device": device,
                "batch": batch,
                "ms_per_clip": 1000 * seconds / clips,
                "clips_per_s": clips / seconds,
                "hours_of_speech_per_s": SPEECH_SECONDS * clips / seconds / 3600,
                "difference": relative(values, single),
                "from_cpu": relative(values[: len(reference)], reference),
            }
        )
    return rows


def relative(values: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(values - reference).max() / np.abs(reference).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="constituents; camplusplus and resemblyzer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [
        row
        for name in arguments.only or ["camplusplus", "resemblyzer"]
        for row in measure(name, arguments.device, arguments.clips, arguments.batch)
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print("  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
