"""Tables 2 to 4, 6 and 7 (systems and metrics, baselines beside), and 8 (over the conditional scale)."""

from __future__ import annotations

from collections.abc import Sequence

from slf_store.evaluation.reporting import metrics
from slf_store.evaluation.reporting.attributes import read_attributes
from slf_store.evaluation.reporting.study import Result, Study
from slf_store.evaluation.reporting.table import Cell, Table

MAIN = ("full-input", "no-image-guide", "pure-super-resolution")
"""Systems of the paper's Tables 2 to 4: super-resolution, generation, and what the 8×8 picture alone gives."""
RECALL_NOTE = (
    "Percent, with 95 % interval. n: probes; a generated face in which no face is detected is a miss. Scale: chosen on "
    "validation identities where it could be, else the smallest measured."
)


def main_tables(study: Study) -> list[Table]:
    """Tables 2 to 4: the systems the paper puts side by side first."""
    chosen = [result for result in study.shown if result.system in MAIN] or study.shown
    with_guide = [result for result in chosen if result.guide]
    without = [result for result in chosen if not result.guide]
    found = []
    if with_guide:
        found.append(_recall(study, with_guide, "table-2", "Table 2. Recall of face super-resolution"))
    if without:
        found.append(_recall(study, without, "table-3", "Table 3. Recall of face generation, without the image guide"))
    return [*found, *_others(study, chosen, "table-4", "Table 4. Attributes and fidelity")]


def ablation_tables(study: Study) -> list[Table]:
    """Tables 6 and 7: every system."""
    return [
        _recall(study, study.shown, "table-6", "Table 6. Recall of every system"),
        *_by_person(study),
        *_others(study, study.shown, "table-7", "Table 7. Attributes and fidelity of every system"),
    ]


def scale_table(study: Study) -> Table:
    """Table 8: every run at every scale."""
    order = [result.run for result in study.shown]
    results = sorted(study.results, key=lambda r: (order.index(r.run), r.scale, r.seed, r.steps))
    ks, others = metrics.ks(results), metrics.plain(results)
    names = {result.run: study.label(result) for result in study.shown}
    several = len({result.seed for result in results}) > 1, len({result.steps for result in results}) > 1
    head = ["System", "Scale", *(["Seed"] if several[0] else []), *(["Steps"] if several[1] else [])]
    rows: list[list[Cell]] = [
        [
            names[result.run],
            f"{result.scale:g}" + (" *" if study.chosen.get(result.run) == result.scale else ""),
            *([result.seed] if several[0] else []),
            *([result.steps or "preset"] if several[1] else []),
            *(metrics.value(result, "recall", k) for k in ks),
            *(metrics.value(result, name, k) for name, k in others),
            result.undetected,
        ]
        for result in results
    ]
    return Table(
        "table-8",
        "Table 8. Every system over the conditional scale",
        [*head, *(metrics.label("recall", k) for k in ks), *(metrics.label(*m) for m in others), "no face"],
        rows,
        "Recall in percent. *: chosen on validation identities. no face: generated faces in which none is detected.",
    )


def _recall(study: Study, systems: Sequence[Result], name: str, title: str, metric: str = "recall") -> Table:
    results = [*systems, *study.baselines.values()]
    ks = metrics.ks(results, metric)
    rows: list[list[Cell]] = [
        [
            study.label(result),
            None if result.is_baseline else f"{result.scale:g}",
            *(metrics.value(result, metric, k) for k in ks),
            result.probes,
            None if result.system == "random" else result.undetected,
        ]
        for result in results
    ]
    head = ["System", "Scale", *(metrics.label(metric, k) for k in ks), "n", "no face detected"]
    return Table(name, title, head, rows, RECALL_NOTE)


def _by_person(study: Study) -> list[Table]:
    """The same recall averaged over people, where that is another number."""
    some = next(iter(study.shown))
    same = all(some.recall(k) == some.metrics.get(("identity_recall", k), some.recall(k)) for k in metrics.ks([some]))
    if same:
        return []
    title = "Table 6b. Recall averaged over people: each counts once"
    return [_recall(study, study.shown, "table-6-by-person", title, "identity_recall")]


def _others(study: Study, systems: Sequence[Result], name: str, title: str) -> list[Table]:
    """Attributes, then every metric without a k; none where nothing of it was measured."""
    results = [*systems, *study.baselines.values()]
    attributes, others = read_attributes(study, results), metrics.plain(results)
    rows: list[list[Cell]] = [
        [
            study.label(result),
            *(own.get(head) for head in attributes.heads),
            *(metrics.value(result, *m) for m in others),
        ]
        for result in results
        if (own := attributes.cells.get(result.id, {})) or any(metric in result.metrics for metric in others)
    ]
    head = ["System", *attributes.heads, *(metrics.label(*m) for m in others)]
    note = f"Against the real face, with 95 % interval. {attributes.note}".strip()
    return [Table(name, title, head, rows, note)] if rows else []
