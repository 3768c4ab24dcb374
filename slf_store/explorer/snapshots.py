"""Snapshots: the list, and one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from slf_store.errors import NotFoundInStore
from slf_store.explorer.explorer import PAGE, Explorer, number

LIST = """
    SELECT id, name, clips, predicate, layout, missing, erased_clips, created_by, created_at, hash,
           (SELECT count(*) FROM run WHERE run.snapshot_id = snapshot.id) AS runs
    FROM snapshot ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset
"""
ONE = """
    SELECT id, name, hash, predicate, layout, missing, seed, clips, erased_clips, chosen, created_by, created_at,
           (SELECT count(DISTINCT video.identity_id) FROM snapshot_clip JOIN clip ON clip.id = snapshot_clip.clip_id
            JOIN video ON video.id = clip.video_id WHERE snapshot_id = snapshot.id) AS identities
    FROM snapshot WHERE id = :snapshot
"""
CONSTITUENTS = """
    SELECT constituent.name AS constituent, constituent.version, constituent.status, used.missing_clips
    FROM snapshot_constituent used JOIN constituent ON constituent.id = used.constituent_id
    WHERE used.snapshot_id = :snapshot ORDER BY constituent.name
"""
GROUPS = """
    SELECT part, coalesce(gender, 'unknown') AS gender, coalesce(ethnicity, 'unknown') AS ethnicity,
           coalesce(language, 'unknown') AS language, count(*) AS clips, avg(age) AS mean_age
    FROM snapshot_clip WHERE snapshot_id = :snapshot
    GROUP BY part, gender, ethnicity, language ORDER BY part, clips DESC, gender, ethnicity, language LIMIT 60
"""
RUNS = "SELECT id, name, system, preset, created_at FROM run WHERE snapshot_id = :snapshot ORDER BY name"
MEMBERS = """
    SELECT member.position, member.part, clips.clip_id, clips.identity, clips.video, clips.clip, member.age,
           member.gender, member.ethnicity, member.language
    FROM snapshot_clip member JOIN clips ON clips.clip_id = member.clip_id
    WHERE member.snapshot_id = :snapshot AND member.position >= :first ORDER BY member.position LIMIT :limit
"""


def snapshots(explorer: Explorer, request: Request) -> Response:
    """The newest snapshots first."""
    skip = number(request, "skip", 0, 10**6)
    found = explorer.rows(LIST, limit=PAGE, offset=skip)
    return explorer.page(request, "snapshots", snapshots=found, skip=skip, step=PAGE)


def snapshot(explorer: Explorer, request: Request) -> Response:
    """One snapshot: what was frozen, and its clips in order."""
    key, first = request.path_params["snapshot"], number(request, "first", 0, 2**31 - 1)
    rows = explorer.rows(ONE, snapshot=key)
    if not rows:
        raise NotFoundInStore(f"The store has no snapshot {key}.", hint="see /snapshots")
    return explorer.page(
        request, "snapshot", one=rows[0], constituents=explorer.rows(CONSTITUENTS, snapshot=key),
        groups=explorer.rows(GROUPS, snapshot=key), runs=explorer.rows(RUNS, snapshot=key),
        members=explorer.rows(MEMBERS, snapshot=key, first=first, limit=PAGE), first=first, step=PAGE,
    )  # fmt: skip
