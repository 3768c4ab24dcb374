"""Quality of what was extracted: how much is there, what the values look like, which ones are far from usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slf_store.errors import NotFoundInStore
from slf_store.store import Store

_WHERE = """
    WHERE (CAST(:source AS text) IS NULL OR source = :source)
      AND (CAST(:split AS text) IS NULL OR split = :split)
"""

CONSTITUENTS = f"""
    SELECT * FROM constituent_quality {_WHERE}
      AND (CAST(:constituent AS text) IS NULL OR constituent = :constituent)
    ORDER BY constituent, version, source, split
"""

ATTRIBUTES = f"""
    SELECT * FROM attribute_quality {_WHERE}
      AND (CAST(:constituent AS text) IS NULL OR stated_by = :constituent)
    ORDER BY attribute, stated_by, version, source, split
"""

AGREEMENT = f"""
    SELECT * FROM attribute_agreement {_WHERE}
      AND (CAST(:constituent AS text) IS NULL OR :constituent IN (first, second))
    ORDER BY attribute, first, first_version, second, second_version, source, split
"""

OUTLIERS = f"""
    SELECT * FROM quality_outliers {_WHERE}
      AND (CAST(:constituent AS text) IS NULL OR constituent = :constituent)
    ORDER BY distance DESC, constituent, version, clip_id, statistic
    LIMIT :limit
"""

KNOWN = """
    SELECT (CAST(:source AS text) IS NULL OR EXISTS (SELECT FROM source WHERE name = :source)) AS source,
           (CAST(:constituent AS text) IS NULL
            OR EXISTS (SELECT FROM constituent WHERE name = :constituent AND status = 'active')) AS constituent
"""


@dataclass(frozen=True)
class Part:
    """The part of the store to look at; None stands for all.

    Attributes:
        source: name of a registered source.
        split: dev or test.
        constituent: name of a constituent.
    """

    source: str | None = None
    split: str | None = None
    constituent: str | None = None


ALL = Part()


@dataclass(frozen=True)
class Quality:
    """Rows of the views `constituent_quality`, `attribute_quality` and `attribute_agreement`."""

    constituents: Sequence[dict[str, Any]]
    attributes: Sequence[dict[str, Any]]
    agreement: Sequence[dict[str, Any]]


def quality(store: Store, part: Part = ALL) -> Quality:
    """Measure the quality of a part of the store, in PostgreSQL.

    Raises:
        NotFoundInStore: there is no such source or constituent.

    Example::

        for row in quality(store, Part(split="test")).constituents:
            print(row["constituent"], row["coverage"], row["p50"])
    """
    _check(store, part)
    names = asdict(part)
    return Quality(
        store.query(CONSTITUENTS, **names), store.query(ATTRIBUTES, **names), store.query(AGREEMENT, **names)
    )


def outliers(store: Store, part: Part = ALL, *, limit: int = 20) -> Sequence[dict[str, Any]]:
    """Rows of the view `quality_outliers`, the furthest from usual first.

    Raises:
        NotFoundInStore: there is no such source or constituent.
    """
    _check(store, part)
    return store.query(OUTLIERS, **asdict(part), limit=limit)


def _check(store: Store, part: Part) -> None:
    known = store.query(KNOWN, source=part.source, constituent=part.constituent)[0]
    if not known["source"]:
        raise NotFoundInStore(f"the store has no source {part.source!r}", hint="see `slf coverage` for what it has")
    if not known["constituent"]:
        raise NotFoundInStore(
            f"the store has no constituent {part.constituent!r}", hint="run `slf extract`, or see `slf coverage`"
        )
