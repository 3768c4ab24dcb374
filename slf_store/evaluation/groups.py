"""Metrics by gender, age group, ethnicity and language: does it work equally well for everybody?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.evaluation.attribute_recall import Scored
from slf_store.evaluation.chance import chance_recall
from slf_store.evaluation.interval import Estimate, bootstrap_means
from slf_store.evaluation.outcomes import Outcomes
from slf_store.query.draw import age_group

ATTRIBUTES = ("gender", "age_group", "ethnicity", "language")
UNKNOWN = "unknown"
"""Label of the probes whose attribute nobody states."""
NOBODY = "none"
"""Source of that label; truth and estimator of a metric that has none."""

LABELS = text("""
    -- Attributes of clips as the view `clips` prefers them, and who states them.
    SELECT clip_id, gender, gender_source, age, age_source AS age_group_source, ethnicity, ethnicity_source,
           language, language_source
    FROM clip_attribute WHERE clip_id = ANY(CAST(:clips AS bigint[]))
""")

KEEP = text("""
    INSERT INTO group_metric (evaluation_id, attribute, label, name, k, truth, estimator, value, ci_low, ci_high, n,
                              identities, source)
    VALUES (:evaluation, :attribute, :label, :name, :k, :truth, :estimator, :value, :low, :high, :n, :identities,
            :source)
""")


@dataclass(frozen=True)
class Group:
    """Probes of people who have one label of one attribute.

    Attributes:
        attribute: of :data:`ATTRIBUTES`.
        label: e.g. `f`, `30s`, or `unknown`.
        source: who says so: `metadata` or constituents, separated by a comma; `none` for unknown.
        members: (n,) bool, which probes.
    """

    attribute: str
    label: str
    source: str
    members: NDArray[np.bool_]


def find_groups(connection: Connection, clips: NDArray[np.int64]) -> list[Group]:
    """Every group among (n,) clips; each clip is in one group of each attribute."""
    rows = {row["clip_id"]: dict(row) for row in connection.execute(LABELS, {"clips": clips.tolist()}).mappings()}
    stated: list[dict[str, Any]] = [rows.get(clip, {}) for clip in clips.tolist()]
    for row in stated:
        row["age_group"] = age_group(row.get("age"))
    found = []
    for attribute in ATTRIBUTES:
        labels = np.array([row.get(attribute) or UNKNOWN for row in stated], object)
        for label in sorted(set(labels.tolist())):
            members = labels == label
            says = {row[f"{attribute}_source"] for row, member in zip(stated, members, strict=True)
                    if member and label != UNKNOWN}  # fmt: skip
            found.append(Group(attribute, label, ", ".join(sorted(says)) or NOBODY, members))
    return found


def group_rows(
    groups: Sequence[Group], outcomes: Outcomes, identities: NDArray[np.int64], ks: Sequence[int], *, seed: int
) -> list[dict[str, Any]]:
    """Recall@k, detected share, PSNR and SSIM of each group: rows of `group_metric`.

    Args:
        groups: :func:`find_groups`.
        outcomes: of n probes.
        identities: (n,) of the probes; the intervals draw people.
        ks: matches looked at.
        seed: of the bootstrap.
    """
    columns = [("recall", k, (outcomes.rank <= k).astype(np.float64)) for k in ks]
    columns.append(("detected", 0, outcomes.detected.astype(np.float64)))
    paired = ~np.isnan(outcomes.psnr)
    rows = []
    for group in groups:
        own = {**_shown(group), "identities": len(np.unique(identities[group.members]))}
        parts = [(columns, group.members)]
        if (group.members & paired).any():
            parts.append(([("psnr", 0, outcomes.psnr), ("ssim", 0, outcomes.ssim)], group.members & paired))
        for wanted, members in parts:
            values = np.stack([value[members] for _, _, value in wanted], axis=1)
            estimates = bootstrap_means(values, identities[members], seed=seed)
            rows += [_row(own, name, k, e) for (name, k, _), e in zip(wanted, estimates, strict=True)]
    return rows


def attribute_group_rows(
    groups: Sequence[Group], scored: Sequence[Scored], identities: NDArray[np.int64], *, seed: int
) -> list[dict[str, Any]]:
    """Recall of gender, ethnicity and age group, and the age error, of each group: rows of `group_metric`."""
    rows = []
    for group in groups:
        own = {**_shown(group), "identities": len(np.unique(identities[group.members]))}
        for one in scored:
            found = one.estimate(identities, group.members, seed=seed)
            if found is not None:
                name = "age_error" if one.attribute == "age" else f"{one.attribute}_recall"
                rows.append({**_row(own, name, 0, found), "truth": one.truth, "estimator": one.estimator})
    return rows


def chance_rows(
    groups: Sequence[Group],
    same: NDArray[np.int64],
    identities: NDArray[np.int64],
    gallery: int,
    ks: Sequence[int],
) -> list[dict[str, Any]]:
    """The same of random selection, exactly: see :func:`slf_store.evaluation.chance.chance_recall`."""
    return [
        _row(
            {**_shown(group), "identities": len(np.unique(identities[group.members]))},
            "recall",
            k,
            chance_recall(same[group.members], gallery, k),
        )
        for group in groups
        for k in ks
    ]


def keep_groups(connection: Connection, evaluation: int, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of :func:`group_rows`, :func:`attribute_group_rows` or :func:`chance_rows`."""
    if rows:
        connection.execute(KEEP, [{"evaluation": evaluation, **row} for row in rows])


def _shown(group: Group) -> dict[str, Any]:
    return {"attribute": group.attribute, "label": group.label, "source": group.source}


def _row(own: dict[str, Any], name: str, k: int, found: Estimate) -> dict[str, Any]:
    shown = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
    return {**own, "name": name, "k": k, "truth": NOBODY, "estimator": NOBODY, **shown}
