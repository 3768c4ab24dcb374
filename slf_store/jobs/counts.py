"""The counts of extractions: rows that triggers add, folded into one for each state now and then."""

from __future__ import annotations

import random

from sqlalchemy import Engine, text

from slf_store.db.locks import FOLD_LOCK

SHARE_OF_CLAIMS = 1 / 32
"""How many claims fold the counts: between two of them a few thousand rows are added."""

FOLD = text("""
    -- Replace the rows there are by their sums. Rows that others add meanwhile are left alone; of two that fold at
    -- once the second goes away.
    WITH turn AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(:key) AS mine
    ), gone AS (
        DELETE FROM extraction_count USING turn WHERE turn.mine
        RETURNING constituent_id, place_id, state, error_code, clips, timed, seconds
    )
    INSERT INTO extraction_count (constituent_id, place_id, state, error_code, clips, timed, seconds)
    SELECT constituent_id, place_id, state, error_code, sum(clips), sum(timed), sum(seconds)
    FROM gone GROUP BY constituent_id, place_id, state, error_code
    HAVING sum(clips) <> 0 OR sum(timed) <> 0
""")


def fold(engine: Engine) -> None:
    """Fold the counts, so that adding them up stays fast."""
    with engine.begin() as connection:
        connection.execute(FOLD, {"key": FOLD_LOCK})


def fold_now_and_then(engine: Engine) -> None:
    """Fold the counts in one of many calls."""
    if random.random() < SHARE_OF_CLAIMS:
        fold(engine)
