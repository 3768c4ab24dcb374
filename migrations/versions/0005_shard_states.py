"""Shards that compaction replaced stay readable for a while; generated pictures have a checksum."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "shard",
        sa.Column(
            "state",
            sa.String(),
            nullable=False,
            server_default="sealed",
            comment="sealed | superseded: its rows lie in another shard, the file stays for readers until gc",
        ),
    )
    op.add_column("shard", sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_shard_state"), "shard", "state in ('sealed', 'superseded')")
    op.create_check_constraint(
        op.f("ck_shard_superseded"), "shard", "(state = 'superseded') = (superseded_at is not null)"
    )
    op.create_index(
        "ix_shard_superseded_at", "shard", ["superseded_at"], postgresql_where=sa.text("state = 'superseded'")
    )
    op.add_column(
        "generation",
        sa.Column(
            "checksum",
            sa.String(),
            nullable=True,
            comment="blake2b-128 of the PNG; null where an old program made it",
        ),
    )
    # A shard's rows are looked up when it is verified, compacted or removed.
    op.create_index("ix_extraction_shard_id", "extraction", ["shard_id"])


def downgrade() -> None:
    op.drop_index("ix_extraction_shard_id", table_name="extraction")
    op.drop_column("generation", "checksum")
    op.execute("""
        -- No value lies in them any more; their files are orphans for gc.
        DELETE FROM shard WHERE state = 'superseded'
    """)
    op.drop_index("ix_shard_superseded_at", table_name="shard")
    for name in ("ck_shard_superseded", "ck_shard_state"):
        op.drop_constraint(op.f(name), "shard", type_="check")
    op.drop_column("shard", "superseded_at")
    op.drop_column("shard", "state")
