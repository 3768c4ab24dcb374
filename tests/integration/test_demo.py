"""`slf demo`, small: every stage runs, the report is there, no server stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.integration

SCRIPT = """
import sys
from pathlib import Path
from slf_store.cli import demo
from slf_store.cli.context import Context
if __name__ == "__main__":
    demo.plan_demo = lambda minutes: demo.DemoPlan(6, 3, 2, False, 1e9, (0.5, 0.5, 0))
    demo.SCALES = (1.0, 2.0)
    demo.run_demo(Context(None, True, 0), Path(sys.argv[1]), 0.4, keep_server=False)
"""


def servers(folder: Path) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]


def test_the_demo_runs_every_stage_and_leaves_no_server(open_folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "small.py"
    program.write_text(SCRIPT)
    folder = open_folder / "demo"
    given = {**os.environ, "SLF_WORKERS": "1", "SLF_THREADS": "1"}
    environment = {key: value for key, value in given.items() if key != "SLF_DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, program, folder], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["scale_chosen_on_validation"]) == {"full-input"}
    systems = {(row["run"], row["system"]) for row in result["recall"]}
    assert ("full-input", "full-input") in systems
    assert ("full-input", "bicubic-8x8") in systems
    page = (folder / "report.html").read_text("utf-8")
    assert page.count("data:image/png") > 8
    assert "synthetic" in page.lower()
    assert servers(folder) == []
