"""Names and units of metrics as the report prints them; one that is not known here is printed under its own name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slf_store.evaluation.reporting.study import Result
from slf_store.evaluation.reporting.table import Number, number

RANKED = {"recall": "recall", "identity_recall": "recall by person"}
"""Metrics with a k."""
NAMES = {"psnr": "PSNR, dB", "ssim": "SSIM", "frechet": "Fréchet distance of embeddings", "fid": "FID",
         "mse": "MSE", "age_error": "age RMSE, years", "age_group_recall": "age-group recall, %"}  # fmt: skip
DIGITS = {"psnr": 2, "ssim": 3, "frechet": 3, "fid": 1, "age_error": 1}


def is_share(name: str) -> bool:
    """Whether a metric is printed in percent."""
    return "recall" in name or name == "detected"


def label(name: str, k: int = 0) -> str:
    """Column head of a metric.

    >>> label("recall", 5), label("psnr"), label("mystery"), label("mystery_recall", 3)
    ('recall@5', 'PSNR, dB', 'mystery', 'mystery recall@3, %')
    """
    if k:
        name = RANKED.get(name, name.replace("_", " ") + (", %" if is_share(name) else ""))
        head, comma, unit = name.partition(", ")
        return f"{head}@{k}{comma}{unit}"
    return NAMES.get(name, name.replace("_", " ") + (", %" if is_share(name) else ""))


def value(result: Result, name: str, k: int = 0) -> Number | None:
    """A metric of a result as printed."""
    share = is_share(name)
    return number(result.metrics.get((name, k)), DIGITS.get(name, 1 if share else 3), 100 if share else 1)


def ks(results: Iterable[Result], name: str = "recall") -> list[int]:
    """Every k of a ranked metric."""
    return sorted({k for result in results for metric, k in result.metrics if metric == name and k})


def plain(results: Sequence[Result]) -> list[tuple[str, int]]:
    """Every other metric, known ones first."""
    order = list(NAMES)
    found = {key for result in results for key in result.metrics if key[0] not in RANKED}
    return sorted(found, key=lambda m: (order.index(m[0]) if m[0] in order else len(order), m))
