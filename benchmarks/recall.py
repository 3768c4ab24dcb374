"""How well are generated faces recognised? Trains systems, generates at many conditional scales, evaluates by SQL.

    python benchmarks/recall.py systems STORE [--train train] [--test test] [--samples 30000] [--out JSON] [--plot SVG]
    python benchmarks/recall.py solver STORE RUN [--test test] [--steps 1000 250 50 25 10] [--out JSON]

The store holds two frozen snapshots: one of dev identities with a validation part, one of test identities
(docs/results.md has the commands). What is trained, generated or evaluated already is not done again. The scale that
stands for a system is chosen on validation identities, never on the test identities.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.cli.context import Context
from slf_store.cli.training import train_line
from slf_store.evaluation import best_scale, evaluate
from slf_store.evaluation.html import Html, tag
from slf_store.evaluation.interval import bootstrap_mean
from slf_store.evaluation.measure import KS
from slf_store.jobs.generation import generate_run
from slf_store.jobs.training import checkpoints, create_run, run_row, share_unet2, train
from slf_store.query.manifest import Part
from slf_store.store import Store

SYSTEMS = ("full-input", "no-image-guide", "no-audio", "pure-super-resolution")
BASELINES = ("random", "bicubic-8x8", "real-vs-real")
FROM_NOISE = ("no-image-guide", "audio-only", "speaker-embeddings-only")
"""Systems without the guide: they learn more slowly, and share the U-Net 2 of full-input where they see the same."""

EVALUATIONS = """
    -- Numbers of the evaluations of some runs on a gallery.
    SELECT evaluation.id, run.name AS run, evaluation.system, evaluation.scale, evaluation.steps, evaluation.undetected,
           evaluation.probes, metric.name AS metric, metric.k, metric.value, metric.ci_low, metric.ci_high
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN metric ON metric.evaluation_id = evaluation.id
    WHERE run.name = ANY(:runs) AND gallery.name = :gallery AND evaluation.part = 'all' AND evaluation.seed = 0
      AND evaluation.distance = 'euclidean'
    ORDER BY run.name, evaluation.system, evaluation.scale, evaluation.steps, metric.name, metric.k
"""
HITS = """
    -- For each probe of an evaluation: its identity, and the rank at which it first met the right person.
    SELECT generation.clip_id, video.identity_id,
           (SELECT min(rank) FROM match
            WHERE match.evaluation_id = evaluation.id AND match.probe_clip_id = generation.clip_id AND hit) AS rank
    FROM evaluation
    JOIN generation ON generation.run_id = evaluation.run_id AND generation.scale = evaluation.scale
                   AND generation.seed = evaluation.seed AND generation.steps = evaluation.steps
                   AND generation.method = 'diffusion'
    JOIN snapshot_clip member ON member.snapshot_id = evaluation.gallery_id AND member.clip_id = generation.clip_id
    JOIN clip ON clip.id = generation.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE evaluation.id = :evaluation
    ORDER BY generation.clip_id
