"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from slf_store.errors import ConfigError
from slf_store.evaluation.chart import Curve, recall_chart
from slf_store.evaluation.faces import face_grid, shown_clips
from slf_store.evaluation.html import Html, facts, join, table, tag
from slf_store.evaluation.interval import Estimate
from slf_store.evaluation.picture import write_whole
from slf_store.evaluation.results import Comparison, Result, read_comparisons, validated_scale
from slf_store.evaluation.stylesheet import CSS
from slf_store.privacy.audit import record

if TYPE_CHECKING:
    from slf_store.store import Store

COLOURS = {"random": "chance", "bicubic-8x8": "series-2", "real-vs-real": "series-3"}

DATA = """
    -- Clips of the snapshots on the page, and how many of them are drawn.
    SELECT count(*) AS clips, count(*) FILTER (WHERE synthetic) AS synthetic
    FROM clips
    WHERE clip_id IN (SELECT member.clip_id FROM snapshot_clip member
                      JOIN snapshot ON snapshot.id = member.snapshot_id
                      WHERE snapshot.name = ANY(CAST(:snapshots AS text[])))
"""

COVERAGE = """
    SELECT constituent, version, state, reason, count(*) AS clips
    FROM coverage GROUP BY constituent, version, state, reason ORDER BY constituent, version, state, reason
"""

QUARANTINE = """
    SELECT reason, count(*) AS clips FROM clips WHERE state = 'quarantined' GROUP BY reason ORDER BY clips DESC, reason
"""

FORGET_REPORT = text("DELETE FROM report WHERE path = :path")
NEW_REPORT = text("""
    WITH written AS (INSERT INTO report (path) VALUES (:path) RETURNING id)
    INSERT INTO report_clip (report_id, clip_id)
    SELECT written.id, shown.clip_id FROM written, unnest(CAST(:clips AS bigint[])) AS shown (clip_id)
""")

SYNTHETIC = (
    "Synthetic data: every face on this page is drawn and every voice synthesised. No real person is shown, and the "
    "numbers say nothing about real people."
)
MIXED = "Part of the data is synthetic (drawn faces, no real person); the rest shows real people. "
REAL = (
    "The real faces on this page are of real people. A generated face is what a model makes of a voice and a few "
    "pixels; it is no likeness and no evidence of who somebody is. Do not use it to identify or judge anyone, and "
    "pass this page on only as the data's licence and the law allow."
)
METHOD = (
    "Recall@k: share of probes with the right identity among the k nearest gallery faces (Euclidean distance, exact "
    "search, equal distances ordered by clip). A generated face in which no face is detected counts as a miss. "
    "Intervals hold 95 %: bootstrap over identities; for random selection, where the recall of chance lies in 95 % of "
    "all evaluations. A recall of exactly 0 or 100 % has an interval without width, which is the bootstrap's limit. "
    "real-vs-real: one other real face of each person, of another video where there is one. bicubic-8x8: the image "
    "guide, enlarged. PSNR over all pixels; SSIM with an 11×11 Gaussian window."
)


def report(store: Store, out: Path, runs: Sequence[str] = ()) -> Path:
    """Write the results of some runs, or of all, as one self-contained HTML page.

    It says what was done, and shows recall with intervals and baselines, PSNR and SSIM, a chart, up to 24 faces
    beside guide and real face, and what could not be extracted. Chart and pictures show the conditional scale chosen
    on validation identities where that was done, else the smallest scale.

    Args:
        store: open store.
        out: file to write, or an existing folder to write `report.html` into. Replaced as a whole.
        runs: names of evaluated runs.

    Returns:
        The file.

    Raises:
        NotFoundInStore: nothing has been evaluated.
        ConfigError: the file cannot be written.
    """
    comparisons = read_comparisons(store, runs)
    body = [
        tag("h1", "Faces from voices: how well they are recognised"),
        tag("p", f"Store written by slf-store, {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC.", class_="note"),
        tag("aside", _whose_faces(store, comparisons)),
    ]
    for name, group in groupby(comparisons, key=lambda comparison: comparison.first.run):
        body.append(_run(store, name, list(group)))
    body += [_coverage(store), tag("h2", "How it was measured"), tag("p", METHOD)]
    path = (out / "report.html" if out.is_dir() else out).absolute()
    _remember(store, path, comparisons)
    try:
        write_whole(path, _document(body).encode())
    except OSError as error:
        raise ConfigError(
            f"the report cannot be written to {path}: {error.strerror}", hint="name another file"
        ) from error
    return path


def _remember(store: Store, path: Path, comparisons: Sequence[Comparison]) -> None:
    """Note which clips' faces the page shows, before it is there: an erasure of one of them removes it."""
    clips: set[int] = set()
    for comparison in comparisons:
        shown = comparison.shown(validated_scale(store, comparison.first.run))
        if shown is not None:
            clips.update(shown_clips(store, shown.id))
    with store.engine.begin() as connection:
        connection.execute(FORGET_REPORT, {"path": str(path)})
        connection.execute(NEW_REPORT, {"path": str(path), "clips": sorted(clips)})
        record(connection, "report", {"file": path.name, "faces_of_clips": len(clips)})


def _document(body: Sequence[Html]) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "slf-store report"),
        tag("style", Html(CSS)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *body)), lang="en") + "\n"


