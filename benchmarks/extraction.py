"""How fast extraction is, against a plain loop over the same library calls, in one run on the same clips and cores.

    python benchmarks/extraction.py [--data DIR] [--clips 64] [--only NAME …] [--json]

Without ``--data`` the synthetic sample is drawn. Two ways through the same clips and the same constituents:

- ``plain``: one process with the libraries' own threads, models loaded once, stage after stage (speaker embeddings,
  language, classical features, faces), each of which decodes every clip again, as the paper's published code does;
  CAM++ runs as its authors' PyTorch module. Values are thrown away.
- ``slf``: `slf extract --direct` into a new store: a process per core with one thread each, every clip decoded once,
  values sealed in shards and committed.

Reported: clips/s of both and their ratio, with and without starting processes and loading models; for ``slf`` also
clips/s of each constituent in one process, the share of the processes' time spent inside extractors and decoders
(which call the libraries), and the processes' greatest memory together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from slf_store.constituents.camplusplus import CamPlusPlus
from slf_store.constituents.extractor import Extractor
from slf_store.constituents.registry import extractors
from slf_store.constituents.whisper_language import WhisperLanguage
from slf_store.dataset.synthetic.tree import write_sample
from slf_store.jobs.ingest import ingest
from slf_store.jobs.pool import extract
from slf_store.media.clip import ClipMedia
from slf_store.store import Store

STAGES = ("camplusplus resemblyzer", "language_whisper", "mel pyaudioanalysis", "")
"""Constituents that one script of the published code makes together; the last stage is everything from the face."""


class PeakMemory(threading.Thread):
    """Watches the memory of this process's children: their greatest sum of unshared bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.done.wait(0.5):
            total = 0
            for child in me.children(recursive=True):
                try:
                    if "python" in child.name():
                        memory = child.memory_info()
                        total += memory.rss - memory.shared
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def stages(chosen: Sequence[Extractor]) -> list[list[Extractor]]:
    """The extractors by stage."""
    named = [stage.split() for stage in STAGES[:-1]]
    parts = [[extractor for extractor in chosen if extractor.name in names] for names in named]
    rest = [extractor for extractor in chosen if not any(extractor.name in names for names in named)]
    return [part for part in (*parts, rest) if part]


def run_plain(store: Store, only: Sequence[str]) -> dict[str, float]:
    """Seconds of loading and of extracting in a plain loop."""
    began = time.perf_counter()
    chosen = extractors(store.settings, only)
    for extractor in chosen:
        if isinstance(extractor, CamPlusPlus):
            extractor.load_plain()
        elif isinstance(extractor, WhisperLanguage):
            extractor.load(threads=0)
        else:
            extractor.load()
    loaded = time.perf_counter()
    clips = store.query(
        "SELECT clip_id, identity || '/' || video || '/' || clip AS key, root, clips.path, frames"
        " FROM clips JOIN source ON source.name = clips.source WHERE state = 'ok' ORDER BY clip_id"
    )
    for stage in stages(chosen):
        for row in clips:
            media = ClipMedia(row["clip_id"], row["key"], Path(row["root"]) / row["path"], row["frames"])
            for extractor in stage:
                extractor.attempt(media)
    return {"load_s": loaded - began, "extract_s": time.perf_counter() - loaded}


def run_slf(store: Store, only: Sequence[str]) -> dict[str, Any]:
    """What `slf extract --direct` takes."""
    memory = PeakMemory()
    memory.start()
    began = time.perf_counter()
    first: list[float] = []
    report = extract(store, only, progress=lambda done, total: first.append(time.perf_counter()))
    wall = time.perf_counter() - began
    memory.done.set()
    inside = sum(report.seconds.values()) + sum(report.media_seconds.values())
    workers = store.settings.worker_count
    return {
        "wall_s": wall,
        "start_s": max(0.0, wall - report.busy_seconds / workers),
        "clips": report.clips,
        "inside_share": inside / report.busy_seconds,
        "inside_share_of_wall": inside / (workers * wall),
        "peak_mb": memory.peak / 1e6,
        "constituents": {
            name: {
                "done": report.done[name],
                "failed": report.failed[name],
                "ms_per_clip": 1000 * seconds / max(1, report.done[name] + report.failed[name]),
            }
            for name, seconds in report.seconds.items()
        },
        "media_ms_per_clip": {part: 1000 * seconds / report.clips for part, seconds in report.media_seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder of clips that `slf ingest` understands")
    parser.add_argument("--clips", type=int, default=64, help="how many of them")
    parser.add_argument("--only", action="append", default=[], help="constituents; the profile's by default")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o755)
        clips = Path(scratch) / "clips"
        if arguments.data is None:
            write_sample(clips, dev_identities=arguments.clips // 2, test_identities=0, workers=os.cpu_count() or 1)
        else:
            found = sorted(arguments.data.rglob("*.mp4"))
            for path in found[:: max(1, len(found) // arguments.clips)][: arguments.clips]:
                target = clips / path.relative_to(arguments.data)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        with Store.create(Path(scratch) / "store", tethered=True) as store:
            ingest(store, clips)
            plain = run_plain(store, arguments.only)
            slf = run_slf(store, arguments.only)
    result = {
        "clips": slf["clips"],
        "cores": len(os.sched_getaffinity(0)),
        "plain": {**plain, "clips_per_s": slf["clips"] / plain["extract_s"]},
        "slf": {**slf, "clips_per_s": slf["clips"] / (slf["wall_s"] - slf["start_s"])},
        "ratio": plain["extract_s"] / (slf["wall_s"] - slf["start_s"]),
        "ratio_with_start": (plain["extract_s"] + plain["load_s"]) / slf["wall_s"],
    }
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    plain, slf = result["plain"], result["slf"]
    lines = [
        f"{result['clips']} clips, {result['cores']} cores",
        f"plain loop: {plain['clips_per_s']:.2f} clips/s (loading {plain['load_s']:.1f} s)",
        f"slf:        {slf['clips_per_s']:.2f} clips/s (starting and loading {slf['start_s']:.1f} s),"
        f" {slf['peak_mb']:.0f} MB in all processes",
        f"ratio {result['ratio']:.2f}, with starting {result['ratio_with_start']:.2f}",
        f"inside extractors and decoders: {100 * slf['inside_share']:.1f} % of the processes' time",
        f"{'':24}ms/clip  clips/s in one process",
    ]
    for part, milliseconds in slf["media_ms_per_clip"].items():
        lines.append(f"  (decode) {part:13}{milliseconds:9.1f}{1000 / max(milliseconds, 1e-9):9.1f}")
    for name, row in slf["constituents"].items():
        lines.append(f"  {name:22}{row['ms_per_clip']:9.1f}{1000 / max(row['ms_per_clip'], 1e-9):9.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
