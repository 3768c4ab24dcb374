"""Gender, ethnicity and age of generated faces against those of the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.evaluation.interval import Estimate, Z, bootstrap_mean
from slf_store.query.draw import age_group

if TYPE_CHECKING:
    from slf_store.evaluation.estimate import Estimator
    from slf_store.evaluation.probes import Probes

RECALLED = ("gender", "ethnicity", "age_group")
NOBODY = "none"
"""Estimator of the baseline `random`."""
Said = Mapping[str, Any]
"""Age (years), gender, ethnicity; what is not stated is None or not there."""

TRUTHS = text("""
    -- What metadata files and one estimator say of real faces.
    SELECT clip_id, name, coalesce(value_text, CAST(value_number AS text)) AS value,
           CASE WHEN constituent_id IS NULL THEN 'metadata' ELSE source END AS truth
    FROM attribute
    WHERE clip_id = ANY(CAST(:clips AS bigint[])) AND name IN ('age', 'gender', 'ethnicity')
      AND (constituent_id IS NULL OR constituent_id = :estimator)
""")

ESTIMATES = text("""
    -- What the estimator says of generated faces.
    SELECT generation.clip_id, said.age, said.gender, said.ethnicity
    FROM generation_attribute said JOIN generation ON generation.id = said.generation_id
    WHERE said.constituent_id = :estimator AND said.generation_id = ANY(CAST(:generations AS bigint[]))
""")

KEEP = text("""
    INSERT INTO attribute_metric (evaluation_id, attribute, truth, estimator, value, ci_low, ci_high, n, missed)
    VALUES (:evaluation, :attribute, :truth, :estimator, :value, :low, :high, :n, :missed)
    ON CONFLICT DO NOTHING  -- of random: two estimators beside one metadata file
""")


@dataclass(frozen=True)
class Truths:
    """What is stated of real faces: {who states it: {clip: what}}; who: `metadata`, or the estimator's name."""

    by: dict[str, dict[int, Said]]

    @classmethod
    def read(cls, connection: Connection, clips: NDArray[np.int64], estimator: Estimator) -> Truths:
        """Statements about (n,) clips."""
        by: dict[str, dict[int, dict[str, Any]]] = {}
        for row in connection.execute(TRUTHS, {"clips": clips.tolist(), "estimator": estimator.constituent_id}):
            said = by.setdefault(row.truth, {}).setdefault(row.clip_id, {})
            said[row.name] = float(row.value) if row.name == "age" else row.value
        return cls({truth: dict(said) for truth, said in sorted(by.items())})

    def stated_by(self, who: str) -> list[str]:
        """Which of gender, ethnicity, age group and age somebody states of any face."""
        said = self.by.get(who, {}).values()
        return [name for name in (*RECALLED, "age") if any(_value(one, name) is not None for one in said)]


@dataclass(frozen=True)
class Scored:
    """One attribute of every probe, as an estimator sees it, against one truth.

    Attributes:
        attribute: gender, ethnicity, age_group or age.
        truth, estimator: who says it of the real face, and of the generated one.
        values: (n,) float64: 1 where they agree, else 0; of age the squared difference, years². nan: no truth is
            stated, or of age no estimate.
        missed: probes with a truth and no estimate.
    """

    attribute: str
    truth: str
    estimator: str
    values: NDArray[np.float64]
    missed: int

    def estimate(self, identities: NDArray[np.int64], members: NDArray[np.bool_], *, seed: int) -> Estimate | None:
        """Recall, or root mean square error, of some of the probes; None where nothing is stated of them."""
        use = members & ~np.isnan(self.values)
        if not use.any():
            return None
        found = bootstrap_mean(self.values[use], identities[use], seed=seed)
        return _root(found) if self.attribute == "age" else found


