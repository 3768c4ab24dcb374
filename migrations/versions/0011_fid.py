"""The view `fidelity` shows FID."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[1] / "sql"
BEFORE = "recall | identity_recall | psnr | ssim | frechet"


def upgrade() -> None:
    op.alter_column("metric", "name", comment=f"{BEFORE} | fid", existing_comment=BEFORE)
    _run((SQL / "0011_fid.sql").read_text("utf-8"))


def downgrade() -> None:
    op.execute("DELETE FROM metric WHERE name = 'fid'")
    op.alter_column("metric", "name", comment=BEFORE)
    before = (SQL / "0009_evaluation.sql").read_text("utf-8")
    _run(before[before.index("CREATE OR REPLACE VIEW fidelity") : before.index("CREATE VIEW probes")])


def _run(statements: str) -> None:
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
