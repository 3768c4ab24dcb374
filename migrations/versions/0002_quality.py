"""Attributes by constituent version, statistics of every value, and the views of quality."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

SQL = Path(__file__).parents[1] / "sql"
STATISTICS = {
    "value_hash": (sa.BigInteger(), "blake2b-64 of the value's bytes as stored"),
    "value_min": (sa.REAL(), "smallest number in the value"),
    "value_mean": (sa.REAL(), None),
    "value_max": (sa.REAL(), "largest number in the value"),
    "value_rms": (sa.REAL(), "root mean square; an embedding's norm divided by the root of its length"),
    "value_rows": (sa.Integer(), "rows of an array without padding; attributes stated; 1 for faces and embeddings"),
    "zero_rows": (sa.Integer(), "rows that are zero throughout"),
}
QUALITY_VIEWS = ("quality_outliers", "attribute_agreement", "attribute_quality", "constituent_quality")
FIRST_VIEWS = ("fidelity", "recall_at_k", "coverage", "clips", "preferred_attribute")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, (kind, comment) in STATISTICS.items():
        op.add_column("extraction", sa.Column(name, kind, nullable=True, comment=comment))
    op.add_column(
        "face",
        sa.Column("chosen_by", sa.String(), nullable=True, comment="why this face: only | largest | track | bad_track"),
    )
    op.add_column(
        "attribute",
        sa.Column("constituent_id", sa.BigInteger(), nullable=True, comment="version that says so; null for metadata"),
    )
    op.execute("""
        -- The version whose value of the clip was committed last is the one that wrote the row.
        UPDATE attribute SET constituent_id = writer.id
        FROM (SELECT DISTINCT ON (extraction.clip_id, constituent.name) extraction.clip_id, constituent.name,
                     constituent.id
              FROM extraction
              JOIN constituent ON constituent.id = extraction.constituent_id
              WHERE constituent.kind = 'attribute' AND extraction.state = 'done'
              ORDER BY extraction.clip_id, constituent.name, extraction.finished_at DESC, constituent.id DESC) writer
        WHERE writer.clip_id = attribute.clip_id AND writer.name = attribute.source
    """)
    op.execute("""
        -- What no extraction stands for any more is no clip's attribute.
        DELETE FROM attribute WHERE constituent_id IS NULL AND source <> 'metadata'
    """)
    op.create_foreign_key(
        op.f("fk_attribute_constituent_id_constituent"),
        "attribute",
        "constituent",
        ["constituent_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.drop_constraint("pk_attribute", "attribute", type_="primary")
    op.create_unique_constraint(
        op.f("uq_attribute_clip_id_name_source_constituent_id"),
        "attribute",
        ["clip_id", "name", "source", "constituent_id"],
        postgresql_nulls_not_distinct=True,
    )
    for name in ("0002_attributes.sql", "0002_quality.sql"):
        _run(name)


def downgrade() -> None:
    for view in (*QUALITY_VIEWS, *FIRST_VIEWS):
        op.execute(f"DROP VIEW {view}")
    op.execute("""
        -- One version of each extractor is kept: the newest that is active.
        DELETE FROM attribute USING (
            SELECT attribute.ctid AS place,
                   row_number() OVER (PARTITION BY clip_id, attribute.name, source
                                      ORDER BY constituent.status, constituent.created_at DESC, constituent.id DESC)
                       AS turn
            FROM attribute
            JOIN constituent ON constituent.id = attribute.constituent_id) version
        WHERE attribute.ctid = version.place AND version.turn > 1
    """)
    op.drop_constraint("uq_attribute_clip_id_name_source_constituent_id", "attribute", type_="unique")
    op.drop_column("attribute", "constituent_id")
    op.create_primary_key("pk_attribute", "attribute", ["clip_id", "name", "source"])
    op.drop_column("face", "chosen_by")
    for name in STATISTICS:
        op.drop_column("extraction", name)
    for name in ("0001_views.sql", "0001_roles.sql"):
        _run(name)


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((SQL / name).read_text("utf-8").replace("%", "%%"))
