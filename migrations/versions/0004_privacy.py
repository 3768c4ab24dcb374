"""Erasure, block list, roles and audit."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

SQL = Path(__file__).parents[1] / "sql"
COUNTED = {
    "checkpoint": "clips it was trained on that were erased since",
    "evaluation": "clips among its probes and gallery that were erased since",
    "snapshot": "clips it was frozen with that were erased since: above 0 it is no longer complete",
}

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, comment in COUNTED.items():
        op.add_column(
            table, sa.Column("erased_clips", sa.Integer(), server_default=sa.text("0"), nullable=False, comment=comment)
        )
    op.add_column("snapshot", sa.Column("incomplete_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("erasure", sa.Column("state", sa.String(), server_default="done", nullable=False))
    op.add_column(
        "erasure",
        sa.Column(
            "work",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="what is still to be removed, names included; null as soon as nothing is",
        ),
    )
    op.create_check_constraint(op.f("ck_erasure_state"), "erasure", "state in ('running', 'pages', 'done')")
    op.create_table(
        "blocked",
        sa.Column("digest", sa.String(), nullable=False, comment="keyed blake2b-256; the key is <home>/blocklist.key"),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind in ('key', 'identity', 'video', 'clip')", name=op.f("ck_blocked_kind")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blocked")),
    )
    op.create_table(
        "report",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("path", sa.String(), nullable=False, comment="absolute"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
        sa.UniqueConstraint("path", name=op.f("uq_report_path")),
    )
    op.create_table(
        "report_clip",
        sa.Column("report_id", sa.BigInteger(), nullable=False),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_id"], ["report.id"], name=op.f("fk_report_clip_report_id_report"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["clip_id"], ["clip.id"], name=op.f("fk_report_clip_clip_id_clip"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("report_id", "clip_id", name=op.f("pk_report_clip")),
    )
    op.create_index(op.f("ix_report_clip_clip_id"), "report_clip", ["clip_id"], unique=False)
    op.create_index(op.f("ix_match_probe_clip_id"), "match", ["probe_clip_id"], unique=False)
    op.create_index(op.f("ix_face_embedding_clip_id"), "face_embedding", ["clip_id"], unique=False)
    _run("0004_privacy.sql")


def downgrade() -> None:
    _run("0004_privacy_down.sql")
    op.drop_index(op.f("ix_face_embedding_clip_id"), table_name="face_embedding")
    op.drop_index(op.f("ix_match_probe_clip_id"), table_name="match")
    for table in ("report_clip", "report", "blocked"):
        op.drop_table(table)
    op.drop_constraint(op.f("ck_erasure_state"), "erasure", type_="check")
    op.drop_column("erasure", "work")
    op.drop_column("erasure", "state")
    op.drop_column("snapshot", "incomplete_since")
    for table in COUNTED:
        op.drop_column(table, "erased_clips")


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((SQL / name).read_text("utf-8").replace("%", "%%"))
