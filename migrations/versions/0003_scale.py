"""Indexes, counts and views for a catalogue of VoxCeleb2's size; vanished clips; sound beside the pictures."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

SQL = Path(__file__).parents[1] / "sql"
CLIP_COLUMNS = {
    "audio_path": (sa.String(), "file of sound beside the clip, used where the clip has no audio track"),
    "audio_bytes": (sa.BigInteger(), "size of the file of sound beside the clip; null where there is none"),
    "audio_mtime_ns": (sa.BigInteger(), None),
    "audio_checksum": (sa.String(), "blake2b-128 of audio_path"),
    "vanished_at": (sa.DateTime(timezone=True), "when a scan first missed the file"),
}
OPEN = sa.text("state in ('pending', 'leased')")
VIEWS = ("fidelity", "recall_at_k", "coverage", "clips", "preferred_attribute")

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "place",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_id"], ["source.id"], name=op.f("fk_place_source_id_source"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_place")),
        sa.UniqueConstraint("source_id", "split", name=op.f("uq_place_source_id_split")),
    )
    op.create_table(
        "extraction_count",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("place_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("clips", sa.BigInteger(), nullable=False, comment="to be summed; negative for what went"),
        sa.Column("timed", sa.BigInteger(), nullable=False, comment="of them with seconds"),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_extraction_count")),
    )
    op.execute("""
        INSERT INTO place (source_id, split)
        SELECT DISTINCT identity.source_id, video.split FROM video JOIN identity ON identity.id = video.identity_id
    """)
    _add_places()
    for name, (kind, comment) in CLIP_COLUMNS.items():
        op.add_column("clip", sa.Column(name, kind, nullable=True, comment=comment))
    op.create_index(
        "ix_clip_quarantined", "clip", ["place_id", "reason"], postgresql_where=sa.text("state = 'quarantined'")
    )
    op.create_index("ix_clip_vanished", "clip", ["place_id", "id"], postgresql_where=sa.text("vanished_at is not null"))
    # In a partition every row has the same constituent: with the clip first, one index serves both ways of asking.
    op.drop_constraint("pk_extraction", "extraction", type_="primary")
    op.create_primary_key("pk_extraction", "extraction", ["clip_id", "constituent_id"])
    op.drop_index("ix_extraction_clip_id", table_name="extraction")
    # A partition is made only for a constituent that is there, and constituents are never deleted.
    op.drop_constraint("fk_extraction_constituent_id_constituent", "extraction", type_="foreignkey")
    op.create_index(
        "ix_extraction_failed",
        "extraction",
        ["error_code", "clip_id"],
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.execute("""
        INSERT INTO extraction_count (constituent_id, place_id, state, error_code, clips, timed, seconds)
        SELECT constituent_id, place_id, state, error_code, count(*), count(seconds), coalesce(sum(seconds), 0)
        FROM extraction GROUP BY constituent_id, place_id, state, error_code
    """)
    op.create_index("ix_extraction_leased", "extraction", ["lease_owner"], postgresql_where=sa.text("state = 'leased'"))
    _add_clip_attribute()
    for name in ("0003_counts.sql", "0003_attributes.sql", "0003_views.sql"):
        _run(name)


def downgrade() -> None:
    op.execute("DROP VIEW extraction_state")
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    for table in ("extraction", "clip"):
        op.execute(f"DROP TRIGGER fill_place ON {table}")
    for change in ("inserted", "updated", "deleted"):
        op.execute(f"DROP TRIGGER count_{change} ON extraction")
    for change in ("inserted", "updated", "deleted"):
        op.execute(f"DROP TRIGGER prefer_{change} ON attribute")
    op.execute("DROP TRIGGER prefer_by_status ON constituent")
    for function in ("attribute_stated", "attribute_withdrawn", "attributes_of_version"):
        op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP FUNCTION prefer_attributes, chosen_attributes")
    op.drop_table("clip_attribute")
    op.drop_index("ix_extraction_leased", table_name="extraction")
    for function in ("count_extraction", "place_of_clip", "place_of_video"):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_index("ix_extraction_failed", table_name="extraction")
    op.create_foreign_key(
        op.f("fk_extraction_constituent_id_constituent"),
        "extraction",
        "constituent",
        ["constituent_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_index("ix_extraction_clip_id", "extraction", ["clip_id"])
    op.drop_constraint("pk_extraction", "extraction", type_="primary")
    op.create_primary_key("pk_extraction", "extraction", ["constituent_id", "clip_id"])
    op.drop_index("ix_clip_vanished", table_name="clip")
    op.drop_index("ix_clip_quarantined", table_name="clip")
    for name in CLIP_COLUMNS:
        op.drop_column("clip", name)
    op.drop_column("extraction", "place_id")
    op.drop_column("clip", "place_id")
    op.drop_table("extraction_count")
    op.drop_table("place")
    for name in ("0001_views.sql", "0001_roles.sql", "0002_attributes.sql"):
        _run(name)


def _add_places() -> None:
    """Which split of which source a clip and an extraction belong to, known without a join."""
    comment = "split of a source"
    for table in ("clip", "extraction"):
        op.add_column(table, sa.Column("place_id", sa.Integer(), nullable=True, comment=comment))
    op.execute("""
        UPDATE clip SET place_id = place.id
        FROM video
        JOIN identity ON identity.id = video.identity_id
        JOIN place ON place.source_id = identity.source_id AND place.split = video.split
        WHERE video.id = clip.video_id
    """)
    op.execute("UPDATE extraction SET place_id = clip.place_id FROM clip WHERE clip.id = extraction.clip_id")
    for table in ("clip", "extraction"):
        op.alter_column(table, "place_id", nullable=False)


def _add_clip_attribute() -> None:
    """The attributes preferred of each clip, each with who says so and how surely."""
    columns = [sa.Column("clip_id", sa.BigInteger(), nullable=False)]
    for name in ("age", "gender", "ethnicity", "language"):
        columns += [
            sa.Column(name, sa.Double() if name == "age" else sa.String(), nullable=True),
            sa.Column(f"{name}_source", sa.String(), nullable=True),
            sa.Column(f"{name}_score", sa.Double(), nullable=True),
        ]
    op.create_table(
        "clip_attribute",
        *columns,
        sa.ForeignKeyConstraint(
            ["clip_id"], ["clip.id"], name=op.f("fk_clip_attribute_clip_id_clip"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("clip_id", name=op.f("pk_clip_attribute")),
    )


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((SQL / name).read_text("utf-8").replace("%", "%%"))
