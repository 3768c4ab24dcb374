"""What every flow shares: Prefect's settings, which errors are worth a retry, who watches, giving leases back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from slf_store.errors import ConfigError, DatasetError, ExtractorBroken, ModelUnavailable

Progress = Callable[[int, int], None]

_DEFAULTS = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "INFO",  # to Prefect's pages; the terminal shows warnings only:
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_watcher: ContextVar[Progress | None] = ContextVar("watcher", default=None)


def prepare(home: Path) -> None:
    """Quiet, no telemetry, and Prefect's own files inside the store; what the environment sets already stays.

    To be called before Prefect is imported.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(home.absolute() / "prefect"))


@contextmanager
def watched_by(progress: Progress | None) -> Iterator[None]:
    """Flows run inside tell `progress` (done, total) as well: a bar on a terminal, which is no parameter of a flow."""
    token = _watcher.set(progress)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def shared_server() -> Iterator[None]:
    """Processes that start inside report to this process's Prefect server; each would start a temporary one else."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with get_client(sync_client=True) as client, temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        yield


def watcher() -> Progress | None:
    """Who watches the flow that runs here."""
    return _watcher.get()


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Whether a failed task may succeed later: not when a model is missing, an extractor broken or the input wrong."""
    try:
        state.result()
    except (ModelUnavailable, ExtractorBroken, DatasetError, ConfigError):
        return False
    except Exception:
        return True
    return False


def give_back_leases(flow: Any, flow_run: Any, state: Any) -> None:
    """Hook of a run that was cancelled or crashed: what this machine's dead processes had leased is open again.

    Processes that still live give theirs back themselves, other machines' leases expire.
    """
    from slf_store.jobs.queue import release_dead
    from slf_store.settings import load_settings
    from slf_store.store import Store

    with Store.open(settings=load_settings(flow_run.parameters["home"])) as store:
        release_dead(store.engine)
