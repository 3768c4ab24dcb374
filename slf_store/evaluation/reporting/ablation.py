"""Table 5 (recall increases) and the significance of each input, with the paper's own S beside."""

from __future__ import annotations

from typing import Any

from slf_store.errors import NotFoundInStore
from slf_store.evaluation.reporting.study import Study
from slf_store.evaluation.reporting.table import Cell, Number, Table
from slf_store.evaluation.significance import PAPER_INPUTS, WEIGHTINGS, significance

PAPER_S = {"image guide": 75, "audio": 77, "speaker embeddings": 98, "additional attributes": 31}
"""S in percent as the paper's text states it (section on the ablation study)."""
PAPER_BAND = {
    "image guide": "significant",
    "audio": "significant",
    "speaker embeddings": "profound",
    "additional attributes": "moderate",
}

INCREASES = """
    SELECT input, without_system, run_seed, run_all, run_without, scale_all, scale_without, samples_all,
           samples_without, k, recall_all, recall_without, increase
    FROM recall_increase
    WHERE snapshot = :snapshot AND preset = :preset AND gallery = :gallery AND part = :part
      AND embedding = :embedding AND distance = :distance AND run_all = ANY(CAST(:runs AS text[]))
      AND run_without = ANY(CAST(:runs AS text[]))
    ORDER BY array_position(CAST(:inputs AS text[]), input), input, run_seed, run_without, steps, k
"""


def increase_table(study: Study) -> Table | None:
    """Table 5: by how much recall grows when an input is added; None where no two systems can be compared."""
    first = study.first
    rows = study.store.query(
        INCREASES, snapshot=first.snapshot, preset=first.preset, gallery=first.gallery, part=first.part,
        embedding=first.embedding_name, distance=first.distance, inputs=list(PAPER_INPUTS),
        runs=[result.run for result in study.shown],
    )  # fmt: skip
    if not rows:
        return None
    lines: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("input", "without_system", "run_seed", "run_without"))
        lines.setdefault(key, {})[row["k"]] = row
    ks = sorted({row["k"] for row in rows})
    seeds = len({row["run_seed"] for row in rows}) > 1
    unfair = any(row["samples_all"] != row["samples_without"] for row in rows)
    cells: list[list[Cell]] = []
    for (name, without, seed, _), by_k in lines.items():
        some = next(iter(by_k.values()))
        cells.append(
            [
                str(name),
                str(without),
                *([int(seed)] if seeds else []),
                *(_increase(by_k.get(k)) for k in ks),
                *([int(some["samples_all"]), int(some["samples_without"])] if unfair else []),
            ]
        )
    head = ["Input added", "to system", *(["Seed"] if seeds else []), *(f"k\u00a0=\u00a0{k}" for k in ks)]
    head += ["samples, full-input", "samples, without"] if unfair else []
    note = (
        "R_inc = 100·(R_full-input − R_without) / R_without, percent; each system at its own chosen scale. Empty where "
        "nobody is found without the input."
    )
    note += " The two were not trained on equally many samples." if unfair else ""
    return Table("table-5", "Table 5. Increase of recall@k due to an input", head, cells, note)


def significance_rows(study: Study) -> list[dict[str, Any]]:
    """Rows of :func:`slf_store.evaluation.significance.significance` of this study."""
    first = study.first
    try:
        rows = significance(study.store, gallery=first.gallery)
    except NotFoundInStore:
        return []
    place = {"snapshot": first.snapshot, "preset": first.preset, "part": first.part, "distance": first.distance}
    place["embedding"] = first.embedding_name
    systems = {result.system for result in study.shown}
    return [row for row in rows if place.items() <= row.items() and row["without_system"] in systems]


def significance_tables(rows: list[dict[str, Any]]) -> list[Table]:
    """S of each input beside the paper's, and S under other weights."""
    if not rows:
        return []
    beside: list[list[Cell]] = [
        [
            row["input"],
            _s(row["s"], row["people_low"], row["people_high"]),
            row["band"] or "–",
            row["seeds"],
            _s(row["s"], row["ci_low"], row["ci_high"]) if row["seeds"] > 1 else None,
            PAPER_S.get(row["input"]),
            PAPER_BAND.get(row["input"], "–"),
        ]
        for row in rows
    ]
    weights: list[list[Cell]] = [
        [row["input"], *(f"{s:.0f} {band}" if s is not None else "–" for s, band in row["weightings"].values())]
        for row in rows
    ]
    head = [
        "Input",
        "S, % (95 % over people)",
        "band",
        "seeds",
        "S, % (95 % over seeds)",
        "paper's S, %",
        "paper's band",
    ]
    return [
        Table(
            "significance",
            "Significance S of each input, beside the paper's.",
            head,
            beside,
            "S = Σ w·R_inc / Σ w over k = 1, 3, 5, 10 with w = 1/k; the paper does not print its weights. Bands: 0 "
            "negligible, to 20 minor, to 40 moderate, to 60 considerable, to 80 significant, above profound; below "
            "zero, where the paper has no word, harmful. ?: no end, as nobody is found without the input in some "
            "draws.",
        ),
        Table(
            "significance-weights",
            "How S hangs on the weights.",
            ["Input", *WEIGHTINGS],
            weights,
            "Percent, and the band it falls into.",
        ),
    ]


def _increase(row: dict[str, Any] | None) -> Cell:
    return None if row is None or row["increase"] is None else Number(row["increase"], digits=0)


def _s(s: float | None, low: float | None, high: float | None) -> Cell:
    return None if s is None else Number(s, low, high, 0)
