"""All tables of the first version, the public views, and the roles."""

from __future__ import annotations

from pathlib import Path

import pgvector.sqlalchemy
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

SQL = Path(__file__).parents[1] / "sql"

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.String(), server_default=sa.text("session_user"), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "constituent",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False, comment="first 12 hex digits of the spec's hash"),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("shape", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("dtype", sa.String(), nullable=True),
        sa.Column(
            "spec",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="code version, weights' checksum, parameters",
        ),
        sa.Column("status", sa.String(), server_default="active", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('array', 'attribute', 'face', 'embedding')", name=op.f("ck_constituent_kind")),
        sa.CheckConstraint("status in ('active', 'retired')", name=op.f("ck_constituent_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_constituent")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_constituent_name_version")),
    )
    op.create_table(
        "erasure",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.String(), server_default=sa.text("session_user"), nullable=False),
        sa.Column("receipt", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )
    op.create_table(
        "snapshot",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "hash", sa.String(), nullable=False, comment="blake2b-256 over clips, versions, data, statistics, layout"
        ),
        sa.Column("predicate", sa.String(), nullable=False),
        sa.Column("layout", sa.String(), nullable=False),
        sa.Column("missing", sa.String(), nullable=False, comment="what was done about missing constituents"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("clips", sa.Integer(), nullable=False),
        sa.Column(
            "normalisation",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="per constituent: mean, std of the training part",
        ),
        sa.Column("created_by", sa.String(), server_default=sa.text("session_user"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("missing in ('error', 'skip', 'zero')", name=op.f("ck_snapshot_missing")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("name", name=op.f("uq_snapshot_name")),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("layout", sa.String(), nullable=False, comment="voxceleb2 | folder"),
        sa.Column(
            "synthetic",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="drawn faces, synthesised voices",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("name", name=op.f("uq_source_name")),
    )
    op.create_table(
        "identity",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "meta",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="row of the metadata file, as read",
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["source.id"], name=op.f("fk_identity_source_id_source"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity")),
        sa.UniqueConstraint("source_id", "name", name=op.f("uq_identity_source_id_name")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("snapshot_id", sa.BigInteger(), nullable=False),
        sa.Column("system", sa.String(), nullable=False),
        sa.Column("preset", sa.String(), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name=op.f("fk_run_snapshot_id_snapshot")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("name", name=op.f("uq_run_name")),
    )
    op.create_table(
        "shard",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False, comment="relative to the shard folder"),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.String(), nullable=False, comment="blake2b-128 of the file"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["constituent_id"], ["constituent.id"], name=op.f("fk_shard_constituent_id_constituent"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shard")),
        sa.UniqueConstraint("path", name=op.f("uq_shard_path")),
    )
    op.create_index(op.f("ix_shard_constituent_id"), "shard", ["constituent_id"], unique=False)
    op.create_table(
        "snapshot_constituent",
        sa.Column("snapshot_id", sa.BigInteger(), nullable=False),
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("data_checksum", sa.String(), nullable=False),
        sa.Column("missing_clips", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["constituent_id"], ["constituent.id"], name=op.f("fk_snapshot_constituent_constituent_id_constituent")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"],
            ["snapshot.id"],
            name=op.f("fk_snapshot_constituent_snapshot_id_snapshot"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "constituent_id", name=op.f("pk_snapshot_constituent")),
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("unet", sa.Integer(), nullable=False),
        sa.Column("samples_seen", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("path", sa.String(), nullable=False, comment="relative to the store"),
        sa.Column("checksum", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False, comment="training time, seconds"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("unet in (1, 2)", name=op.f("ck_checkpoint_unet")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_checkpoint_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoint")),
        sa.UniqueConstraint("run_id", "unet", name=op.f("uq_checkpoint_run_id_unet")),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("gallery_id", sa.BigInteger(), nullable=False, comment="snapshot searched in"),
        sa.Column("part", sa.String(), server_default="all", nullable=False),
        sa.Column(
            "system", sa.String(), nullable=False, comment="the run's system, or random | bicubic-8x8 | real-vs-real"
        ),
        sa.Column("scale", sa.Double(), nullable=False, comment="conditional scale; 0 for a baseline"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("constituent_id", sa.BigInteger(), nullable=False, comment="embedding model"),
        sa.Column("checkpoint_samples", sa.BigInteger(), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("gallery_faces", sa.Integer(), nullable=False),
        sa.Column(
            "undetected", sa.Integer(), nullable=False, comment="probes without a detected face: counted as misses"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("part in ('all', 'train', 'validation')", name=op.f("ck_evaluation_part")),
        sa.ForeignKeyConstraint(
            ["constituent_id"], ["constituent.id"], name=op.f("fk_evaluation_constituent_id_constituent")
        ),
        sa.ForeignKeyConstraint(["gallery_id"], ["snapshot.id"], name=op.f("fk_evaluation_gallery_id_snapshot")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_evaluation_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
        sa.UniqueConstraint(
            "run_id",
            "gallery_id",
            "part",
            "system",
            "scale",
            "seed",
            "constituent_id",
            name="uq_evaluation_key",
        ),
    )
    op.create_table(
        "video",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("identity_id", sa.BigInteger(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.CheckConstraint("split in ('dev', 'test')", name=op.f("ck_video_split")),
        sa.ForeignKeyConstraint(
            ["identity_id"], ["identity.id"], name=op.f("fk_video_identity_id_identity"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_video")),
        sa.UniqueConstraint("identity_id", "split", "name", name=op.f("uq_video_identity_id_split_name")),
    )
    op.create_table(
        "clip",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("video_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False, comment="relative to source.root, POSIX separators"),
        sa.Column("state", sa.String(), nullable=False, comment="ok | quarantined"),
        sa.Column("reason", sa.String(), nullable=True, comment="reason code of a quarantined clip"),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True, comment="seconds"),
        sa.Column("fps", sa.Double(), nullable=True, comment="frames per second"),
        sa.Column("frames", sa.Integer(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True, comment="pixels"),
        sa.Column("height", sa.Integer(), nullable=True, comment="pixels"),
        sa.Column("has_audio", sa.Boolean(), nullable=True),
        sa.Column("audio_rate", sa.Integer(), nullable=True, comment="Hz"),
        sa.Column("audio_channels", sa.Integer(), nullable=True),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.String(), nullable=True, comment="blake2b-128 of the file"),
        sa.Column("scanned_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(state = 'ok') = (reason is null)", name=op.f("ck_clip_reason")),
        sa.CheckConstraint("state in ('ok', 'quarantined')", name=op.f("ck_clip_state")),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_clip_video_id_video"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clip")),
        sa.UniqueConstraint("video_id", "name", name=op.f("uq_clip_video_id_name")),
    )
    op.create_table(
        "metric",
        sa.Column("evaluation_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="recall | psnr | ssim"),
        sa.Column("k", sa.Integer(), nullable=False, comment="0 where the metric has none"),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("ci_low", sa.Double(), nullable=False, comment="95 % interval"),
        sa.Column("ci_high", sa.Double(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_metric_evaluation_id_evaluation"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "name", "k", name=op.f("pk_metric")),
    )
    op.create_table(
        "attribute",
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False, comment="metadata, or the constituent that says so"),
        sa.Column("value_text", sa.String(), nullable=True),
        sa.Column("value_number", sa.Double(), nullable=True, comment="age in years"),
        sa.Column("score", sa.Double(), nullable=True, comment="the source's own confidence, 0 to 1"),
        sa.CheckConstraint("name in ('age', 'gender', 'ethnicity', 'language')", name=op.f("ck_attribute_name")),
        sa.CheckConstraint("(value_text is null) <> (value_number is null)", name=op.f("ck_attribute_one_value")),
        sa.ForeignKeyConstraint(["clip_id"], ["clip.id"], name=op.f("fk_attribute_clip_id_clip"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("clip_id", "name", "source", name=op.f("pk_attribute")),
    )
    op.create_index("ix_attribute_name_clip_id", "attribute", ["name", "clip_id"], unique=False)
    op.create_table(
        "extraction",
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), server_default="pending", nullable=False),
        sa.Column("shard_id", sa.BigInteger(), nullable=True),
        sa.Column("shard_row", sa.Integer(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True, comment="time inside the extractor, seconds"),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'failed') = (error_code is not null)", name=op.f("ck_extraction_failed")),
        sa.CheckConstraint("(state = 'leased') = (lease_owner is not null)", name=op.f("ck_extraction_leased")),
        sa.CheckConstraint("state in ('pending', 'leased', 'done', 'failed')", name=op.f("ck_extraction_state")),
        sa.ForeignKeyConstraint(["clip_id"], ["clip.id"], name=op.f("fk_extraction_clip_id_clip"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["constituent_id"],
            ["constituent.id"],
            name=op.f("fk_extraction_constituent_id_constituent"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["shard_id"], ["shard.id"], name=op.f("fk_extraction_shard_id_shard")),
        sa.PrimaryKeyConstraint("constituent_id", "clip_id", name=op.f("pk_extraction")),
        postgresql_partition_by="LIST (constituent_id)",
    )
    op.create_index("ix_extraction_clip_id", "extraction", ["clip_id"], unique=False)
    op.create_index(
        "ix_extraction_open",
        "extraction",
        ["clip_id"],
        unique=False,
        postgresql_where=sa.text("state in ('pending', 'leased')"),
    )
    op.create_table(
        "face",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False, comment="index from 0"),
        sa.Column("x", sa.Integer(), nullable=False, comment="pixels, left"),
        sa.Column("y", sa.Integer(), nullable=False, comment="pixels, top"),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=True, comment="the detector's own score, not capped"),
        sa.Column("faces_in_frame", sa.Integer(), nullable=False),
        sa.Column("detector", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["clip_id"], ["clip.id"], name=op.f("fk_face_clip_id_clip"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["constituent_id"], ["constituent.id"], name=op.f("fk_face_constituent_id_constituent"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_face")),
        sa.UniqueConstraint("constituent_id", "clip_id", name=op.f("uq_face_constituent_id_clip_id")),
    )
    op.create_index(op.f("ix_face_clip_id"), "face", ["clip_id"], unique=False)
    op.create_table(
        "generation",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("scale", sa.Double(), nullable=False, comment="conditional scale; 0 for a baseline"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False, comment="solver steps per U-Net; 0 for a baseline"),
        sa.Column("samples_seen", sa.BigInteger(), nullable=False, comment="of U-Net 1 when it was made"),
        sa.Column("path", sa.String(), nullable=False, comment="PNG, relative to the store"),
        sa.Column("psnr", sa.Double(), nullable=True, comment="dB against the real face"),
        sa.Column("ssim", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("method in ('diffusion', 'bicubic')", name=op.f("ck_generation_method")),
        sa.ForeignKeyConstraint(["clip_id"], ["clip.id"], name=op.f("fk_generation_clip_id_clip"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_generation_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation")),
        sa.UniqueConstraint(
            "run_id",
            "clip_id",
            "method",
            "scale",
            "seed",
            "steps",
            name=op.f("uq_generation_run_id_clip_id_method_scale_seed_steps"),
        ),
    )
    op.create_index("ix_generation_clip_id", "generation", ["clip_id"], unique=False)
    op.create_table(
        "match",
        sa.Column("evaluation_id", sa.BigInteger(), nullable=False),
        sa.Column("probe_clip_id", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False, comment="from 1"),
        sa.Column("gallery_clip_id", sa.BigInteger(), nullable=False),
        sa.Column("distance", sa.Double(), nullable=False, comment="Euclidean"),
        sa.Column("hit", sa.Boolean(), nullable=False, comment="same identity"),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_match_evaluation_id_evaluation"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["gallery_clip_id"], ["clip.id"], name=op.f("fk_match_gallery_clip_id_clip"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["probe_clip_id"], ["clip.id"], name=op.f("fk_match_probe_clip_id_clip"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "probe_clip_id", "rank", name=op.f("pk_match")),
    )
    op.create_index(op.f("ix_match_gallery_clip_id"), "match", ["gallery_clip_id"], unique=False)
    op.create_table(
        "snapshot_clip",
        sa.Column("snapshot_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.String(), nullable=False),
        sa.Column("age", sa.Float(), nullable=True, comment="attributes as they were when frozen"),
        sa.Column("gender", sa.String(), nullable=True),
        sa.Column("ethnicity", sa.String(), nullable=True),
        sa.Column("language", sa.String(), nullable=True),
        sa.CheckConstraint("part in ('train', 'validation')", name=op.f("ck_snapshot_clip_part")),
        sa.ForeignKeyConstraint(
            ["clip_id"], ["clip.id"], name=op.f("fk_snapshot_clip_clip_id_clip"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshot.id"], name=op.f("fk_snapshot_clip_snapshot_id_snapshot"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("snapshot_id", "position", name=op.f("pk_snapshot_clip")),
    )
    op.create_index(op.f("ix_snapshot_clip_clip_id"), "snapshot_clip", ["clip_id"], unique=False)
    op.create_table(
        "face_embedding",
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("face_id", sa.BigInteger(), nullable=True),
        sa.Column("vector", pgvector.sqlalchemy.VECTOR(), nullable=False),
        sa.ForeignKeyConstraint(
            ["clip_id"], ["clip.id"], name=op.f("fk_face_embedding_clip_id_clip"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["constituent_id"],
            ["constituent.id"],
            name=op.f("fk_face_embedding_constituent_id_constituent"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["face_id"], ["face.id"], name=op.f("fk_face_embedding_face_id_face"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("constituent_id", "clip_id", name=op.f("pk_face_embedding")),
        postgresql_partition_by="LIST (constituent_id)",
    )
    op.create_index(op.f("ix_face_embedding_face_id"), "face_embedding", ["face_id"], unique=False)
    op.create_table(
        "generation_embedding",
        sa.Column("generation_id", sa.BigInteger(), nullable=False),
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("vector", pgvector.sqlalchemy.VECTOR(), nullable=True),
        sa.ForeignKeyConstraint(
            ["constituent_id"],
            ["constituent.id"],
            name=op.f("fk_generation_embedding_constituent_id_constituent"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"],
            ["generation.id"],
            name=op.f("fk_generation_embedding_generation_id_generation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("generation_id", "constituent_id", name=op.f("pk_generation_embedding")),
    )
    for name in ("0001_views.sql", "0001_roles.sql"):
        op.get_bind().exec_driver_sql((SQL / name).read_text("utf-8").replace("%", "%%"))


def downgrade() -> None:
    for view in ("fidelity", "recall_at_k", "coverage", "clips", "preferred_attribute"):
        op.execute(f"DROP VIEW {view}")
    op.drop_table("generation_embedding")
    op.drop_index(op.f("ix_face_embedding_face_id"), table_name="face_embedding")
    op.drop_table("face_embedding")
    op.drop_index(op.f("ix_snapshot_clip_clip_id"), table_name="snapshot_clip")
    op.drop_table("snapshot_clip")
    op.drop_index(op.f("ix_match_gallery_clip_id"), table_name="match")
    op.drop_table("match")
    op.drop_index("ix_generation_clip_id", table_name="generation")
    op.drop_table("generation")
    op.drop_index(op.f("ix_face_clip_id"), table_name="face")
    op.drop_table("face")
    op.drop_index(
        "ix_extraction_open", table_name="extraction", postgresql_where=sa.text("state in ('pending', 'leased')")
    )
    op.drop_index("ix_extraction_clip_id", table_name="extraction")
    op.drop_table("extraction")
    op.drop_index("ix_attribute_name_clip_id", table_name="attribute")
    op.drop_table("attribute")
    op.drop_table("metric")
    op.drop_table("clip")
    op.drop_table("video")
    op.drop_table("evaluation")
    op.drop_table("checkpoint")
    op.drop_table("snapshot_constituent")
    op.drop_index(op.f("ix_shard_constituent_id"), table_name="shard")
    op.drop_table("shard")
    op.drop_table("run")
    op.drop_table("identity")
    op.drop_table("source")
    op.drop_table("snapshot")
    op.drop_table("erasure")
    op.drop_table("constituent")
    op.drop_table("audit_log")
