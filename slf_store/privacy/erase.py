"""The first step of an erasure: one transaction after which the database knows nothing of the clips any more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from slf_store.faults import fault_point
from slf_store.jobs.commit import SEAL_LOCK
from slf_store.privacy import audit
from slf_store.privacy.blocklist import block
from slf_store.privacy.names import blot
from slf_store.privacy.plan import Plan, find
from slf_store.privacy.target import Target

if TYPE_CHECKING:
    from slf_store.store import Store

HOLD_ALONE = text("SELECT pg_advisory_xact_lock(:key)")
MARK_SNAPSHOTS = text("""
    UPDATE snapshot
    SET erased_clips = erased_clips + lost.clips, incomplete_since = coalesce(incomplete_since, now())
    FROM (SELECT snapshot_id, count(*) AS clips FROM snapshot_clip WHERE clip_id = ANY(:clips) GROUP BY 1) lost
    WHERE snapshot.id = lost.snapshot_id
""")
FORGET_HASHES = text("""
    -- A snapshot that is no longer complete is compared with nothing any more: no hash of an erased value stays.
    UPDATE snapshot_constituent SET value_hashes = NULL, present = NULL
    WHERE snapshot_id IN (SELECT snapshot_id FROM snapshot_clip WHERE clip_id = ANY(:clips))
""")
MARK_CHECKPOINTS = text("""
    UPDATE checkpoint SET erased_clips = erased_clips + lost.clips
    FROM run
    JOIN (SELECT snapshot_id, count(*) AS clips FROM snapshot_clip
          WHERE clip_id = ANY(:clips) AND part = 'train' GROUP BY 1) lost ON lost.snapshot_id = run.snapshot_id
    WHERE run.id = checkpoint.run_id
""")
MARK_EVALUATIONS = text("""
    UPDATE evaluation SET erased_clips = erased_clips + lost.clips
    FROM (SELECT id, count(DISTINCT clip_id) AS clips
          FROM (SELECT evaluation.id, clip_id FROM evaluation
                JOIN snapshot_clip ON snapshot_id = gallery_id AND (evaluation.part = 'all'
                                                                    OR snapshot_clip.part = evaluation.part)
                WHERE clip_id = ANY(:clips)
                UNION SELECT evaluation_id, probe_clip_id FROM match WHERE probe_clip_id = ANY(:clips)) used
          GROUP BY id) lost
    WHERE evaluation.id = lost.id
""")
FORGET_SMALL_GROUPS = text("""
    -- A number about few people is nearly one about each of them; evaluating again gives those of who stays.
    DELETE FROM group_metric USING evaluation
    WHERE evaluation.id = group_metric.evaluation_id AND evaluation.erased_clips > 0 AND group_metric.identities < 10
""")
DELETE = (
    text("DELETE FROM report WHERE path = ANY(:reports)"),
    text("DELETE FROM face_embedding WHERE clip_id = ANY(:clips)"),
    text("DELETE FROM clip WHERE id = ANY(:clips)"),
    text("DELETE FROM video WHERE id = ANY(:videos)"),
)
DELETE_IDENTITY = text("DELETE FROM identity WHERE id = :identity")
NEW_ERASURE = text("""
    INSERT INTO erasure (state, receipt, work)
    VALUES ('running', CAST(:receipt AS jsonb), CAST(:work AS jsonb)) RETURNING id
""")
DELETE_CHECKPOINTS = text("""
    DELETE FROM checkpoint WHERE path = ANY(:paths)
""")
TOLD = (
    # (rows with running text, writing one back): a predicate may name the person.
    (text("SELECT id, predicate FROM snapshot"), text("UPDATE snapshot SET predicate = :text WHERE id = :id")),
    (
        text("SELECT id, detail::text FROM audit_log"),
        text("UPDATE audit_log SET detail = CAST(:text AS jsonb) WHERE id = :id"),
    ),
)


def erase_rows(store: Store, target: Target, *, checkpoints: bool = False) -> int:
    """Delete the rows of a target, block it, mark what used it, and note what is left to do. All or nothing.

    Args:
        store: open store.
        target: what to erase.
        checkpoints: delete the checkpoints trained on it as well.

    Returns:
        Key of the erasure.
    """
    with store.engine.begin() as connection:
        # Nobody seals, commits or registers clips meanwhile: none can bring a row back after it.
        connection.execute(HOLD_ALONE, {"key": SEAL_LOCK})
        plan = find(connection, target)
        values = {"clips": plan.clip_ids, "videos": plan.video_ids, "reports": plan.reports}
        marks = (MARK_SNAPSHOTS, FORGET_HASHES, MARK_CHECKPOINTS, MARK_EVALUATIONS, FORGET_SMALL_GROUPS)
        for statement in marks:
            connection.execute(statement, values)
        for statement in DELETE:
            connection.execute(statement, values)
        if target.kind == "identity":
            connection.execute(DELETE_IDENTITY, {"identity": plan.identity_id})
        weights = sorted({row["path"] for row in plan.checkpoints}) if checkpoints else []
        grids = _grids(store, plan.runs)
        connection.execute(DELETE_CHECKPOINTS, {"paths": weights})
        blot_told(connection, plan.names)
        block(connection, store.settings.home, target.kind, [target.name])
        work = {
            "names": plan.names,
            "clip_ids": plan.clip_ids,
            "files": [*plan.generated, *weights, *grids],
            "reports": plan.reports,
        }
        values = {"receipt": json.dumps(_receipt(plan, weights, len(grids))), "work": json.dumps(work)}
        erasure = int(connection.execute(NEW_ERASURE, values).scalar_one())
        audit.record(connection, "erase", {"erasure": erasure, "kind": target.kind, "clips": len(plan.clip_ids)})
        fault_point("forget.planned")
    fault_point("forget.rows_deleted")
    return erasure


def blot_told(connection: Connection, names: list[str]) -> None:
    """Blot the names out of predicates and audit details."""
    for read, write in TOLD:
        for key, told in connection.execute(read).all():
            clean = blot(told, names)
            if clean != told:
                connection.execute(write, {"id": key, "text": clean})


def _grids(store: Store, runs: list[str]) -> list[str]:
    """Sample grids of runs, relative to the store; no training writes another one of a snapshot that is incomplete."""
    paths = (path for run in runs for path in sorted((store.runs / run / "grids").glob("*.png")))
    return [path.relative_to(store.settings.home).as_posix() for path in paths]


def _receipt(plan: Plan, weights: list[str], grids: int) -> dict[str, Any]:
    """What the receipt says so far: kinds, counts, names of what the store's users made. Nobody's name."""
    rows = {"clips": len(plan.clip_ids), "videos": len(plan.video_ids), **plan.counts}
    told = {
        "erased": plan.target.kind,
        "rows": rows,
        "shards": [],
        "reports": len(plan.reports),
        "sample_grids": grids,
        "snapshots_no_longer_complete": plan.snapshots,
        "checkpoints_trained_on_them": [
            {**{key: row[key] for key in ("run", "unet", "role", "clips")}, "deleted": row["path"] in weights}
            for row in plan.checkpoints
        ],
        "evaluations_marked": plan.evaluations,
        "exported_copies_out_of_reach": plan.exports,
        "blocked": 1,
    }
    clean: dict[str, Any] = json.loads(blot(json.dumps(told), plan.names))
    return clean
