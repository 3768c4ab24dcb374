"""The queue of extraction work: what is to be done, claiming it, keeping it, giving it back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text

from slf_store.dataset.clipfile import file_name
from slf_store.db.transaction import bounded
from slf_store.faults import fault_point
from slf_store.jobs import counts

SILENCE_S = 10.0
"""A process silent this long in the middle of claiming or renewing is stopped: its locks are let go."""

CLAIM_TRIES = 3
"""How often a claim that found every open clip locked is tried again."""

ENQUEUE = text("""
    -- Every usable clip whose file is there gets a row for the constituent if it has none. One constituent at a time:
    -- both sides of the anti-join are then one table, read in the order of the clips.
    INSERT INTO extraction (constituent_id, clip_id, place_id)
    SELECT :constituent, clip.id, clip.place_id
    FROM clip
    WHERE clip.state = 'ok' AND clip.vanished_at IS NULL
      AND NOT EXISTS (SELECT FROM extraction
                      WHERE extraction.clip_id = clip.id AND extraction.constituent_id = :constituent)
    ON CONFLICT DO NOTHING
""")

RETRY = text("""
    UPDATE extraction SET state = 'pending', error_code = NULL, error_message = NULL, finished_at = NULL
    WHERE constituent_id = ANY(:constituents) AND state = 'failed'
""")

OPEN = text("""
    -- Of each constituent the clips it is open for, from the kept counts; then the most of them. Clips are queued for
    -- all constituents at once, so hardly any are open for other constituents only.
    SELECT coalesce(max(clips), 0)
    FROM (SELECT sum(clips) AS clips
          FROM (SELECT constituent_id, clips FROM extraction_count
                WHERE constituent_id = ANY(:constituents) AND state = 'pending'
                UNION ALL
                SELECT constituent_id, 1 FROM extraction
                WHERE constituent_id = ANY(:constituents) AND state = 'leased' AND lease_expires_at < now()) open
          GROUP BY constituent_id) each
""")

ANY_OPEN = text("""
    SELECT EXISTS (SELECT FROM extraction
                   WHERE constituent_id = ANY(:constituents) AND state IN ('pending', 'leased')
                     AND (state = 'pending' OR lease_expires_at < now()))
""")

READ_FEW = text("""
    -- For the rest of the transaction: go through indexes, row by row. A claim wants a handful of millions of rows: the
    -- planner cannot know, as constituents and limit are parameters.
    SELECT set_config(name, 'off', true)
    FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin', 'enable_hashagg',
                      'enable_sort', 'jit']) AS name
""")

CLAIM = text("""
    -- The next clips with open work. Their ids come from the indexes of open work, merged in order and read only as far
    -- as needed. Locking the clip keeps two workers off one clip.
    SELECT clip.id
    FROM (SELECT DISTINCT clip_id FROM extraction
          WHERE constituent_id = ANY(:constituents) AND state IN ('pending', 'leased')
            AND (state = 'pending' OR lease_expires_at < now())
          ORDER BY clip_id) open
    JOIN clip ON clip.id = open.clip_id
    WHERE clip.vanished_at IS NULL
    ORDER BY open.clip_id LIMIT :clips
    FOR UPDATE OF clip SKIP LOCKED
""")

LEASE = text("""
    -- All open work of the locked clips.
    UPDATE extraction
    SET state = 'leased', lease_owner = :owner, lease_expires_at = now() + make_interval(secs => :seconds),
        attempts = attempts + 1
    WHERE clip_id = ANY(:locked) AND constituent_id = ANY(:constituents) AND state IN ('pending', 'leased')
      AND (state = 'pending' OR lease_expires_at < now())
    RETURNING clip_id, constituent_id
""")

CLAIMED = text("""
    SELECT clip.id AS clip_id, source.root, clip.path, clip.audio_path, coalesce(clip.frames, 1) AS frames,
           identity.name || '/' || video.name || '/' || clip.name AS key
    FROM clip
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    JOIN source ON source.id = identity.source_id
    WHERE clip.id = ANY(:leased)
    ORDER BY clip.id
""")

RENEW = text("""
    UPDATE extraction SET lease_expires_at = now() + make_interval(secs => :seconds)
    WHERE lease_owner = :owner AND state = 'leased'
