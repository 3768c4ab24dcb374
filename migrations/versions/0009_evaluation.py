"""Outcomes of single probes, attributes of generated faces, metrics by group, several distances; views of all that."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[1] / "sql"
KEY = ("run_id", "gallery_id", "part", "system", "scale", "seed", "steps", "constituent_id")
VIEWS = ("probes", "attribute_recall", "recall_by_group", "metric_by_group", "recall_at_k", "fidelity")
TABLES = ("group_metric", "attribute_metric", "generation_attribute", "probe")


def upgrade() -> None:
    op.add_column(
        "evaluation",
        sa.Column(
            "distance", sa.String(), server_default="euclidean", nullable=False, comment="between two embeddings"
        ),
    )
    op.create_check_constraint(op.f("ck_evaluation_distance"), "evaluation", "distance in ('euclidean', 'cosine')")
    op.drop_constraint(op.f("uq_evaluation_key"), "evaluation", type_="unique")
    op.create_unique_constraint(op.f("uq_evaluation_key"), "evaluation", [*KEY, "distance"])
    op.alter_column("match", "distance", comment="as evaluation.distance says", existing_comment="Euclidean")
    op.alter_column(
        "metric",
        "name",
        comment="recall | identity_recall | psnr | ssim | frechet",
        existing_comment="recall | psnr | ssim",
    )
    op.create_table(
        "probe",
        _evaluation(),
        sa.Column("clip_id", sa.BigInteger(), nullable=False),
        sa.Column("detected", sa.Boolean(), nullable=False, comment="whether a face was detected in it"),
        sa.Column("rank", sa.Integer(), nullable=True, comment="of the first right match; null: none among those kept"),
        sa.Column("psnr", sa.Float(), nullable=True, comment="dB against the real face; null without a pair"),
        sa.Column("ssim", sa.Float(), nullable=True),
        _evaluation_key("probe"),
        sa.ForeignKeyConstraint(["clip_id"], ["clip.id"], name=op.f("fk_probe_clip_id_clip"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("evaluation_id", "clip_id", name=op.f("pk_probe")),
    )
    op.create_index(op.f("ix_probe_clip_id"), "probe", ["clip_id"])
    op.create_table(
        "generation_attribute",
        sa.Column("generation_id", sa.BigInteger(), nullable=False),
        sa.Column("constituent_id", sa.BigInteger(), nullable=False),
        sa.Column("age", sa.Float(), nullable=True, comment="years"),
        sa.Column("gender", sa.String(), nullable=True),
        sa.Column("ethnicity", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["generation_id"],
            ["generation.id"],
            name=op.f("fk_generation_attribute_generation_id_generation"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["constituent_id"],
            ["constituent.id"],
            name=op.f("fk_generation_attribute_constituent_id_constituent"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("generation_id", "constituent_id", name=op.f("pk_generation_attribute")),
    )
    op.create_table(
        "attribute_metric",
        _evaluation(),
        sa.Column(
            "attribute",
            sa.String(),
            nullable=False,
            comment="age: root mean square error, years; else recall",
        ),
        sa.Column(
            "truth",
            sa.String(),
            nullable=False,
            comment="who states the real face's: metadata or constituent",
        ),
        sa.Column("estimator", sa.String(), nullable=False, comment="constituent that looked at the generated face"),
        *_estimate(),
        sa.Column(
            "missed",
            sa.Integer(),
            nullable=False,
            comment="without an estimate: misses of a recall, left out of the age error",
        ),
        sa.CheckConstraint(
            "attribute in ('gender', 'ethnicity', 'age_group', 'age')", name=op.f("ck_attribute_metric_attribute")
        ),
        _evaluation_key("attribute_metric"),
        sa.PrimaryKeyConstraint("evaluation_id", "attribute", "truth", "estimator", name=op.f("pk_attribute_metric")),
    )
    op.create_table(
        "group_metric",
        _evaluation(),
        sa.Column("attribute", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False, comment="the group; unknown where nobody states it"),
        sa.Column(
            "name",
            sa.String(),
            nullable=False,
            comment="recall | detected | psnr | ssim | gender_recall | ethnicity_recall | age_group_recall | age_error",
        ),
        sa.Column("k", sa.Integer(), nullable=False, comment="0 where the metric has none"),
        sa.Column("truth", sa.String(), nullable=False, comment="as attribute_metric.truth; none for other metrics"),
        sa.Column(
            "estimator",
            sa.String(),
            nullable=False,
            comment="as attribute_metric.estimator; none for other metrics",
        ),
        *_estimate(),
        sa.Column("identities", sa.Integer(), nullable=False, comment="people in the group"),
        sa.Column(
            "source", sa.String(), nullable=False, comment="who states the attribute; several separated by a comma"
        ),
        sa.CheckConstraint(
            "attribute in ('gender', 'ethnicity', 'age_group', 'language')", name=op.f("ck_group_metric_attribute")
        ),
        _evaluation_key("group_metric"),
        sa.PrimaryKeyConstraint(
            "evaluation_id", "attribute", "label", "name", "k", "truth", "estimator", name=op.f("pk_group_metric")
        ),
    )
    _run((SQL / "0009_evaluation.sql").read_text("utf-8"))


def downgrade() -> None:
    op.execute("DROP FUNCTION nearest_faces(bigint, integer, text)")
    op.execute("DROP FUNCTION nearest_faces(vector, integer, text)")
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    for table in TABLES:
        op.drop_table(table)
    op.execute("DELETE FROM evaluation WHERE distance <> 'euclidean'")
    op.execute("DELETE FROM metric WHERE name NOT IN ('recall', 'psnr', 'ssim')")
    op.drop_constraint(op.f("uq_evaluation_key"), "evaluation", type_="unique")
    op.drop_column("evaluation", "distance")
    op.create_unique_constraint(op.f("uq_evaluation_key"), "evaluation", list(KEY))
    op.alter_column("match", "distance", comment="Euclidean")
    op.alter_column("metric", "name", comment="recall | psnr | ssim")
    first = (SQL / "0001_views.sql").read_text("utf-8")
    _run(first[first.index("CREATE VIEW recall_at_k") :])
    for view in ("recall_at_k", "fidelity"):
        _add_steps(view)
    op.execute("GRANT SELECT ON recall_at_k, fidelity TO slf_analyst, slf_researcher, slf_ingest")


def _evaluation() -> sa.Column[int]:
    return sa.Column("evaluation_id", sa.BigInteger(), nullable=False)


def _evaluation_key(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_evaluation_id_evaluation")
    return sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name=name, ondelete="CASCADE")


def _estimate() -> tuple[sa.Column[float], sa.Column[float], sa.Column[float], sa.Column[int]]:
    return (
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("ci_low", sa.Float(), nullable=False, comment="95 % interval"),
        sa.Column("ci_high", sa.Float(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
    )


def _add_steps(view: str) -> None:
    """The column that schema 0007 has at the end of the view."""
    definition = op.get_bind().exec_driver_sql(f"SELECT pg_get_viewdef('{view}'::regclass, true)").scalar_one()
    chosen, source = definition.split("\n   FROM ", 1)
    _run(f"CREATE OR REPLACE VIEW {view} AS {chosen},\n    evaluation.steps\n   FROM {source}")
    op.execute(f"COMMENT ON COLUMN {view}.steps IS 'Solver steps of each U-Net; 0 = as the preset says.'")


def _run(statements: str) -> None:
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
