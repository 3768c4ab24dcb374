"""Fault points: a process dies at the named one, at the named time, and nowhere else."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slf_store.faults import FAULT_POINTS

PACKAGE = Path(__file__).parents[2] / "slf_store"

PROGRAM = "from slf_store.faults import fault_point\nfor n in range(3): fault_point('here'); print(n, flush=True)"


@pytest.mark.parametrize(
    ("fault", "printed", "status"),
    [("", "0 1 2", 0), ("there", "0 1 2", 0), ("here", "", -signal.SIGKILL), ("here:3", "0 1", -signal.SIGKILL)],
)
def test_a_process_dies_at_its_fault_point(fault: str, printed: str, status: int) -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], env={"SLF_FAULT": fault}, capture_output=True, text=True)
    assert (" ".join(found.stdout.split()), found.returncode) == (printed, status)


def test_the_registry_names_the_fault_points_that_the_code_has() -> None:
    code = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if path.name != "faults.py")
    assert set(re.findall(r'fault_point\("([^"]*)"\)', code)) == set(FAULT_POINTS)
    assert code.count("fault_point(") == len(re.findall(r'fault_point\("[^"]*"\)', code))


def test_every_fault_point_is_in_the_published_table() -> None:
    page = (PACKAGE.parent / "docs" / "faults.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]*) \|", page, re.MULTILINE))
    assert rows == FAULT_POINTS
