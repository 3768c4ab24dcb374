"""Snapshots that keep their layout and notice changes, systems as data, more to select by in the view clips."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

SQL = Path(__file__).parents[1] / "sql"

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "system",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "include",
            postgresql.ARRAY(sa.String()),
            nullable=False,
            comment="inputs it is given: names, globs, or the groups speaker, classical, attributes",
        ),
        sa.Column(
            "exclude", postgresql.ARRAY(sa.String()), nullable=False, comment="inputs taken away again, written alike"
        ),
        sa.Column("guide", sa.Boolean(), nullable=False, comment="whether it is given the 8x8 image guide"),
        sa.Column("created_by", sa.String(), server_default=sa.text("session_user"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_system")),
    )
    json = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("snapshot", sa.Column("blocks", json, nullable=True, comment="blocks of its layout, as frozen"))
    op.add_column(
        "snapshot",
        sa.Column(
            "chosen",
            json,
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="how its clips were chosen: system, per_identity, balance, sample, limit, seed, validation",
        ),
    )
    op.add_column(
        "snapshot_constituent",
        sa.Column("present", sa.LargeBinary(), nullable=True, comment="a bit for each clip in snapshot order"),
    )
    op.add_column(
        "snapshot_constituent",
        sa.Column(
            "value_hashes",
            sa.LargeBinary(),
            nullable=True,
            comment="extraction.value_hash of each clip when frozen, little-endian int64, 0 where unknown",
        ),
    )
    op.add_column(
        "run",
        sa.Column("inputs", postgresql.ARRAY(sa.String()), nullable=True, comment="what its system sees, by name"),
    )
    op.add_column("run", sa.Column("guide", sa.Boolean(), nullable=True, comment="whether it has the image guide"))
    _run("0006_fill.sql")
    op.alter_column("snapshot", "blocks", nullable=False)
    op.alter_column("run", "inputs", nullable=False)
    op.alter_column("run", "guide", nullable=False)
    _run("0006_clips.sql")


def downgrade() -> None:
    op.execute("DROP FUNCTION values_of")
    comments = (
        op.get_bind()
        .exec_driver_sql("""
            SELECT attname, col_description(attrelid, attnum) FROM pg_attribute
            WHERE attrelid = 'clips'::regclass AND attnum > 0 AND attnum <= 33
        """)
        .all()
    )
    about = op.get_bind().exec_driver_sql("SELECT obj_description('clips'::regclass)").scalar_one()
    op.execute("DROP VIEW clips")
    _run("0003_views.sql")
    _run("0006_clips_down.sql")
    for column, comment in [(None, about), *comments]:
        what = "VIEW clips" if column is None else f"COLUMN clips.{column}"
        op.execute(
            sa.text(f"COMMENT ON {what} IS :comment").bindparams(sa.bindparam("comment", comment, literal_execute=True))
        )
    for column in ("guide", "inputs"):
        op.drop_column("run", column)
    for column in ("value_hashes", "present"):
        op.drop_column("snapshot_constituent", column)
    for column in ("chosen", "blocks"):
        op.drop_column("snapshot", column)
    op.drop_table("system")


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((SQL / name).read_text("utf-8").replace("%", "%%"))
