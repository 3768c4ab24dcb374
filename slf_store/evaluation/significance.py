"""Significance of each input (paper, Eq. 3 and 4), its intervals, and how much it hangs on the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.evaluation.interval import DRAWS, LEVEL
from slf_store.evaluation.measure import KS
from slf_store.evaluation.scores import Scores

if TYPE_CHECKING:
    from slf_store.store import Store

Weights = tuple[float, float, float, float]
"""Of the recall increases at k = 1, 3, 5, 10."""

PAPER_INPUTS = ("image guide", "audio", "speaker embeddings", "additional attributes")
"""Inputs the paper gives an S for, in its order."""
BY_K: Weights = (1.0, 1 / 3, 1 / 5, 1 / 10)
WEIGHTINGS: dict[str, Weights] = {
    "1/k": BY_K,
    "1/√k": (1.0, 3**-0.5, 5**-0.5, 10**-0.5),
    "1/log2(k+1)": (1.0, 0.5, float(1 / np.log2(6)), float(1 / np.log2(11))),
    "equal": (1.0, 1.0, 1.0, 1.0),
    "k = 1 alone": (1.0, 0.0, 0.0, 0.0),
    "k = 10 alone": (0.0, 0.0, 0.0, 1.0),
}
"""The paper says only that smaller k weigh more, not how much: S is shown with these."""

KEY = ("snapshot", "preset", "gallery", "part", "embedding", "distance", "steps", "without_system")

SIGNIFICANCE = """
    SELECT * FROM significance(:w1, :w3, :w5, :w10)
    WHERE (CAST(:gallery AS text) IS NULL OR gallery = :gallery)
    ORDER BY snapshot, preset, gallery, part, embedding, distance DESC, steps,
             array_position(CAST(:inputs AS text[]), input), input
"""
PAIRS = """
    -- Evaluations that a recall increase compares, seed by seed.
    SELECT DISTINCT increase.run_seed, everything.id AS everything, less.id AS less, everything.seed
    FROM recall_increase increase
    JOIN evaluation everything ON everything.scale = increase.scale_all AND everything.steps = increase.steps
                              AND everything.part = increase.part AND everything.distance = increase.distance
    JOIN run ON run.id = everything.run_id AND run.name = increase.run_all AND run.system = everything.system
    JOIN snapshot gallery ON gallery.id = everything.gallery_id AND gallery.name = increase.gallery
    JOIN constituent ON constituent.id = everything.constituent_id AND constituent.name = increase.embedding
    JOIN evaluation less ON less.scale = increase.scale_without AND less.steps = everything.steps
                        AND less.part = everything.part AND less.gallery_id = gallery.id
                        AND less.constituent_id = constituent.id AND less.seed = everything.seed
                        AND less.distance = everything.distance
    JOIN run other ON other.id = less.run_id AND other.name = increase.run_without AND other.system = less.system
    WHERE increase.snapshot = :snapshot AND increase.preset = :preset AND increase.gallery = :gallery
      AND increase.part = :part AND increase.embedding = :embedding AND increase.distance = :distance
      AND increase.steps = :steps
      AND increase.without_system = :without_system
    ORDER BY increase.run_seed, everything.seed
