"""Selection: an SQL predicate over the view `clips`, and what of it can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, text

from slf_store.errors import SelectionError
from slf_store.query import draw
from slf_store.query.clips import Columns, as_sql, keys, matching, take
from slf_store.query.layout import Layout, layout
from slf_store.query.locate import hold_clips
from slf_store.query.systems import ATTRIBUTES, System, find_system
from slf_store.query.values import active_constituent

if TYPE_CHECKING:
    from slf_store.store import Store

Missing = Literal["error", "skip", "zero"]
IMAGES = ("target", "image_guide")
"""Constituents every selection needs: without them there is nothing to train on or to be guided by."""

LACK = text("""
    -- Which of the clips held lack a constituent: usually few.
    SELECT position FROM held_clip
    WHERE NOT EXISTS (SELECT FROM extraction
                      WHERE extraction.constituent_id = :constituent AND extraction.clip_id = held_clip.clip_id
                        AND extraction.state = 'done')
""")
AVAILABLE = text("SELECT DISTINCT name FROM constituent WHERE status = 'active' AND kind = 'array'")


@dataclass(frozen=True)
class Selection:
    """Clips that fit a predicate, in natural order (split, identity, video, clip).

    Attributes:
        predicate: SQL text over the view `clips`.
        system: system whose inputs are asked for.
        layout: where they go in the conditioning matrix.
        constituents: array constituents asked for that the store has, images first.
        unavailable: inputs of the system that no extractor of this store has made.
        columns: of the view `clips`, without what was left out: {column: (n,)}.
        lacking: clips that fit and lack a constituent, by constituent.
        missing: what is done about them.
        policies: what each of error, skip and zero does, whatever was chosen.
        left_out: clips that fit and are not in the selection, by reason.
        chosen: how it was chosen: system, per_identity, balance, sample, limit, seed.
        counts: clips, identities, hours; distribution by split, gender, age group, ethnicity, language.
    """

    predicate: str
    system: System
    layout: Layout
    constituents: tuple[str, ...]
    unavailable: tuple[str, ...]
    columns: Columns
    lacking: dict[str, int]
    missing: Missing
    policies: dict[str, dict[str, Any]]
    left_out: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def clip_ids(self) -> NDArray[np.int64]:
        """(n,) int64."""
        return self.columns["clip_id"]

    @property
    def skipped(self) -> int:
        """Clips left out for lacking something."""
        return self.left_out.get("lacking", 0)

    def report(self) -> dict[str, Any]:
        """What to know before freezing: counts, what is missing, and what each policy does about it."""
        return {
            **self.counts,
            "lacking": {name: count for name, count in self.lacking.items() if count},
            "missing": self.missing,
            "policies": self.policies,
            "left_out": {reason: count for reason, count in self.left_out.items() if count},
            "not_extracted_in_this_store": list(self.unavailable),
        }


def select(
    store: Store,
    predicate: str | ColumnElement[bool] = "true",
    *,
    system_name: str = "full-input",
    layout_name: str = "slf-256x768",
    missing: Missing = "error",
    per_identity: int | None = None,
    balance: Sequence[str] = (),
    sample: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Selection:
    """Find the clips that fit a predicate and say what they lack; nothing is read from shards.

    The choices apply in this order: missing, per_identity, balance, sample, limit. Clips are drawn by the hash of their
    natural key and the seed: the same data gives the same choice on any machine.

    Args:
        store: open store.
        predicate: SQL over the columns of the view `clips`, or a SQLAlchemy expression over
            :data:`slf_store.query.clips.clips`; evaluated read-only, as researchers read.
        system_name: whose inputs to ask for: a built-in system or one of the store's.
        layout_name: layout of the conditioning matrix, or a FILE.toml that holds one.
        missing: about clips that lack an input: `error` has :func:`slf_store.query.snapshot.freeze` refuse, `skip`
            leaves them out, `zero` keeps them with that input zero and masked. A clip without a face is always left
            out, and counted.
        per_identity: at most so many clips of each identity, each from another video while there are any.
        balance: equal numbers of every combination of these that occurs; of gender, ethnicity, language, age_group,
            split. Clips that state none are left out, and counted.
        sample: so many clips drawn at random; with `balance`, an equal share of each group.
        limit: the first so many in natural order.
        seed: of the draws.

    Raises:
        SelectionError: the predicate is no valid SQL condition, selects nothing, or the same clip from two sources.
    """
    condition, chosen, plan = as_sql(predicate), find_system(store, system_name), layout(layout_name, store)
    columns = matching(store, condition)
    refuse_twins(columns)
    n = len(columns["clip_id"])
    inputs = [block.name for block in plan.blocks if block.name in chosen.inputs]
    with store.engine.begin() as connection:
        available = set(connection.execute(AVAILABLE).scalars())
        constituents = [*IMAGES, *(name for name in inputs if name in available)]
        hold_clips(connection, columns["clip_id"])
        lack = {
            name: np.array(
                connection.execute(LACK, {"constituent": active_constituent(connection, name)["id"]}).scalars().all(),
                np.int64,
            )
            for name in constituents
        }
    faceless, short = np.zeros(n, bool), np.zeros(n, bool)
    for name, positions in lack.items():
        (faceless if name in IMAGES else short)[positions] = True
    keep = ~(faceless | short) if missing == "skip" else ~faceless
    left_out = {"lacking": int(n - keep.sum())}
    kept = take(columns, keep)

    def narrow(reason: str, which: NDArray[np.int64]) -> None:
        nonlocal kept
        left_out[reason] = len(kept["clip_id"]) - len(which)
        kept = take(kept, which)

    if per_identity is not None:
        narrow("per_identity", draw.per_identity(kept, per_identity))
    for name, number in (("sample", sample), ("limit", limit)):
        if number is not None and number < 1:
            raise SelectionError(f"--{name} {number}: at least 1 clip is needed")
    if balance:
        found = draw.groups(kept, balance, store.settings.ethnicity_mapping)
        left_out["unknown"] = len(kept["clip_id"]) - sum(map(len, found.values()))
        narrow("balance", draw.balanced(kept, found, seed, sample))
        left_out["balance"] -= left_out["unknown"]
    elif sample is not None:
        narrow("sample", np.sort(draw.ranks(kept, seed)[:sample]))
    if limit is not None:
        narrow("limit", np.arange(min(limit, len(kept["clip_id"]))))
    if not len(kept["clip_id"]):
        raise SelectionError(
            f"no clip fits {condition!r}"
            if not n
            else f"{n} clips fit {condition!r}, none is left: "
            + ", ".join(f"{reason} {count}" for reason, count in left_out.items() if count),
            hint='see `slf sql "SELECT * FROM clips LIMIT 5"` and `slf coverage`',
        )
    choice = {"per_identity": per_identity, "balance": list(balance) or None, "sample": sample, "limit": limit}
    return Selection(
        condition,
        chosen,
        plan,
        tuple(constituents),
        tuple(name for name in inputs if name not in available and name not in ATTRIBUTES),
        kept,
        {name: len(positions) for name, positions in lack.items()},
        missing,
        _policies(n, faceless, short, {name: found for name, found in lack.items() if name not in IMAGES}),
        left_out,
        {"system": system_name, "seed": seed} | {name: value for name, value in choice.items() if value is not None},
        counts(kept),
    )


def refuse_twins(columns: Columns) -> None:
    """A clip is its natural key: one that two sources have would stand twice in a snapshot, under one name.

    Raises:
        SelectionError: there is such a clip; names it and its sources.
    """
    names = keys(columns)
    twins = [
        (one, two)
        for one, two in zip(range(len(names)), range(1, len(names)), strict=False)
        if names[one] == names[two]
    ]
    if twins:
        one, two = twins[0]
        sources = columns["source"][one], columns["source"][two]
        raise SelectionError(
            f"{len(twins)} clips are there twice, the first: {names[one]} in sources {sources[0]!r} and {sources[1]!r}",
            hint=f"choose one in the predicate: source = '{sources[0]}'",
        )


def _policies(
    n: int, faceless: NDArray[np.bool_], short: NDArray[np.bool_], lack: dict[str, NDArray[np.int64]]
) -> dict[str, dict[str, Any]]:
    """What each policy does to the clips that fit, before any other choice."""
    complete, usable = int((~(faceless | short)).sum()), int((~faceless).sum())
    masked = {name: int((~faceless[positions]).sum()) for name, positions in lack.items()}
    return {
        "error": {"refused": complete < n, "clips": n if complete == n else 0},
        "skip": {"clips": complete, "left_out": n - complete},
        "zero": {"clips": usable, "left_out": n - usable, "masked": {k: v for k, v in masked.items() if v}},
    }


def counts(columns: Columns) -> dict[str, Any]:
    """What a person wants to know before freezing."""
    ages = Counter(draw.age_group(age) or "unknown" for age in columns["age"].tolist())

    def by(name: str) -> dict[str, int]:
        return {label or "unknown": count for label, count in Counter(columns[name].tolist()).most_common()}

    return {
        "clips": len(columns["clip_id"]),
        "identities": len(set(columns["identity"].tolist())),
        "hours": round(float(columns["duration_s"].sum()) / 3600, 3),
        "split": by("split"),
        "gender": by("gender"),
        "age_group": dict(sorted(ages.items())),
        "ethnicity": by("ethnicity"),
        "language": by("language"),
        "synthetic": int(sum(columns["synthetic"].tolist())),
    }
