"""How many solver steps does a run need? Recall and time over their number, one run at one conditional scale.

    python benchmarks/solver.py STORE RUN [--test test] [--scale 1] [--steps 1000 250 50 25 10] [--out JSON]

What is generated or evaluated already is not done again, and then its time is missing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.cli.context import Context
from slf_store.evaluation import evaluate
from slf_store.evaluation.interval import bootstrap_mean
from slf_store.evaluation.measure import KS
from slf_store.jobs.generation import generate_run
from slf_store.store import Store

RESULTS = """
    -- Numbers of a run on a gallery, by solver steps.
    SELECT steps, metric, k, value, ci_low, ci_high, undetected FROM scale_sweep
    WHERE run = :run AND gallery = :gallery AND part = 'all' AND seed = 0 AND scale = :scale AND steps = ANY(:steps)
      AND distance = 'euclidean'
    ORDER BY steps DESC, metric, k
"""
PROBES = """
    -- Each probe: whose it is, and the rank at which the right person was met first.
    SELECT identity, rank FROM probes
    WHERE run = :run AND gallery = :gallery AND part = 'all' AND seed = 0 AND scale = :scale AND steps = :steps
      AND system NOT IN ('bicubic-8x8', 'real-vs-real') AND distance = 'euclidean'
    ORDER BY clip_id
"""


def solver(store: Store, given: argparse.Namespace) -> dict[str, Any]:
    """Generate and evaluate at each number of steps; compare each with the most."""
    context, seconds = Context(given.store, False, 1), dict[int, float]()
    for steps in given.steps:
        with context.progress(f"{steps} steps") as progress:
            began = time.process_time()
            generate_run(store, given.run, given.test, scales=[given.scale], steps=steps, progress=progress)
            seconds[steps] = round(time.process_time() - began, 1)
        evaluate(
            store, given.run, given.test, scales=[given.scale], steps=steps, workers=store.settings.worker_count,
            baselines=False, attributes=False,
        )  # fmt: skip
    where = {"run": given.run, "gallery": given.test, "scale": given.scale}
    found = {steps: mean_hits(store, {**where, "steps": steps}) for steps in given.steps}
    most = max(given.steps)
    return {
        "run": given.run,
        "scale": given.scale,
        "processor seconds": seconds,
        "results": store.query(RESULTS, **where, steps=list(given.steps)),
        f"difference of the mean recall to {most} steps": {
            steps: difference(found[steps], found[most]) for steps in given.steps if steps != most
        },
    }


def mean_hits(store: Store, where: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n,) mean of the hits at k = 1, 3, 5 and 10 of each probe, and (n,) number of its person; by clip."""
    rows = store.query(PROBES, **where)
    ranks = np.array([row["rank"] or max(KS) + 1 for row in rows])
    _, people = np.unique([row["identity"] for row in rows], return_inverse=True)
    return np.asarray(np.mean([ranks <= k for k in KS], axis=0), np.float64), people.astype(np.int64)


def difference(
    one: tuple[NDArray[np.float64], NDArray[np.int64]], two: tuple[NDArray[np.float64], NDArray[np.int64]]
) -> dict[str, Any]:
    """Paired difference of the mean recall with its 95 % interval over people."""
    found = bootstrap_mean(one[0] - two[0], one[1], seed=0)
    verdict = "higher" if found.low > 0 else "lower" if found.high < 0 else "not told apart"
    return {"difference": [round(x, 4) for x in (found.value, found.low, found.high)], "verdict": verdict}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("run", help="trained run to sample from")
    parser.add_argument("--test", default="test", help="snapshot of people it was not trained on")
    parser.add_argument("--scale", type=float, default=1.0, help="conditional scale")
    parser.add_argument("--steps", type=int, nargs="+", default=[1000, 250, 50, 25, 10], help="of each U-Net")
    parser.add_argument("--out", type=Path, help="JSON to write, beside printing it")
    given = parser.parse_args()
    with Store.open(given.store) as store:
        text = json.dumps(solver(store, given), indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
