"""`slf serve-flows`: a standing server on the store's PostgreSQL, its runs cancelled, its own database lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from slf_store.explorer.flow_runs import last_runs
from slf_store.jobs.commit import SEAL_LOCK
from slf_store.jobs.ingest import ingest
from slf_store.store import Store

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
ONLY = {"parameters": {"only": ["image_guide"]}}
ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")


class Server:
    """A served store: its API and its process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.url = process, f"http://127.0.0.1:{port}/api"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def start(self, deployment: str, body: dict[str, Any]) -> str:
        found = self.ask(f"/deployments/name/{deployment}/{deployment}")
        return str(self.ask(f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def state(self, run: str) -> str:
        return str(self.ask(f"/flow_runs/{run}")["state_name"])


def wait_for(true: Callable[[], bool], what: str, seconds: float = 120) -> float:
    """Wait, and say how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.1)
    return time.monotonic() - began


@contextmanager
def serving(home: Path, folder: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "slf_store.cli.main", "--home", home, "serve-flows", "--no-schedules", f"--port={port}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PREFECT_HOME": str(folder), "SLF_WORKERS": "2", "PREFECT_RUNNER_POLL_FREQUENCY": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    server = Server(process, port)
    try:
        wait_for(lambda: process.poll() is not None or registered(server), "the server did not start")
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    with pytest.raises(OSError, match=r"refused"):
        server.ask("/health")
    assert password(os.environ["SLF_DATABASE_URL"]) not in said


def registered(server: Server) -> bool:
    try:
        return len(server.ask("/deployments/filter", {"limit": 10})) == 5
    except OSError:
        return False


def password(url: str) -> str:
    return url.split(":")[2].split("@")[0]


def leased(store: Store) -> int:
    return int(store.query("SELECT count(*) AS n FROM extraction WHERE state = 'leased'")[0]["n"])


def drop_prefects_database(store: Store) -> None:
    url = store.engine.url.set(drivername="postgresql", database="postgres")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS prefect WITH (FORCE)")


def test_a_cancelled_run_gives_back_its_leases_and_prefects_database_may_be_lost(
    store: Store, sample: Path, tmp_path: Path
) -> None:
    ingest(store, sample / "test")
    home = store.settings.home
    drop_prefects_database(store)
    with serving(home, tmp_path / "prefect") as server:
        # Nobody can seal or commit while this is held: the run is caught in the middle of its work.
        with store.engine.begin() as lock:
            lock.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SEAL_LOCK})
            run = server.start("extract", ONLY)
            wait_for(lambda: leased(store) > 0, "nothing was claimed")
            server.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
            wait_for(lambda: leased(store) == 0, "leases stay after the run was cancelled", 30)
        wait_for(lambda: server.state(run) == "Cancelled", "the run is not called cancelled", 60)

        run = server.start("extract", ONLY)
        wait_for(lambda: server.state(run) in ENDED, "the run does not end")
        assert server.state(run) == "Completed"
        before = store.query(
            "SELECT clip_id, attempts, shard_id, shard_row, value_hash FROM extraction ORDER BY clip_id"
        )
        assert len(before) == 6
        assert all(row["shard_id"] for row in before)
        readable(server, run, store)
        deploy(server, tmp_path)

    drop_prefects_database(store)
    with serving(home, tmp_path / "prefect") as server:
        run = server.start("extract", ONLY)
        wait_for(lambda: server.state(run) in ENDED, "the run does not end")
        assert server.state(run) == "Completed"
    after = store.query("SELECT clip_id, attempts, shard_id, shard_row, value_hash FROM extraction ORDER BY clip_id")
    assert after == before
    (told,) = last_runs(store.engine, home)
    assert (told["flow"], told["state"], len(told["started"])) == ("extract", "Completed", 19)


def readable(server: Server, run: str, store: Store) -> None:
    """What people see of a run says what it did, and names no file, no clip and no secret."""
    mine = {"flow_runs": {"id": {"any_": [run]}}, "limit": 100}
    wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}

    def logged() -> list[str]:
        return [line["message"] for line in server.ask("/logs/filter", wanted)]

    def is_told(words: str) -> bool:
        return any(words in line for line in logged())

    wait_for(lambda: is_told("6 of 6 clips extracted"), "how far it came is not told", 30)  # sent in batches
    lines = logged()
    assert any("extracting what clips lack of image_guide on CPU, in 2 processes" in line for line in lines)
    artifacts = {found["key"]: found for found in server.ask("/artifacts/filter", mine)}
    assert artifacts["extracting"]["data"] == 100
    assert "**6 values** of 6 clips" in artifacts["extraction"]["data"]
    assert json.loads(artifacts["throughput"]["data"])[0]["made"] == 6
    assert server.ask(f"/flow_runs/{run}")["name"].startswith("extract image_guide")
    names = [found["name"] for found in server.ask("/task_runs/filter", mine)]
    assert "chunk 1: up to 16 clips, image_guide, on CPU" in names
    told = json.dumps([lines, [found["data"] for found in artifacts.values()], names])
    clip = store.query("SELECT clip.path, source.root FROM clip, source LIMIT 1")[0]
    for hidden in (clip["path"], clip["root"], clip["path"].split("/")[-3], password(os.environ["SLF_DATABASE_URL"])):
        assert hidden not in told


def deploy(server: Server, folder: Path) -> None:
    """`prefect deploy --all` takes `prefect.yaml` as it is."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": server.url,
        "PREFECT_HOME": str(folder / "cli"),
        "DO_NOT_TRACK": "1",
    }
    server.ask("/work_pools/", {"name": "slf", "type": "process"})
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pools = {found["name"]: found["work_pool_name"] for found in server.ask("/deployments/filter", {"limit": 10})}
    assert pools == dict.fromkeys(("ingest", "extract", "verify", "evaluate", "ablate"), "slf")