"""


def significance(store: Store, weights: Sequence[float] = BY_K, gallery: str | None = None) -> list[dict[str, Any]]:
    """Rows of the view `significance` with any weights, and what else says how sure they are.

    Args:
        store: open store.
        weights: of the recall increases at k = 1, 3, 5, 10; not all zero.
        gallery: only this gallery.

    Returns:
        One dictionary for each input: snapshot, preset, gallery, part, embedding, distance, steps, input,
        without_system, seeds, `s` (percent, None where a recall without the input is 0), `ci_low`, `ci_high` (95 % over
        seeds, None with one), `band`; `people_low`, `people_high` (95 % over identities of the gallery, bootstrap, None
        where it has no end); `weightings`: {name: (S, band)} for :data:`WEIGHTINGS`.

    Raises:
        ConfigError: the weights are not four numbers of at least 0 with one above.
        NotFoundInStore: no pair of systems has been evaluated on one gallery.
    """
    chosen = _weights(weights)
    rows = _rows(store, chosen, gallery)
    if not rows:
        where = "" if gallery is None else f" on snapshot {gallery!r}"
        raise NotFoundInStore(
            f"no input has a significance{where} yet: it takes full-input and a system that sees less, same snapshot, "
            "preset and seed",
            hint="run `slf ablate --on SNAPSHOT --gallery SNAPSHOT`",
        )
    others = {name: {_key(row): row for row in _rows(store, own, gallery)} for name, own in WEIGHTINGS.items()}
    for row in rows:
        row["people_low"], row["people_high"] = _over_people(store, row, chosen)
        row["weightings"] = {name: (found[_key(row)]["s"], found[_key(row)]["band"]) for name, found in others.items()}
    return rows


def weighted_increase(
    everything: NDArray[np.float64], less: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """S in percent (Eq. 3 and 4): Σ w·100·(R_all - R_without)/R_without / Σ w.

    Args:
        everything: (..., 4) recall at k = 1, 3, 5, 10 of full-input.
        less: the same of the system without the input.
        weights: four weights.

    Returns:
        (...,) S; infinite or NaN where a recall that counts is 0 without the input.

    >>> weighted_increase(np.array([0.2, 0.4, 0.5, 0.8]), np.array([0.1, 0.2, 0.5, 0.8]), (1, 1, 1, 1)).round(1).item()
    50.0
    """
    w = np.array(weights)
    counted = w > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        increase = 100 * (everything[..., counted] - less[..., counted]) / less[..., counted]
    s: NDArray[np.float64] = (increase * w[counted]).sum(axis=-1) / w.sum()
    return s


def _weights(weights: Sequence[float]) -> Weights:
    good = len(weights) == len(KS) and all(np.isfinite(w) and w >= 0 for w in weights) and sum(weights) > 0
    if not good:
        raise ConfigError(
            f"weights {', '.join(map(str, weights))}",
            hint="give four numbers of at least 0, not all 0, for k = 1, 3, 5, 10",
        )
    one, three, five, ten = (float(w) for w in weights)
    return one, three, five, ten


def _rows(store: Store, weights: Weights, gallery: str | None) -> list[dict[str, Any]]:
    named = dict(zip(("w1", "w3", "w5", "w10"), weights, strict=True))
    return list(store.query(SIGNIFICANCE, gallery=gallery, inputs=list(PAPER_INPUTS), **named))


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _over_people(store: Store, row: dict[str, Any], weights: Weights) -> tuple[float | None, float | None]:
    """95 % interval of S over identities: the same people drawn for both systems and every seed."""
    pairs = store.query(PAIRS, **{name: row[name] for name in KEY})
    scores = [(Scores.read(store, pair["everything"]), Scores.read(store, pair["less"])) for pair in pairs]
    drawn = [_drawn(full, less, weights) for full, less in scores if np.isin(full.clips, less.clips).any()]
    if not drawn:
        return None, None
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return tuple(float(end) if np.isfinite(end) else None for end in (low, high))  # type: ignore[return-value]


def _drawn(everything: Scores, less: Scores, weights: Weights) -> NDArray[np.float64]:
    """(draws,) S of bootstrap samples of identities that both evaluations have."""
    people = np.intersect1d(everything.identities, less.identities)
    times = np.random.default_rng(0).multinomial(len(people), np.full(len(people), 1 / len(people)), size=DRAWS)
    return weighted_increase(_recalls(everything, people, times), _recalls(less, people, times), weights)


def _recalls(scores: Scores, people: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.float64]:
    """(draws, 4) recall at each k when person i is drawn times[:, i] times."""
    inside = np.isin(scores.identities, people)
    person = np.searchsorted(people, scores.identities[inside])
    faces = np.bincount(person, minlength=len(people))
    hits = [np.bincount(person, scores.metric(f"recall@{k}")[inside], minlength=len(people)) for k in KS]
    recalls: NDArray[np.float64] = np.stack([times @ hit / (times @ faces) for hit in hits], axis=-1)
    return recalls
