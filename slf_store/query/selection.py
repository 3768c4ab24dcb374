"""Selection: an SQL predicate over the view `clips`, and what of it can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from psycopg.errors import Error
from sqlalchemy import text

from slf_store.db.readonly import read_only
from slf_store.errors import SelectionError
from slf_store.query.layout import Layout, layout
from slf_store.query.systems import ATTRIBUTES, System, system
from slf_store.query.values import active_constituent

if TYPE_CHECKING:
    from slf_store.store import Store

Missing = Literal["error", "skip", "zero"]
IMAGES = ("target", "image_guide")
"""Constituents every selection needs: without them there is nothing to train on or to be guided by."""

DONE = text("""
    -- Which of the selected clips have a constituent.
    SELECT clip_id FROM extraction
    WHERE constituent_id = :constituent AND state = 'done' AND clip_id = ANY(:clip_ids)
""")
AVAILABLE = text("SELECT DISTINCT name FROM constituent WHERE status = 'active' AND kind = 'array'")


@dataclass(frozen=True)
class Selection:
    """Clips that fit a predicate, in natural order (source, split, identity, video, clip).

    Attributes:
        predicate: SQL text over the view `clips`.
        system: system whose inputs are asked for.
        layout: where they go in the conditioning matrix.
        constituents: array constituents asked for that the store has, images first.
        unavailable: inputs of the system that no extractor of this store has made.
        rows: rows of the view `clips`, without the skipped ones.
        lacking: clips without a constituent, by constituent, before any was skipped.
        missing: what is done about them.
        skipped: clips left out for lacking something.
    """

    predicate: str
    system: System
    layout: Layout
    constituents: tuple[str, ...]
    unavailable: tuple[str, ...]
    rows: Sequence[dict[str, Any]]
    lacking: dict[str, int]
    missing: Missing
    skipped: int
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def clip_ids(self) -> NDArray[np.int64]:
        """(n,) int64."""
        return np.array([row["clip_id"] for row in self.rows], np.int64)


def select(
    store: Store,
    predicate: str = "true",
    *,
    system_name: str = "full-input",
    layout_name: str = "slf-256x768",
    missing: Missing = "error",
    per_identity: int | None = None,
) -> Selection:
    """Find the clips that fit a predicate and say what they lack; nothing is read from shards.

    Args:
        store: open store.
        predicate: SQL over the columns of the view `clips`; evaluated read-only, as `slf_researcher`.
        system_name: whose inputs to ask for.
        layout_name: layout of the conditioning matrix, or a FILE.toml that holds one.
        missing: about clips that lack an input: `error` refuses, `skip` leaves them out, `zero` keeps them with that
            input zero and masked. A clip without a face is always left out, and counted.
        per_identity: at most so many clips of each identity, each from another video while there are any.

    Raises:
        SelectionError: the predicate is no valid SQL condition, selects nothing, or clips lack inputs under `error`.
    """
    chosen, plan = system(system_name), layout(layout_name, store)
    rows = _matching(store, predicate)
    with store.engine.connect() as connection:
        available = set(connection.execute(AVAILABLE).scalars())
        inputs = [block.name for block in plan.blocks if block.name in chosen.inputs]
        constituents = [*IMAGES, *(name for name in inputs if name in available)]
        ids = [row["clip_id"] for row in rows]
        have = {
            name: set(
                connection.execute(
                    DONE, {"constituent": active_constituent(connection, name)["id"], "clip_ids": ids}
                ).scalars()
            )
            for name in constituents
        }
    lacking = {name: sum(clip not in found for clip in ids) for name, found in have.items()}
    needed = constituents if missing == "skip" else IMAGES
    kept = [row for row in rows if all(row["clip_id"] in have[name] for name in needed)]
    short = {name: count for name, count in lacking.items() if count and name not in IMAGES}
    if missing == "error" and (short or len(kept) < len(rows)):
        raise SelectionError(
            f"{len(rows)} clips fit, but some lack constituents: "
            + ", ".join(f"{name} {count}" for name, count in lacking.items() if count),
            hint="run `slf extract`, or say what to do: --missing skip (leave them out) or --missing zero (mask them)",
        )
    skipped = len(rows) - len(kept)
    if per_identity is not None:
        kept = _limit_per_identity(kept, per_identity)
    if not kept:
        raise SelectionError(
            f"no clip fits {predicate!r}" if not rows else f"{len(rows)} clips fit {predicate!r}, none has all inputs",
            hint='see `slf sql "SELECT * FROM clips LIMIT 5"` and `slf coverage`',
        )
    return Selection(
        predicate,
        chosen,
        plan,
        tuple(constituents),
        tuple(name for name in inputs if name not in available and name not in ATTRIBUTES),
        kept,
        lacking,
        missing,
        skipped,
        _counts(kept),
    )


def _matching(store: Store, predicate: str) -> list[dict[str, Any]]:
    """Rows of `clips` that fit, in natural order, evaluated as a read-only researcher."""
    statement = sql.SQL("SELECT * FROM clips WHERE state = 'ok' AND ({})").format(sql.SQL(predicate + "\n"))
    with read_only(store.engine, "researcher", store.settings.statement_timeout_s) as cursor:
        try:
            cursor.execute(statement, prepare=True)
            rows = cursor.fetchall()
        except Error as error:
            raise SelectionError(
                f"predicate {predicate!r}: {str(error).strip().partition(chr(10))[0]}",
                hint="write a condition over the view clips, e.g. \"gender = 'f' AND duration_s >= 5\"",
            ) from None
    return sorted(rows, key=lambda row: (row["source"], row["split"], row["identity"], row["video"], row["clip"]))


def _limit_per_identity(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The first clips of each identity, taking its videos in turn."""
    if limit < 1:
        raise SelectionError(f"--per-identity {limit}: at least 1 clip of each identity is needed")
    turn: Counter[tuple[str, str, str]] = Counter()
    ranked = []
    for row in rows:
        video = (row["source"], row["identity"], row["video"])
        ranked.append((turn[video], row))
        turn[video] += 1
    taken: Counter[tuple[str, str]] = Counter()
    keep: set[int] = set()
    for _, row in sorted(ranked, key=lambda pair: pair[0]):
        identity = (row["source"], row["identity"])
        if taken[identity] < limit:
            taken[identity] += 1
            keep.add(row["clip_id"])
    return [row for row in rows if row["clip_id"] in keep]


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a person wants to know before freezing."""
    ages = Counter(f"{int(row['age'] // 10) * 10}s" if row["age"] is not None else "unknown" for row in rows)
    return {
        "clips": len(rows),
        "identities": len({(row["source"], row["identity"]) for row in rows}),
        "hours": round(sum(row["duration_s"] or 0 for row in rows) / 3600, 3),
        "split": dict(Counter(row["split"] for row in rows)),
        "gender": dict(Counter(row["gender"] or "unknown" for row in rows)),
        "age_group": dict(sorted(ages.items())),
        "ethnicity": dict(Counter(row["ethnicity"] or "unknown" for row in rows)),
        "language": dict(Counter(row["language"] or "unknown" for row in rows)),
        "synthetic": sum(bool(row["synthetic"]) for row in rows),
    }
