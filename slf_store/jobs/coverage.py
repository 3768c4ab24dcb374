"""Coverage added up: how many clips have which constituent, and why the others do not.

Read from the counts that triggers keep (view `extraction_state`) and from indexes, not from every row of `coverage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slf_store.store import Store

_PLACES = """
    wanted AS (
        SELECT place.id FROM place JOIN source ON source.id = place.source_id
        WHERE CAST(:source AS text) IS NULL OR source.name = :source
    ), active AS (
        SELECT id, name, version FROM constituent WHERE status = 'active'
    ), counted AS (
        SELECT constituent_id, place_id, state, error_code, sum(clips) AS clips, sum(timed) AS timed,
               sum(seconds) AS seconds
        FROM extraction_count
        WHERE place_id IN (SELECT id FROM wanted)
        GROUP BY constituent_id, place_id, state, error_code
    )
"""

SUMMARY = f"""
    WITH {_PLACES}, total AS (
        SELECT count(*) AS clips FROM clip WHERE place_id IN (SELECT id FROM wanted)
    ), state AS (
        SELECT constituent_id,
               coalesce(sum(clips) FILTER (WHERE state = 'done'), 0)::bigint   AS done,
               coalesce(sum(clips) FILTER (WHERE state = 'failed'), 0)::bigint AS failed,
               sum(seconds) / nullif(sum(timed), 0)                            AS seconds
        FROM counted GROUP BY constituent_id
    )
    SELECT active.name AS constituent, active.version,
           coalesce(state.done, 0)                                        AS done,
           coalesce(state.failed, 0)                                      AS failed,
           total.clips - coalesce(state.done, 0) - coalesce(state.failed, 0) AS missing,
           round(state.seconds::numeric, 4)::float8                       AS seconds_per_clip
    FROM active
    CROSS JOIN total
    LEFT JOIN state ON state.constituent_id = active.id
    WHERE total.clips > 0
    ORDER BY active.name, active.version
"""

REASONS = f"""
    WITH {_PLACES}, clip_state AS (
        SELECT reason, count(*) AS clips FROM clip WHERE place_id IN (SELECT id FROM wanted) GROUP BY reason
    ), vanished AS (
        -- Clips whose file is gone, and what is left of each constituent: few, so they are counted one by one.
        SELECT active.id AS constituent_id, count(*) AS clips
        FROM clip
        CROSS JOIN active
        WHERE clip.vanished_at IS NOT NULL AND clip.state = 'ok' AND clip.place_id IN (SELECT id FROM wanted)
          AND NOT EXISTS (SELECT FROM extraction
                          WHERE extraction.clip_id = clip.id AND extraction.constituent_id = active.id)
        GROUP BY active.id
    ), waiting AS (
        SELECT active.id AS constituent_id,
               coalesce(sum(counted.clips) FILTER (WHERE counted.state = 'pending'), 0) AS pending,
               coalesce(sum(counted.clips) FILTER (WHERE counted.state = 'leased'), 0)  AS leased,
               coalesce(sum(counted.clips), 0)                                          AS known
        FROM active
        LEFT JOIN counted ON counted.constituent_id = active.id
        GROUP BY active.id
    ), reasons AS (
        SELECT counted.constituent_id, 'failed' AS state, counted.error_code AS reason, sum(counted.clips) AS clips
        FROM counted WHERE counted.state = 'failed'
        GROUP BY counted.constituent_id, counted.error_code
        UNION ALL
        SELECT active.id, 'missing', clip_state.reason, clip_state.clips
        FROM active CROSS JOIN clip_state WHERE clip_state.reason IS NOT NULL
        UNION ALL
        SELECT waiting.constituent_id, 'missing', lacking.reason, lacking.clips
        FROM waiting
        LEFT JOIN vanished ON vanished.constituent_id = waiting.constituent_id
        CROSS JOIN LATERAL (VALUES
            ('pending', waiting.pending),
            ('leased', waiting.leased),
            ('vanished', coalesce(vanished.clips, 0)),
            ('not requested', coalesce((SELECT clips FROM clip_state WHERE reason IS NULL), 0) - waiting.known
                              - coalesce(vanished.clips, 0))
        ) AS lacking (reason, clips)
    )
    SELECT active.name AS constituent, reasons.state, reasons.reason, sum(reasons.clips)::bigint AS clips,
           min(CASE reasons.state
               WHEN 'failed' THEN (SELECT extraction.error_message FROM extraction
                                   WHERE extraction.constituent_id = active.id AND extraction.state = 'failed'
                                     AND extraction.error_code = reasons.reason
                                     AND extraction.place_id IN (SELECT id FROM wanted)
                                   ORDER BY extraction.clip_id LIMIT 1)
               ELSE (SELECT clip.message FROM clip
                     WHERE clip.reason = reasons.reason AND clip.state = 'quarantined'
                       AND clip.place_id IN (SELECT id FROM wanted)
                     ORDER BY clip.id LIMIT 1)
               END) AS example
    FROM reasons
    JOIN active ON active.id = reasons.constituent_id
    WHERE reasons.clips > 0
    GROUP BY active.name, reasons.state, reasons.reason
    ORDER BY active.name, clips DESC, reasons.reason
"""


def coverage_summary(store: Store, source: str | None = None) -> Sequence[dict[str, Any]]:
    """One row for each active constituent: clips done, failed, missing."""
    return store.query(SUMMARY, source=source)


def coverage_reasons(store: Store, source: str | None = None) -> Sequence[dict[str, Any]]:
    """One row for each constituent and reason why clips lack it, with the message of one of them."""
    return store.query(REASONS, source=source)
