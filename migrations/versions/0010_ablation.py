"""Views of the ablation: chosen scale, scale sweep, recall increase, significance."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[1] / "sql" / "0010_ablation.sql"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL.read_text("utf-8").replace("%", "%%"))


def downgrade() -> None:
    op.execute("DROP VIEW significance")
    op.execute("DROP FUNCTION significance, student_t_975, significance_band")
    for view in ("recall_increase", "scale_sweep", "chosen_scale"):
        op.execute(f"DROP VIEW {view}")
