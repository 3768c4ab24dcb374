"""What an erasure would take: found and counted before anything goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.privacy.target import Target

if TYPE_CHECKING:
    from slf_store.store import Store

SOURCES = text("""
    -- Sources with an identity of that name.
    SELECT source.name, identity.id, (SELECT count(*) FROM video WHERE video.identity_id = identity.id) AS videos
    FROM identity JOIN source ON source.id = identity.source_id
    WHERE identity.name = :identity AND (CAST(:source AS text) IS NULL OR source.name = :source)
    ORDER BY source.name
""")
CLIPS = text("""
    SELECT clip.id, video.id AS video_id, video.name AS video, clip.name AS clip, clip.path
    FROM video LEFT JOIN clip ON clip.video_id = video.id
    WHERE video.identity_id = :identity AND (CAST(:video AS text) IS NULL OR video.name = :video)
      AND (CAST(:clip AS text) IS NULL OR clip.name = :clip)
    ORDER BY video.id, clip.id
""")
SHARED_VIDEOS = text("""
    -- Video ids that another identity has as well: no name of this person alone.
    SELECT DISTINCT name FROM video WHERE name = ANY(:videos) AND id <> ALL(:video_ids)
""")
COUNTS = text("""
    -- Rows that go with the clips.
    SELECT (SELECT count(*) FROM extraction WHERE clip_id = ANY(:clips) AND state = 'done') AS extractions,
           (SELECT count(*) FROM attribute WHERE clip_id = ANY(:clips)) AS attributes,
           (SELECT count(*) FROM face WHERE clip_id = ANY(:clips)) AS faces,
           (SELECT count(*) FROM face_embedding WHERE clip_id = ANY(:clips)) AS face_embeddings,
           (SELECT count(*) FROM generation WHERE clip_id = ANY(:clips)) AS generated_faces,
           (SELECT count(*) FROM generation_embedding
            JOIN generation ON generation.id = generation_id WHERE clip_id = ANY(:clips)) AS generated_embeddings,
           (SELECT count(*) FROM match
            WHERE probe_clip_id = ANY(:clips) OR gallery_clip_id = ANY(:clips)) AS matches,
           (SELECT count(*) FROM snapshot_clip WHERE clip_id = ANY(:clips)) AS snapshot_rows
""")
SHARD_ROWS = text("""
    SELECT constituent.name || '@' || constituent.version AS constituent, count(*) AS rows
    FROM extraction JOIN constituent ON constituent.id = extraction.constituent_id
    WHERE extraction.clip_id = ANY(:clips) AND extraction.shard_id IS NOT NULL
    GROUP BY 1 ORDER BY 1
""")
GENERATED = text("SELECT path FROM generation WHERE clip_id = ANY(:clips)")
REPORTS = text("""
    SELECT DISTINCT report.path FROM report JOIN report_clip ON report_clip.report_id = report.id
    WHERE report_clip.clip_id = ANY(:clips) ORDER BY report.path
""")
SNAPSHOTS = text("""
    SELECT snapshot.name, count(*) AS clips FROM snapshot_clip JOIN snapshot ON snapshot.id = snapshot_id
    WHERE clip_id = ANY(:clips) GROUP BY snapshot.name ORDER BY snapshot.name
""")
EXPORTS = text("""
    -- Where snapshots with some of the clips were exported to: copies that an erasure cannot reach.
    SELECT DISTINCT detail ->> 'folder' FROM audit_log
    WHERE action = 'export'
      AND detail ->> 'hash' IN (SELECT snapshot.hash FROM snapshot_clip JOIN snapshot ON snapshot.id = snapshot_id
                                WHERE clip_id = ANY(:clips))
    ORDER BY 1
""")
CHECKPOINTS = text("""
    SELECT run.name AS run, checkpoint.unet, checkpoint.role, checkpoint.path, count(*) AS clips
    FROM snapshot_clip
    JOIN run ON run.snapshot_id = snapshot_clip.snapshot_id
    JOIN checkpoint ON checkpoint.run_id = run.id
    WHERE snapshot_clip.clip_id = ANY(:clips) AND snapshot_clip.part = 'train'
    GROUP BY run.name, checkpoint.unet, checkpoint.role, checkpoint.path
    ORDER BY run.name, checkpoint.unet, checkpoint.path
""")
RUNS = text("""
    -- Runs whose sample grids may show a face of one of the clips.
    SELECT DISTINCT run.name FROM run JOIN snapshot_clip ON snapshot_clip.snapshot_id = run.snapshot_id
    WHERE snapshot_clip.clip_id = ANY(:clips) ORDER BY run.name
