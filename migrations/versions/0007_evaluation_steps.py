"""Faces made with another number of solver steps are another evaluation."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[1] / "sql"
KEY = ("run_id", "gallery_id", "part", "system", "scale", "seed")


def upgrade() -> None:
    op.add_column(
        "evaluation",
        sa.Column(
            "steps",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="solver steps of each U-Net; 0 = as the preset says, or a baseline",
        ),
    )
    op.execute("""
        -- Of several numbers of steps the newest counted.
        UPDATE evaluation SET steps = newest.steps
        FROM (
            SELECT DISTINCT ON (run_id, scale, seed) run_id, scale, seed, steps FROM generation
            WHERE method = 'diffusion' ORDER BY run_id, scale, seed, created_at DESC, id DESC
        ) newest
        JOIN run ON run.id = newest.run_id
        WHERE evaluation.run_id = newest.run_id AND evaluation.scale = newest.scale
          AND evaluation.seed = newest.seed AND evaluation.system = run.system
    """)
    op.drop_constraint(op.f("uq_evaluation_key"), "evaluation", type_="unique")
    op.create_unique_constraint(op.f("uq_evaluation_key"), "evaluation", [*KEY, "steps", "constituent_id"])
    for view in ("recall_at_k", "fidelity"):
        _add_steps(view)


def downgrade() -> None:
    for view in ("recall_at_k", "fidelity"):
        op.execute(f"DROP VIEW {view}")
    op.execute("""
        -- Of several numbers of steps the newest evaluation stays.
        DELETE FROM evaluation USING evaluation newer
        WHERE newer.id > evaluation.id
          AND (newer.run_id, newer.gallery_id, newer.part, newer.system, newer.scale, newer.seed, newer.constituent_id)
            = (evaluation.run_id, evaluation.gallery_id, evaluation.part, evaluation.system, evaluation.scale,
               evaluation.seed, evaluation.constituent_id)
    """)
    op.drop_constraint(op.f("uq_evaluation_key"), "evaluation", type_="unique")
    op.drop_column("evaluation", "steps")
    op.create_unique_constraint(op.f("uq_evaluation_key"), "evaluation", [*KEY, "constituent_id"])
    first = (SQL / "0001_views.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(first[first.index("CREATE VIEW recall_at_k") :].replace("%", "%%"))
    op.execute("GRANT SELECT ON recall_at_k, fidelity TO slf_analyst, slf_researcher, slf_ingest")


def _add_steps(view: str) -> None:
    """A view's own definition, with one more column at its end: comments and grants stay."""
    definition = op.get_bind().exec_driver_sql(f"SELECT pg_get_viewdef('{view}'::regclass, true)").scalar_one()
    chosen, source = definition.split("\n   FROM ", 1)
    op.get_bind().exec_driver_sql(
        f"CREATE OR REPLACE VIEW {view} AS {chosen},\n    evaluation.steps\n   FROM {source}".replace("%", "%%")
    )
    op.execute(f"COMMENT ON COLUMN {view}.steps IS 'Solver steps of each U-Net; 0 = as the preset says.'")