"""


def systems(store: Store, given: argparse.Namespace, context: Context) -> dict[str, Any]:
    """Train, choose the scale, generate, evaluate every system."""
    seconds: dict[str, float] = {}
    for system in given.systems:
        name = f"{given.prefix}{system}"
        create_run(store, name, snapshot=given.train, system_name=system, preset=given.preset, seed=0)
        wanted = {1: given.voice_samples if system in FROM_NOISE else given.samples, 2: given.samples2}
        shared = system == "no-image-guide" and f"{given.prefix}full-input" != name
        for unet, samples in wanted.items():
            seen = checkpoints(store, run_row(store, name)).get(unet, {"samples_seen": 0})["samples_seen"]
            if unet == 2 and shared:
                share_unet2(store, name, f"{given.prefix}full-input")
            elif seen < samples:
                train(store, name, 1 if unet == 1 else 2, samples=samples, on_log=train_line(context))
        seconds[f"{system}, generate"] = timed(lambda name=name: make(store, name, given, context))
    runs = [f"{given.prefix}{system}" for system in given.systems]
    rows = list(store.query(EVALUATIONS, runs=runs, gallery=given.test))
    best = {run: best_scale(store, run, given.train) for run in runs}
    return {
        "preset": given.preset,
        "trained": {run: trained(store, run) for run in runs},
        "seconds": seconds,
        "scale chosen on validation identities": best,
        "results": table(rows),
        "orderings": orderings(store, rows, best, given),
    }


def trained(store: Store, run: str) -> dict[int, dict[str, Any]]:
    """Samples seen by each U-Net of a run, and the seconds that took."""
    found = checkpoints(store, run_row(store, run))
    return {unet: {"samples": row["samples_seen"], "seconds": round(row["seconds"])} for unet, row in found.items()}


def make(store: Store, run: str, given: argparse.Namespace, context: Context) -> None:
    """Generate and evaluate one run: on validation identities, then on the test identities."""
    workers = store.settings.worker_count
    parts: tuple[tuple[str, Part], ...] = ((given.train, "validation"), (given.test, "all"))
    for snapshot, part in parts:
        with context.progress(f"generating {run} on {snapshot}") as progress:
            generate_run(store, run, snapshot, part=part, scales=given.scales, progress=progress)
        with context.progress(f"evaluating {run} on {snapshot}") as progress:
            final = part == "all"
            evaluate(
                store, run, snapshot, part=part, workers=workers, baselines=final, attributes=final, progress=progress
            )


def solver(store: Store, given: argparse.Namespace, context: Context) -> dict[str, Any]:
    """Recall and time over the number of solver steps, one run at one scale."""
    times: dict[int, float] = {}
    for steps in given.steps:
        with context.progress(f"{steps} steps") as progress:
            began = time.process_time()
            generate_run(store, given.run, given.test, scales=[given.scale], steps=steps, progress=progress)
            times[steps] = round(time.process_time() - began, 1)
        evaluate(
            store,
            given.run,
            given.test,
            scales=[given.scale],
            steps=steps,
            workers=2,
            baselines=False,
            attributes=False,
        )
    rows = [
        row for row in store.query(EVALUATIONS, runs=[given.run], gallery=given.test) if row["scale"] == given.scale
    ]
    first = max(given.steps)
    ranks = {steps: first_hits(store, rows, given.run, given.scale, steps) for steps in given.steps}
    return {
        "run": given.run,
        "scale": given.scale,
        "processor seconds": times,
        "results": [line for line in table(rows) if line["steps"] in given.steps],
        f"difference of the mean recall to {first} steps": {
            steps: difference(ranks[steps], ranks[first]) for steps in given.steps if steps != first
        },
    }


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each evaluation; percent with interval."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("run", "system", "scale", "steps", "undetected", "probes"))
        names = ("run", "system", "scale", "steps", "undetected", "probes")
        line = lines.setdefault(key, dict(zip(names, key, strict=True)))
        name = f"{row['metric']}@{row['k']}" if row["k"] else row["metric"]
        line[name] = [round(row[column], 4) for column in ("value", "ci_low", "ci_high")]
    return list(lines.values())


Ranks = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Identity of each probe, and the rank of its first right match (11 where there is none), by clip."""


def first_hits(store: Store, rows: Sequence[dict[str, Any]], run: str, scale: float, steps: int = 0) -> Ranks:
    found = next(
        row["id"]
        for row in rows
        if (row["run"], row["scale"], row["steps"]) == (run, scale, steps) and row["system"] not in BASELINES
    )
    hits = store.query(HITS, evaluation=found)
    return np.array([h["identity_id"] for h in hits]), np.array([h["rank"] or max(KS) + 1 for h in hits])


