"""Overview (coverage, storage, flows' last runs) and quality."""

from __future__ import annotations

import shutil
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slf_store.explorer.explorer import PAGE, Explorer, number
from slf_store.explorer.flow_runs import last_runs

COUNTS = """
    WITH person AS (
        SELECT count(*) AS clips, sum(duration_s) AS seconds,
               count(*) FILTER (WHERE state = 'quarantined') AS quarantined,
               count(*) FILTER (WHERE vanished_at IS NOT NULL) AS vanished, bool_and(synthetic) AS synthetic
        FROM clips GROUP BY source, identity
    )
    SELECT coalesce(sum(clips), 0)::bigint AS clips, count(*) AS identities, coalesce(sum(seconds), 0) / 3600 AS hours,
           coalesce(sum(quarantined), 0)::bigint AS quarantined, coalesce(sum(vanished), 0)::bigint AS vanished,
           coalesce(bool_and(synthetic), false) AS synthetic
    FROM person
"""
COVERAGE = """
    -- From the counts that triggers keep: the same at any size of the store.
    SELECT constituent, version,
           coalesce(sum(clips) FILTER (WHERE state = 'done'), 0)::bigint AS done,
           coalesce(sum(clips) FILTER (WHERE state = 'failed'), 0)::bigint AS failed,
           (sum(seconds) / nullif(sum(timed), 0))::float8 AS seconds_per_clip
    FROM extraction_state GROUP BY constituent, version ORDER BY constituent, version
"""
FAILURES = """
    SELECT constituent, error_code AS reason, sum(clips)::bigint AS clips
    FROM extraction_state WHERE state = 'failed'
    GROUP BY constituent, error_code ORDER BY clips DESC, constituent LIMIT 20
"""
STORAGE = """
    SELECT constituent.name AS constituent, count(*) AS shards, sum(shard.rows)::bigint AS rows,
           sum(shard.bytes)::bigint AS bytes
    FROM shard JOIN constituent ON constituent.id = shard.constituent_id
    GROUP BY constituent.name ORDER BY bytes DESC
"""
DATABASE = "SELECT pg_database_size(current_database()) AS bytes"
RESULTS = """
    SELECT (SELECT count(*) FROM snapshot) AS snapshots, (SELECT count(*) FROM run) AS runs,
           (SELECT count(*) FROM generation) AS generated_faces, (SELECT count(*) FROM evaluation) AS evaluations
"""

CONSTITUENTS = """
    SELECT constituent, version, source, split, coverage, failed, missing, null_rate, identical_rate, value_min,
           p50, value_max
    FROM constituent_quality ORDER BY constituent, version, source, split
"""
ATTRIBUTES = """
    SELECT attribute, stated_by, source, split, stated, null_rate, labels, p05, p50, p95, score_mean
    FROM attribute_quality ORDER BY attribute, stated_by, version, source, split
"""
OUTLIERS = """
    SELECT clip_id, constituent, identity || '/' || video || '/' || clip AS clip, statistic, value, low, high, distance
    FROM quality_outliers ORDER BY distance DESC, constituent, version, clip_id, statistic
    LIMIT :limit OFFSET :offset
"""


def overview(explorer: Explorer, request: Request) -> Response:
    """What the store holds."""
    shown: dict[str, Any] = {"counts": explorer.rows(COUNTS)[0], "coverage": explorer.rows(COVERAGE)}
    shown |= {"failures": explorer.rows(FAILURES), "database": explorer.rows(DATABASE)[0]["bytes"]}
    if explorer.role == "researcher":
        home = explorer.owner.settings.home
        shown |= {
            "storage": explorer.rows(STORAGE), "results": explorer.rows(RESULTS)[0],
            "free": shutil.disk_usage(home).free, "flows": last_runs(explorer.owner.engine, home),
        }  # fmt: skip
    return explorer.page(request, "overview", **shown)


def quality(explorer: Explorer, request: Request) -> Response:
    """Whether values look right; read from every extraction, so of a large store it takes its time."""
    skip = number(request, "skip", 0, 10**6)
    return explorer.page(
        request, "quality", constituents=explorer.rows(CONSTITUENTS), attributes=explorer.rows(ATTRIBUTES),
        outliers=explorer.rows(OUTLIERS, limit=PAGE, offset=skip), skip=skip, step=PAGE,
    )  # fmt: skip
