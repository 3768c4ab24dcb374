"""Checkpoints by role, and what training said while it went on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "checkpoint",
        sa.Column(
            "role",
            sa.String(),
            server_default="last",
            nullable=False,
            comment="last: training goes on from it; earlier: kept before it; best: lowest validation loss",
        ),
    )
    op.add_column(
        "checkpoint",
        sa.Column("validation_loss", sa.Float(), nullable=True, comment="newest when it was written; null without one"),
    )
    op.create_check_constraint(op.f("ck_checkpoint_role"), "checkpoint", "role in ('last', 'earlier', 'best')")
    op.drop_constraint(op.f("uq_checkpoint_run_id_unet"), "checkpoint", type_="unique")
    op.create_index(
        "uq_checkpoint_role",
        "checkpoint",
        ["run_id", "unet", "role"],
        unique=True,
        postgresql_where=sa.text("role <> 'earlier'"),
    )
    op.create_table(
        "run_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False, comment="in the order of writing"),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="run that was trained"),
        sa.Column("unet", sa.Integer(), nullable=False, comment="1 (to 32x32) or 2 (to 128x128)"),
        sa.Column("samples_seen", sa.BigInteger(), nullable=False, comment="by all processes, over all calls"),
        sa.Column("loss", sa.Float(), nullable=False, comment="mean training loss since the line before"),
        sa.Column("lr", sa.Float(), nullable=False, comment="learning rate of the last step"),
        sa.Column("samples_per_s", sa.Float(), nullable=False, comment="of all processes, since the line before"),
        sa.Column("wait_share", sa.Float(), nullable=False, comment="part of that time spent waiting for data, 0 to 1"),
        sa.Column(
            "memory_bytes",
            sa.BigInteger(),
            nullable=False,
            comment="peak of the main process: on the accelerator, or resident on a CPU",
        ),
        sa.Column(
            "validation_loss", sa.Float(), nullable=True, comment="of the averaged weights; null between validations"
        ),
        sa.Column(
            "validation_levels",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="validation loss in equal stretches of timesteps, the least noise first",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was written",
        ),
        sa.CheckConstraint("unet in (1, 2)", name=op.f("ck_run_log_unet")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_log_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_log")),
        comment="What training said while it went on: one row per progress report.",
    )
    op.create_index(op.f("ix_run_log_run_id"), "run_log", ["run_id", "unet", "samples_seen"])
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON run_log TO slf_ingest, slf_researcher")


def downgrade() -> None:
    op.drop_table("run_log")
    op.execute("DELETE FROM checkpoint WHERE role <> 'last'")
    op.drop_index("uq_checkpoint_role", table_name="checkpoint")
    op.create_unique_constraint(op.f("uq_checkpoint_run_id_unet"), "checkpoint", ["run_id", "unet"])
    op.drop_constraint(op.f("ck_checkpoint_role"), "checkpoint", type_="check")
    op.drop_column("checkpoint", "validation_loss")
    op.drop_column("checkpoint", "role")