def mean_recall(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each probe's mean hit over k = 1, 3, 5, 10."""
    return np.asarray(np.mean([ranks <= k for k in KS], axis=0), np.float64)


def difference(one: Ranks, two: Ranks) -> dict[str, Any]:
    """Paired difference of the mean of recall@1, 3, 5 and 10, with its 95 % interval over identities."""
    estimate = bootstrap_mean(mean_recall(one[1]) - mean_recall(two[1]), one[0], seed=0)
    numbers = [round(x, 4) for x in (estimate.value, estimate.low, estimate.high)]
    verdict = "higher" if estimate.low > 0 else "lower" if estimate.high < 0 else "not told apart"
    return {"difference": numbers, "verdict": verdict}


def orderings(
    store: Store, rows: Sequence[dict[str, Any]], best: dict[str, float], given: argparse.Namespace
) -> dict[str, Any]:
    """The paper's orderings, each with the paired difference that speaks for or against it."""
    name = {system: f"{given.prefix}{system}" for system in given.systems}
    chance = {row["k"]: row["value"] for row in rows if row["system"] == "random" and row["metric"] == "recall"}

    def ranks(system: str, scale: float | None = None) -> Ranks:
        return first_hits(store, rows, name[system], best[name[system]] if scale is None else scale)

    def against_chance(one: Ranks) -> dict[str, Any]:
        expected = float(np.mean([chance[k] for k in KS]))
        estimate = bootstrap_mean(mean_recall(one[1]) - expected, one[0], seed=0)
        verdict = "higher" if estimate.low > 0 else "lower" if estimate.high < 0 else "not told apart"
        return {"difference": [round(x, 4) for x in (estimate.value, estimate.low, estimate.high)], "verdict": verdict}

    asked: dict[str, tuple[set[str], Callable[[], dict[str, Any]]]] = {
        "full-input > pure-super-resolution": (
            {"full-input", "pure-super-resolution"},
            lambda: difference(ranks("full-input"), ranks("pure-super-resolution")),
        ),
        "full-input > no-audio": (
            {"full-input", "no-audio"},
            lambda: difference(ranks("full-input"), ranks("no-audio")),
        ),
        "no-image-guide > random": ({"no-image-guide"}, lambda: against_chance(ranks("no-image-guide"))),
        "full-input at scale 0 = pure-super-resolution": (
            {"full-input", "pure-super-resolution"},
            lambda: difference(ranks("full-input", 0.0), ranks("pure-super-resolution")),
        ),
        "no-image-guide at scale 0 = random": (
            {"no-image-guide"},
            lambda: against_chance(ranks("no-image-guide", 0.0)),
        ),
    }
    return {text: measure() for text, (needed, measure) in asked.items() if needed <= set(given.systems)}


def plot(results: Sequence[dict[str, Any]], path: Path, k: int = 10) -> None:
    """Recall@k over the conditional scale, one line per system; chance as a dashed line."""
    left, top, width, height = 56, 30, 460, 260
    lines = [line for line in results if line["system"] not in BASELINES]
    most = max(line["scale"] for line in lines) or 1.0
    chance = next(line[f"recall@{k}"][0] for line in results if line["system"] == "random")

    def at(scale: float, recall: float) -> tuple[float, float]:
        return round(left + width * scale / most, 1), round(top + height * (1 - recall), 1)

    drawn: list[Html] = [tag("text", f"recall@{k} over the conditional scale", x=left, y=18, font_weight="bold")]
    for level in range(0, 101, 25):
        x, y = at(0, level / 100)
        drawn += [
            tag("line", x1=x, x2=left + width, y1=y, y2=y, stroke="#dddddd"),
            tag("text", f"{level} %", x=x - 6, y=y + 4, text_anchor="end"),
        ]
    for scale in sorted({line["scale"] for line in lines}):
        drawn.append(tag("text", f"{scale:g}", x=at(scale, 0)[0], y=top + height + 18, text_anchor="middle"))
    (x, y), (end, _) = at(0, chance), at(most, chance)
    drawn += [
        tag("line", x1=x, x2=end, y1=y, y2=y, stroke="#888888", stroke_dasharray="5 4"),
        tag("text", "random", x=end + 6, y=y + 4),
    ]
    colours = ("#2a6fb0", "#d08a3c", "#4c9a5b", "#9a4c8f", "#777777")
    tracks = {
        system: [at(line["scale"], line[f"recall@{k}"][0]) for line in lines if line["system"] == system]
        for system in dict.fromkeys(line["system"] for line in lines)
    }
    label_y, lowest = dict[str, float](), 0.0
    for system in sorted(tracks, key=lambda system: tracks[system][-1][1]):
        label_y[system] = lowest = max(tracks[system][-1][1], lowest + 14)
    for number, (system, points) in enumerate(tracks.items()):
        path_ = " ".join(f"{x},{y}" for x, y in points)
        colour = colours[number % len(colours)]
        drawn += [
            tag("polyline", points=path_, fill="none", stroke=colour, stroke_width=2),
            tag("text", system, x=points[-1][0] + 6, y=label_y[system] + 4, fill=colour),
        ]
    back = tag("rect", width=left + width + 170, height=top + height + 30, fill="white")
    box = f"0 0 {left + width + 170} {top + height + 30}"
    drawing = tag(
        "svg", back, *drawn, xmlns="http://www.w3.org/2000/svg", viewBox=box, font_family="sans-serif", font_size=12
    )
    path.write_text(drawing + "\n", "utf-8")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("systems", "solver"))
    parser.add_argument("store", type=Path)
    parser.add_argument("run", nargs="?", help="solver: the run to sample from")
    parser.add_argument("--train", default="train", help="snapshot of dev identities, with a validation part")
    parser.add_argument("--test", default="test", help="snapshot of test identities")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--prefix", default="", help="of the names of runs")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS)
    parser.add_argument("--samples", type=int, default=30_000, help="of U-Net 1")
    parser.add_argument("--voice-samples", type=int, default=90_000, help="of U-Net 1 of systems without the guide")
    parser.add_argument("--samples2", type=int, default=9_000, help="of U-Net 2")
    parser.add_argument("--scales", type=float, nargs="+", default=[float(w) for w in range(9)])
    parser.add_argument("--scale", type=float, default=3.0, help="solver: conditional scale")
    parser.add_argument("--steps", type=int, nargs="+", default=[1000, 250, 50, 25, 10])
    parser.add_argument("--out", type=Path, help="JSON to write, beside printing it")
    parser.add_argument("--plot", type=Path, help="systems: SVG to write")
    given = parser.parse_args()
    if given.what == "solver" and not given.run:
        parser.error("solver needs a run")
    context = Context(given.store, False, 1)
    with Store.open(given.store) as store:
        found = systems(store, given, context) if given.what == "systems" else solver(store, given, context)
    text = json.dumps(found, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", "utf-8")
    if given.plot and given.what == "systems":
        plot(found["results"], given.plot)


if __name__ == "__main__":
    sys.exit(main())