""")
EVALUATIONS = text("""
    SELECT count(*) FROM evaluation
    WHERE EXISTS (SELECT FROM snapshot_clip WHERE snapshot_id = evaluation.gallery_id AND clip_id = ANY(:clips))
       OR EXISTS (SELECT FROM match WHERE evaluation_id = evaluation.id AND probe_clip_id = ANY(:clips))
""")


@dataclass(frozen=True)
class Plan:
    """What will go.

    Attributes:
        target: what was asked for.
        identity_id: key of the identity.
        video_ids: videos that go as a whole.
        clip_ids: clips that go.
        names: texts that stand for this person or these clips alone; looked for everywhere.
        shard_rows: rows in shards, by constituent.
        counts: rows of the database, by what they are.
        generated: pictures of generated faces, relative to the store.
        reports: HTML reports that show the clips.
        snapshots, checkpoints: by name, with how many of the clips they hold or were trained on.
        runs: on snapshots with some of the clips: their sample grids go.
        evaluations: measured with some of the clips.
        exports: folders that snapshots with some of the clips were exported to; nobody can reach into them.
    """

    target: Target
    identity_id: int
    video_ids: list[int]
    clip_ids: list[int]
    names: list[str]
    shard_rows: dict[str, int]
    counts: dict[str, int]
    generated: list[str]
    reports: list[str]
    snapshots: dict[str, int]
    checkpoints: list[dict[str, Any]]
    runs: list[str]
    evaluations: int
    exports: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For people and JSON: counts, and names of what is not personal."""
        return {
            "clips": len(self.clip_ids),
            "videos": len(self.video_ids),
            **self.counts,
            "shard_rows": self.shard_rows,
            "reports": self.reports,
            "snapshots_no_longer_complete": self.snapshots,
            "checkpoints_trained_on_them": [f"{c['run']} U-Net {c['unet']} ({c['role']})" for c in self.checkpoints],
            "runs_whose_sample_grids_go": self.runs,
            "evaluations_marked": self.evaluations,
            "exported_copies_out_of_reach": self.exports,
        }


def plan(store: Store, target: Target) -> Plan:
    """Find everything of a target.

    Raises:
        NotFoundInStore: the store has no such identity, video or clip.
        ConfigError: several sources have an identity of that name.
    """
    with store.engine.connect() as connection:
        return find(connection, target)


def find(connection: Connection, target: Target) -> Plan:
    """The same in the caller's transaction."""
    found = connection.execute(SOURCES, {"identity": target.identity, "source": target.source}).all()
    if not found:
        where = f" in source {target.source!r}" if target.source else ""
        raise NotFoundInStore(
            f"the store has no such identity{where}",
            hint="see the view clips for its names; `slf forget --check NAME` looks for traces",
        )
    if len(found) > 1:
        listed = ", ".join(f"{row.name} ({row.videos} videos)" for row in found)
        raise ConfigError(f"several sources have an identity of that name: {listed}", hint="say which with --source")
    identity = found[0].id
    rows = connection.execute(CLIPS, {"identity": identity, "video": target.video, "clip": target.clip}).all()
    if not rows and target.video is not None:
        raise NotFoundInStore("the store has no such video or clip of that identity")
    clip_ids = [row.id for row in rows if row.id is not None]
    video_ids = sorted({row.video_id for row in rows}) if target.clip is None else []
    clips = {"clips": clip_ids}
    paths = [row.path for row in rows if row.path is not None]
    return Plan(
        target,
        identity,
        video_ids,
        clip_ids,
        [*_names(connection, target, sorted({row.video for row in rows}), video_ids), *paths],
        {row.constituent: row.rows for row in connection.execute(SHARD_ROWS, clips)},
        dict(connection.execute(COUNTS, clips).mappings().one()),
        list(connection.execute(GENERATED, clips).scalars()),
        list(connection.execute(REPORTS, clips).scalars()),
        {row.name: row.clips for row in connection.execute(SNAPSHOTS, clips)},
        [dict(row) for row in connection.execute(CHECKPOINTS, clips).mappings()],
        list(connection.execute(RUNS, clips).scalars()),
        int(connection.execute(EVALUATIONS, clips).scalar_one()),
        list(connection.execute(EXPORTS, clips).scalars()),
    )


def _names(connection: Connection, target: Target, videos: list[str], video_ids: list[int]) -> list[str]:
    if target.clip is not None:
        return ["/".join(target.name)]
    shared = set(connection.execute(SHARED_VIDEOS, {"videos": videos, "video_ids": video_ids}).scalars())
    own = [video for video in videos if video not in shared]
    if target.video is not None:
        return [*own, "/".join(target.name)]
    return [target.identity, *own]
