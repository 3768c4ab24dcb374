"""What the paper's text found, and whether it is so here: holds, does not hold, or not told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from slf_store.evaluation.interval import Estimate, bootstrap_mean
from slf_store.evaluation.measure import KS
from slf_store.evaluation.paired import paired_difference
from slf_store.evaluation.reporting.study import Result, Study
from slf_store.evaluation.reporting.table import Cell, Number, Table
from slf_store.evaluation.scores import Scores

HOLDS, FAILS, OPEN = "holds", "does not hold", "not told apart"


@dataclass(frozen=True)
class Finding:
    """One sentence of the paper, measured here.

    Attributes:
        said: what the paper found, in our words.
        where: the paper's section.
        what: what was compared here.
        difference: with its 95 % interval over people; recall in percentage points.
        verdict: one of HOLDS, FAILS, OPEN.
    """

    said: str
    where: str
    what: str
    difference: Estimate
    verdict: str


ORDERS = (
    # better, worse, what the paper says, its section
    ("full-input", "no-image-guide", "the image guide raises recall much", "ablation"),
    ("full-input", "no-audio", "audio raises recall much", "ablation"),
    ("full-input", "no-speaker-embeddings", "speaker embeddings raise recall most", "ablation"),
    ("full-input", "no-additional-attributes", "gender, ethnicity and age raise recall moderately", "ablation"),
    (
        "no-image-guide",
        "no-speaker-embeddings",
        "losing speaker embeddings costs more than losing the guide",
        "ablation",
    ),
    ("no-audio", "no-speaker-embeddings", "losing speaker embeddings costs more than losing all audio", "ablation"),
    ("full-input", "pure-super-resolution", "conditioned super-resolution beats the 8×8 picture alone", "results"),
    ("no-image-guide", "pure-super-resolution", "even faces from voice alone beat the 8×8 picture alone", "results"),
    ("full-input", "audio-only", "super-resolution beats face generation", "results"),
    ("speaker-embeddings-only", "audio-only", "audio only is worse than speaker embeddings only", "scale"),
)
LIKENESS = (
    ("pure-super-resolution", "full-input", "conditioning costs image fidelity", "results"),
    ("no-audio", "full-input", "audio costs image fidelity", "ablation"),
    ("no-speaker-embeddings", "full-input", "speaker embeddings cost image fidelity", "ablation"),
    ("full-input", "no-image-guide", "without the guide image fidelity suffers greatly", "ablation"),
)
ABOVE_CHANCE = ("full-input", "no-image-guide", "no-speaker-embeddings", "no-audio", "audio-only",
                "speaker-embeddings-only", "no-additional-attributes")  # fmt: skip


def findings(study: Study) -> list[Finding]:
    """Every finding of the paper's text that the systems of a study can speak to.

    Recall is the mean of recall@1, 3, 5 and 10 of the same clips at each system's chosen scale; a difference counts
    where its 95 % interval, drawn over people, leaves 0 out. No correction for the number of findings.
    """
    return [*_orders(study), *_chance(study), *_likeness(study), *_scales(study)]


def findings_table(found: Sequence[Finding]) -> Table:
    """The findings as a table."""
    rows: list[list[Cell]] = [
        [
            f"{finding.said[0].upper()}{finding.said[1:]}",
            finding.where,
            finding.what,
            Number(finding.difference.value, finding.difference.low, finding.difference.high, 1),
            finding.verdict,
        ]
        for finding in found
    ]
    counts = {verdict: sum(finding.verdict == verdict for finding in found) for verdict in (HOLDS, FAILS, OPEN)}
    return Table(
        "findings",
        "The paper's findings, and ours.",
        ["The paper's text", "section", "compared here", "difference (95 %)", "here"],
        rows,
        "Recall: mean over k = 1, 3, 5, 10, percentage points, same clips, each system at its own chosen scale; "
        "fidelity: PSNR, dB. Not corrected for the number of comparisons. "
        + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        + ".",
    )


def order_of_s(rows: Sequence[dict[str, Any]]) -> str:
    """The paper's order of S, and ours: a sentence; empty where fewer than two inputs have an S.

    >>> order_of_s([{"input": "audio", "s": 50.0}, {"input": "image guide", "s": 70.0}])
    "The paper's order of S: audio (77 %) > image guide (75 %). Here: image guide (70 %) > audio (50 %)."
    """
    from slf_store.evaluation.reporting.ablation import PAPER_S

    ours = {row["input"]: row["s"] for row in rows if row["s"] is not None and row["input"] in PAPER_S}
    if len(ours) < 2:
        return ""
    theirs = sorted(ours, key=lambda name: -PAPER_S[name])
    here = sorted(ours, key=lambda name: -ours[name])
    said = " > ".join(f"{name} ({PAPER_S[name]} %)" for name in theirs)
    found = " > ".join(f"{name} ({ours[name]:.0f} %)" for name in here)
    return f"The paper's order of S: {said}. Here: {found}."


def _orders(study: Study) -> Iterator[Finding]:
    for better, worse, said, where in ORDERS:
        difference = paired_difference(_pairs(study, better, worse))
        if difference is not None:
            yield _finding(said, where, f"recall, {better} − {worse}", _points(difference))


def _likeness(study: Study) -> Iterator[Finding]:
    for better, worse, said, where in LIKENESS:
        difference = paired_difference(_pairs(study, better, worse), "psnr")
        if difference is not None:
            yield _finding(said, where, f"PSNR, {better} − {worse}", difference)


def _chance(study: Study) -> Iterator[Finding]:
    for name in ABOVE_CHANCE:
        found = next((result for result in study.shown if result.system == name), None)
        difference = None if found is None else _above_chance(study, found)
        if difference is not None:
            yield _finding(
                f"{name} performs better than random selection", "results", f"recall, {name} − random", difference
            )


def _scales(study: Study) -> Iterator[Finding]:
    """Scale 0 is pure super-resolution or random; fidelity falls with the scale; one curve rises and falls."""
    zero = {result.system: study.at(result.run, 0.0) for result in study.one_seed}
    full, alone = zero.get("full-input"), _first(study, "pure-super-resolution")
    if full is not None and alone is not None:
        difference = paired_difference([(study.scores(full), study.scores(alone))])
        if difference is not None:
            what = "recall, full-input at scale 0 − pure-super-resolution"
            yield _same("at scale 0 full-input behaves like pure super-resolution", what, _points(difference))
    if (voice := zero.get("no-image-guide")) is not None and (difference := _above_chance(study, voice)) is not None:
        what = "recall, no-image-guide at scale 0 − random"
        yield _same("at scale 0 a system without the guide behaves like random selection", what, difference)
    if (full := _first(study, "full-input")) is not None:
        by_scale = sorted((r for r in study.results if r.run == full.run and r.scale >= 1), key=lambda r: r.scale)
        if len({result.scale for result in by_scale}) > 1:
            low, high = by_scale[0], by_scale[-1]
            yield from _between(study, low, high, "psnr", "a higher conditional scale costs image fidelity")
    if (speaker := _first(study, "speaker-embeddings-only")) is not None:
        for top, other, way in ((3.0, 0.0, "rises from scale 0 to 3"), (3.0, 8.0, "falls from scale 3 to 8")):
            one, two = study.at(speaker.run, top), study.at(speaker.run, other)
            if one is not None and two is not None:
                yield from _between(study, one, two, "mean recall", f"speaker-embeddings-only {way}")


def _between(study: Study, one: Result, two: Result, metric: str, said: str) -> Iterator[Finding]:
    difference = paired_difference([(study.scores(one), study.scores(two))], metric)
    if difference is not None:
        what = f"{'PSNR' if metric == 'psnr' else 'recall'}, {one.system} at scale {one.scale:g} − {two.scale:g}"
        yield _finding(said, "scale", what, difference if metric == "psnr" else _points(difference))


def _first(study: Study, system: str) -> Result | None:
    return next((result for result in study.one_seed if result.system == system), None)


def _pairs(study: Study, better: str, worse: str) -> list[tuple[Scores, Scores]]:
    """Runs of two systems with the same training seed; any two where no seed is the same in both."""
    one = [result for result in study.shown if result.system == better]
    two = [result for result in study.shown if result.system == worse]
    same = [(a, b) for a in one for b in two if a.run_seed == b.run_seed]
    return [(study.scores(a), study.scores(b)) for a, b in same or list(zip(one, two, strict=False))]


def _above_chance(study: Study, result: Result) -> Estimate | None:
    chance = study.baselines.get("random")
    expected = [chance.recall(k) for k in KS] if chance is not None else [None]
    scores = study.scores(result)
    if not len(scores.clips) or any(estimate is None for estimate in expected):
        return None
    mean = sum(estimate.value for estimate in expected if estimate is not None) / len(expected)
    return _points(bootstrap_mean(scores.metric("mean recall") - mean, scores.identities, seed=0))


def _points(share: Estimate) -> Estimate:
    """Percentage points."""
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high, share.n)


def _finding(said: str, where: str, what: str, difference: Estimate) -> Finding:
    verdict = HOLDS if difference.low > 0 else FAILS if difference.high < 0 else OPEN
    return Finding(said, where, what, difference, verdict)


def _same(said: str, what: str, difference: Estimate) -> Finding:
    """A finding that two are the same: it fails where they are told apart; not being told apart proves nothing."""
    apart = difference.low > 0 or difference.high < 0
    return Finding(said, "scale", what, difference, FAILS if apart else OPEN)
