"""A standing Prefect server for one store, and the process that starts its runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from slf_store.db.postmaster import death_signal
from slf_store.errors import ConfigError, DatabaseError

HOST = "127.0.0.1"
GPU_CHUNKS = 1
"""Chunks with GPU work that run at once on this machine."""


@contextmanager
def prefect_server(home: Path, database: URL, port: int, *, timeout_s: float = 120) -> Iterator[str]:
    """A Prefect server on a PostgreSQL database, ended with the block; gives the address of its API.

    The database's password goes to the server in its environment and nowhere else.

    Raises:
        ConfigError: the port is taken.
        DatabaseError: the server does not start; the message names its log.
    """
    _check_free(port)
    log = home / "prefect" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    url = database.set(drivername="postgresql+asyncpg", query={}).render_as_string(hide_password=False)
    api = f"http://{HOST}:{port}/api"
    said = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | said
    with log.open("ab") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C ends the runs first, then the server they report to
            preexec_fn=death_signal() if sys.platform == "linux" else None,
        )
    try:
        _wait_ready(server, api, log, time.monotonic() + timeout_s)
        yield api
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def serve_deployments(home: Path, *, schedules: bool, timezone: str, at_once: int) -> None:
    """Register the store's deployments with the server of `PREFECT_API_URL` and run them until told to stop.

    Raises:
        ConfigError: there is no such time zone.
    """
    from zoneinfo import available_timezones

    if timezone not in available_timezones():
        raise ConfigError(f"no time zone {timezone!r}", hint="a name such as UTC or Europe/Berlin")
    from prefect import serve
    from prefect.client.orchestration import get_client

    from flows.deployments import deployments
    from flows.extract import GPU_TAG

    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=GPU_TAG, concurrency_limit=GPU_CHUNKS)
        _close_lost_runs(client)
    serve(
        *deployments(home, schedules=schedules, timezone=timezone),
        limit=at_once,
        pause_on_shutdown=True,  # no heap of late runs when it is started again
        print_starting_message=False,
    )


def _close_lost_runs(client: Any) -> None:
    """Say of runs whose process went with an earlier server that they crashed: else they hold their place for ever.

    No other process starts this server's deployments, so at its start none of their runs can be alive.
    """
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    alive = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    deployed = FlowRunFilterDeploymentId(is_null_=False)
    found = FlowRunFilter(state=FlowRunFilterState(type=alive), deployment_id=deployed)
    for run in client.read_flow_runs(flow_run_filter=found, limit=100):
        client.set_flow_run_state(run.id, Crashed(message="it ended with `slf serve-flows`; run it again"), force=True)


def _wait_ready(server: subprocess.Popen[bytes], api: str, log: Path, deadline: float) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            raise DatabaseError("the Prefect server did not start", hint=f"read {log}")
        time.sleep(0.1)


def _check_free(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {HOST}: {error.strerror}", hint="end what uses it, or choose another with --port"
            ) from None