def _whose_faces(store: Store, comparisons: Sequence[Comparison]) -> str:
    names = {name for comparison in comparisons for name in (comparison.first.gallery, comparison.first.snapshot)}
    counts = store.query(DATA, snapshots=sorted(names))[0]
    if counts["synthetic"] == counts["clips"]:
        return SYNTHETIC
    return MIXED + REAL if counts["synthetic"] else REAL


def _run(store: Store, name: str, comparisons: Sequence[Comparison]) -> Html:
    first = comparisons[0].first
    seen = sorted({result.samples_seen for c in comparisons for result in c.results if not result.is_baseline})
    scale = validated_scale(store, name)
    what = facts(
        [
            ("System", first.trained_system),
            ("Preset", first.preset),
            ("Trained on snapshot", join(first.snapshot, tag("br"), tag("small", first.snapshot_hash))),
            ("Samples seen (U-Net 1)", ", ".join(f"{count:,}" for count in seen)),
            ("Training time, both U-Nets", _duration(first.training_s)),
            ("Scale chosen on validation identities", "not chosen" if scale is None else f"{scale:g}"),
        ]
    )
    return join(tag("h2", f"Run {name}"), what, *(_comparison(store, c, scale) for c in comparisons))


def _comparison(store: Store, comparison: Comparison, scale: float | None) -> Html:
    first, shown = comparison.first, comparison.shown(scale)
    what = facts(
        [
            ("Gallery snapshot", join(first.gallery, tag("br"), tag("small", first.gallery_hash))),
            ("Part", first.part),
            ("Clips of the snapshot", first.gallery_clips),
            ("Faces searched in", first.gallery_faces),
            ("Face embedding", first.embedding),
            ("Measured", f"{first.created_at:%Y-%m-%d %H:%M %Z}"),
        ]
    )
    pieces: list[Html] = [tag("h3", f"On {comparison.where}"), what, _recall_table(comparison.results)]
    curves = [_curve(result) for result in comparison.results if result.is_baseline]
    if shown is not None:
        curves.insert(0, _curve(shown))
    caption = "Recall over k with 95 % intervals; chance as a band."
    pieces.append(tag("figure", recall_chart(curves), tag("figcaption", caption)))
    pieces.append(_fidelity_table(comparison.results))
    if shown is not None:
        pieces += [tag("h3", f"Faces of {shown.label}, seed {shown.seed}"), face_grid(store, shown.id)]
    return join(*pieces)


def _recall_table(results: Sequence[Result]) -> Html:
    ks = sorted({k for result in results for name, k in result.metrics if name == "recall"})
    head = ["System", *(f"recall@{k}" for k in ks), "n", "No face detected", "Seed"]
    rows = [
        [
            result.label,
            *(_percent(result.metrics.get(("recall", k))) for k in ks),
            result.probes,
            result.undetected if result.system != "random" else "–",
            result.seed if not result.is_baseline else "–",
        ]
        for result in results
    ]
    return table(head, rows, "Recall, percent, with 95 % interval. n: probes; faces not detected are misses.")


def _fidelity_table(results: Sequence[Result]) -> Html:
    rows = [
        [result.label, _number(result.metrics["psnr", 0], 2), _number(result.metrics["ssim", 0], 3), psnr.n]
        for result in results
        if (psnr := result.metrics.get(("psnr", 0))) is not None
    ]
    if not rows:
        return Html()
    return table(["System", "PSNR, dB", "SSIM", "n"], rows, "Against the real face, with 95 % interval. n: pairs.")


def _coverage(store: Store) -> Html:
    states: dict[tuple[str, str], dict[str, int]] = {}
    reasons: list[list[object]] = []
    for row in store.query(COVERAGE):
        counts = states.setdefault((row["constituent"], row["version"]), {"done": 0, "failed": 0, "missing": 0})
        counts[row["state"]] += row["clips"]
        if row["state"] == "failed":
            reasons.append([row["constituent"], row["reason"], row["clips"]])
    quarantined = [[row["reason"], row["clips"]] for row in store.query(QUARANTINE)]
    rows = [[name, version, *counts.values()] for (name, version), counts in states.items()]
    return join(
        tag("h2", "What the store holds"),
        table(["Constituent", "Version", "Done", "Failed", "Missing"], rows, "Clips by constituent, whole store."),
        table(["Constituent", "Reason", "Clips"], reasons, "Extraction failures.") if reasons else _none("failures"),
        table(["Reason", "Clips"], quarantined, "Quarantined at ingest.")
        if quarantined
        else _none("quarantined clips"),
    )


def _none(what: str) -> Html:
    return tag("p", f"No {what}.", class_="note")


def _curve(result: Result) -> Curve:
    points = [
        (k, estimate.value, estimate.low, estimate.high)
        for (name, k), estimate in sorted(result.metrics.items())
        if name == "recall"
    ]
    style = COLOURS.get(result.system, "chance") if result.is_baseline else "series-1"
    return Curve(result.system, style, points)


def _percent(estimate: Estimate | None) -> object:
    if estimate is None:
        return "–"
    interval = f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"
    return join(f"{100 * estimate.value:.1f}", tag("small", interval))


def _number(estimate: Estimate, digits: int) -> Html:
    interval = f"{estimate.low:.{digits}f}–{estimate.high:.{digits}f}"
    return join(f"{estimate.value:.{digits}f}", tag("small", interval))


def _duration(seconds: float) -> str:
    """Seconds in words.

    >>> _duration(4000), _duration(42)
    ('1 h 7 min', '42 s')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
