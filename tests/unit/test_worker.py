"""Who holds a lease: told apart by place, process and start, whatever the clock says."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slf_store.jobs import worker
from slf_store.jobs.worker import new_owner, owner_is_dead

PACKAGE = Path(__file__).parents[2] / "slf_store"


def test_an_owner_lives_as_long_as_its_process() -> None:
    program = "from slf_store.jobs.worker import new_owner; print(new_owner(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    owner = process.stdout.readline().strip()
    assert not owner_is_dead(owner)
    process.send_signal(signal.SIGSTOP)
    assert not owner_is_dead(owner)  # stopped is not dead
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner_is_dead(owner)  # a zombie
    process.wait()
    assert owner_is_dead(owner)


def test_a_later_process_with_the_same_number_is_another_owner() -> None:
    place, pid, started, ending = new_owner().split("/")
    assert owner_is_dead(f"{place}/{pid}/{int(started) - 1}/{ending}")


def test_another_container_of_the_same_name_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = new_owner()
    gone = mine.replace(f"/{os.getpid()}/", "/999999999/")
    assert owner_is_dead(gone)
    elsewhere = gone.replace("+", "+0", 1)
    assert elsewhere.partition("+")[0] == gone.partition("+")[0]
    assert not owner_is_dead(elsewhere)
    monkeypatch.setattr(worker, "place", lambda: "another")
    assert not owner_is_dead(gone)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
def test_a_change_of_the_clock_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = new_owner()
    monkeypatch.setattr(worker.psutil.Process, "create_time", lambda process: 0.0)  # what a step of the clock alters
    assert not owner_is_dead(owner)
    assert new_owner().split("/")[2] == owner.split("/")[2]


def test_no_job_decides_by_the_clock_of_its_machine() -> None:
    """Leases run by the database's clock; here only the monotonic one measures durations."""
    wall = {
        "time.time",
        "time.time_ns",
        "dt.datetime.now",
        "datetime.now",
        "datetime.datetime.now",
        "dt.datetime.utcnow",
    }
    files = [*(PACKAGE / "jobs").rglob("*.py"), *(PACKAGE / "db").rglob("*.py")]
    calls = [
        (path.name, ast.unparse(node.func))
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    ]
    no_decision = {("backup_folder.py", "dt.datetime.now"), ("gc.py", "time.time")}  # a date to read; a file's age
    assert [call for call in calls if call[1] in wall and call not in no_decision] == []
    assert any(call[1] == "time.monotonic" for call in calls)