""")

RELEASE = text("""
    UPDATE extraction SET state = 'pending', lease_owner = NULL, lease_expires_at = NULL
    WHERE lease_owner = :owner AND state = 'leased'
""")

RELEASE_DEAD = text("""
    -- Leases of this machine's processes that are gone.
    UPDATE extraction SET state = 'pending', lease_owner = NULL, lease_expires_at = NULL
    WHERE state = 'leased' AND lease_owner = ANY(:owners)
""")

OWNERS = text("SELECT DISTINCT lease_owner FROM extraction WHERE state = 'leased'")


@dataclass(frozen=True)
class ClaimedClip:
    """A clip leased to a worker, with the constituents it still needs; names as the file system has them.

    `audio` is the file its sound is read from, where that is not the clip's own; relative to the root as `path` is.
    """

    clip_id: int
    root: str
    path: str
    frames: int
    key: str
    constituents: tuple[int, ...]
    audio: str | None = None


def enqueue(engine: Engine, constituents: Sequence[int], *, retry_failed: bool = False) -> int:
    """Queue what is missing; also what failed before, with `retry_failed`. Returns clips now open."""
    values = {"constituents": list(constituents)}
    add_missing(engine, constituents)
    with engine.begin() as connection:
        if retry_failed:
            connection.execute(RETRY, values)
    counts.fold(engine)
    return count_open(engine, constituents)


def add_missing(engine: Engine, constituents: Sequence[int]) -> None:
    """Queue the constituents that clips have no row for, two constituents at a time."""

    def add(constituent: int) -> None:
        with engine.begin() as connection:
            connection.execute(ENQUEUE, {"constituent": constituent})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, constituents))


def count_open(engine: Engine, constituents: Sequence[int]) -> int:
    """Clips with work that can be claimed now: at least so many, and none only where there is none."""
    with engine.connect() as connection:
        return int(connection.execute(OPEN, {"constituents": list(constituents)}).scalar_one())


def claim(engine: Engine, constituents: Sequence[int], *, clips: int, owner: str, lease_s: float) -> list[ClaimedClip]:
    """Lease the open work of up to `clips` clips; empty when nothing is open."""
    values = {"constituents": list(constituents), "clips": clips, "owner": owner, "seconds": lease_s}
    rows: Sequence[Any] = ()
    work: dict[int, list[int]] = {}
    for _ in range(CLAIM_TRIES):
        with bounded(engine, SILENCE_S) as connection:
            connection.execute(READ_FEW)
            locked = list(connection.execute(CLAIM, values).scalars())
            for clip_id, constituent in connection.execute(LEASE, values | {"locked": locked}).all() if locked else ():
                work.setdefault(clip_id, []).append(constituent)
            if work:
                rows = connection.execute(CLAIMED, {"leased": list(work)}).all()
            fault_point("claim.before")
            # Nothing: all is done, or other workers were just taking what is left and may yet give it back.
            if rows or not connection.execute(ANY_OPEN, values).scalar_one():
                break
    fault_point("claim.after")
    counts.fold_now_and_then(engine)
    return [
        ClaimedClip(
            row.clip_id,
            file_name(row.root),
            file_name(row.path),
            row.frames,
            row.key,
            tuple(work[row.clip_id]),
            None if row.audio_path is None else file_name(row.audio_path),
        )
        for row in rows
    ]


def renew(engine: Engine, owner: str, lease_s: float) -> None:
    """Say that the owner still works."""
    with bounded(engine, SILENCE_S) as connection:
        connection.execute(RENEW, {"owner": owner, "seconds": lease_s})
        fault_point("renew.before")
    fault_point("renew.after")


def release(engine: Engine, owner: str) -> None:
    """Give back what an owner has not finished."""
    with bounded(engine, SILENCE_S) as connection:
        connection.execute(RELEASE, {"owner": owner})
        fault_point("release.before")
    fault_point("release.after")


def release_dead(engine: Engine) -> None:
    """Give back leases of processes of this machine that no longer live, without waiting for them to expire."""
    from slf_store.jobs.worker import owner_is_dead

    with engine.begin() as connection:
        owners = [owner for owner in connection.execute(OWNERS).scalars() if owner_is_dead(owner)]
        if owners:
            connection.execute(RELEASE_DEAD, {"owners": owners})
