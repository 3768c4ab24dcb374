"""Where chunks run: a pool of processes on this machine, or a Ray cluster."""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner

from slf_store.errors import ConfigError
from slf_store.jobs.lanes import Lane
from slf_store.jobs.pool import workers_end_with_us
from slf_store.settings import Settings, load_settings

GRACE_S = 20
"""Time for chunks on a cluster to stop; less than a Prefect worker waits before it kills (30 s)."""


def runner(settings: Settings | None = None) -> Any:
    """The task runner that the settings ask for.

    Raises:
        ConfigError: they name a Ray cluster, and `prefect-ray` is not installed.
    """
    settings = settings or load_settings()
    if settings.ray_address is None:
        return ProcessPoolTaskRunner(max_workers=settings.worker_count)
    try:
        from prefect_ray import RayTaskRunner
    except ImportError:
        raise ConfigError(
            "setting ray_address: Ray is not installed", hint="pip install 'slf-store[cluster]'"
        ) from None
    return RayTaskRunner(address=settings.ray_address, init_kwargs={"log_to_driver": False})


def at_once(settings: Settings) -> int:
    """Chunks of a lane in flight: twice what can run at the same time, so that nobody waits for the next."""
    if settings.ray_address is None:
        return 2 * settings.worker_count
    return 2 * max(1, int(_ray().cluster_resources().get("CPU", 1)))


def needs(settings: Settings, lane: Lane) -> AbstractContextManager[Any]:
    """Inside, submitted chunks ask a Ray cluster for what their lane needs: a core, or a share of a GPU and a core."""
    if settings.ray_address is None:
        return nullcontext()
    from prefect_ray.context import remote_options

    gpus = settings.gpu_share if lane.device == "gpu" else 0
    options: AbstractContextManager[Any] = remote_options(num_cpus=1, num_gpus=gpus, max_retries=0)
    return options


def place() -> str:
    """Where this process is: its machine, and its node of a Ray cluster."""
    host = socket.gethostname()
    node = _ray_node()
    return f"{host}, node {node[:8]}" if node else host


def described(settings: Settings) -> str:
    """Where chunks will run, in words."""
    if settings.ray_address is None:
        return f"in {settings.worker_count} processes on {socket.gethostname()}"
    alive = [node for node in _ray().nodes() if node["Alive"]]
    has = _ray().cluster_resources()
    return f"on a Ray cluster of {len(alive)} nodes, {has.get('CPU', 0):.0f} CPUs, {has.get('GPU', 0):.0f} GPUs"


@contextmanager
def ending_chunks(settings: Settings, flying: Collection[Any]) -> Iterator[None]:
    """Chunks end with the flow when it is told to stop: their processes give their leases back.

    Args:
        settings: where they run.
        flying: futures of chunks not yet ended; the caller keeps it.
    """
    if settings.ray_address is None:
        with workers_end_with_us():
            yield
        return
    try:
        yield
    except Exception:
        raise
    except BaseException:
        chunks = [future.wrapped_future for future in list(flying)]
        for chunk in chunks:
            _ray().cancel(chunk)  # as Ctrl-C in the worker
        _ray().wait(chunks, num_returns=len(chunks), timeout=GRACE_S)
        raise


def _ray() -> Any:
    import ray

    return ray


def _ray_node() -> str:
    """This process's node of the Ray cluster, if it belongs to one; Ray is not imported to find out."""
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray and ray.is_initialized() else ""