def score(connection: Connection, probes: Probes, truths: Truths, estimator: Estimator) -> list[Scored]:
    """Compare what an estimator says of generated faces with what is said of the real ones.

    The paper compares an estimator's labels of the generated face with the same estimator's labels of the real one
    (section 4); where a metadata file states an attribute, it is a second truth. A generated face in which the
    estimator finds no face is a miss of the recalls, and left out of the age error; `missed` counts both.
    """
    values = {"estimator": estimator.constituent_id, "generations": probes.generations.tolist()}
    said: dict[int, Said] = {row["clip_id"]: dict(row) for row in connection.execute(ESTIMATES, values).mappings()}
    scored = []
    for truth, real in truths.by.items():
        for attribute in truths.stated_by(estimator.name):
            pairs = [
                (_value(said.get(clip, {}), attribute), _value(real.get(clip, {}), attribute))
                for clip in probes.clips.tolist()
            ]
            missed = sum(estimated is None and stated is not None for estimated, stated in pairs)
            scores = np.array([_compared(attribute, *pair) for pair in pairs], np.float64)
            scored.append(Scored(attribute, truth, estimator.name, scores, missed))
    return scored


def _compared(attribute: str, estimated: Any, stated: Any) -> float:
    if stated is None or (attribute == "age" and estimated is None):
        return float("nan")
    return float((estimated - stated) ** 2) if attribute == "age" else float(estimated == stated)


def attribute_rows(scored: Sequence[Scored], identities: NDArray[np.int64], *, seed: int) -> list[dict[str, Any]]:
    """Rows of `attribute_metric`: recall of gender, ethnicity, age group (decades); root mean square error of age."""
    everybody = np.ones(len(identities), bool)
    rows = []
    for one in scored:
        found = one.estimate(identities, everybody, seed=seed)
        if found is not None:
            rows.append(
                {"attribute": one.attribute, "truth": one.truth, "estimator": one.estimator, "missed": one.missed}
                | _shown(found)
            )
    return rows


def chance_attribute_rows(clips: NDArray[np.int64], gallery: NDArray[np.int64], truths: Truths) -> list[dict[str, Any]]:
    """The same of random selection: the attribute of one real face drawn from the gallery; exact expectation.

    The interval is that of the mean of n independent draws, by the normal approximation, inside 0 to 1 for a recall.
    """
    rows = []
    for truth, real in truths.by.items():
        for attribute in truths.stated_by(truth):
            stated = [_value(real.get(clip, {}), attribute) for clip in clips.tolist()]
            own = [value for value in stated if value is not None]
            drawn = [_value(real.get(clip, {}), attribute) for clip in gallery.tolist()]
            others = [value for value in drawn if value is not None]
            if not own or not others:
                continue
            labels, counts = np.unique(np.array(others), return_counts=True)
            mine = np.array(own)[:, None]
            outcome = (mine - labels) ** 2 if attribute == "age" else (mine == labels).astype(np.float64)
            share = counts / counts.sum()
            means = outcome @ share
            variance = float(((outcome**2) @ share - means**2).clip(0).sum()) / len(own) ** 2
            value, error = float(means.mean()), Z * float(np.sqrt(variance))
            found = Estimate(value, max(0.0, value - error), value + error, len(own))
            found = _root(found) if attribute == "age" else Estimate(value, found.low, min(1.0, found.high), len(own))
            rows.append({"truth": truth, "estimator": NOBODY, "attribute": attribute, "missed": 0, **_shown(found)})
    return rows


def keep_attributes(connection: Connection, evaluation: int, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of :func:`attribute_rows` or :func:`chance_attribute_rows`."""
    if rows:
        connection.execute(KEEP, [{"evaluation": evaluation, **row} for row in rows])


def _value(said: Said, attribute: str) -> Any:
    return age_group(said.get("age")) if attribute == "age_group" else said.get(attribute)


def _root(squared: Estimate) -> Estimate:
    value, low, high = (float(np.sqrt(x)) for x in (squared.value, squared.low, squared.high))
    return Estimate(value, low, high, squared.n)


def _shown(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
