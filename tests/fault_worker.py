"""Extraction processes for tests of faults, forked from one that has the libraries in memory: each starts fast."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ONLY = ("mel", "face")
"""An array in a shard, and a row in PostgreSQL."""


def run(settings: object, fault: str, only: tuple[str, ...], said: Path, clock_s: float) -> None:
    """What `slf extract` does, in this one process; what it came to is written to `said`."""
    from slf_store.jobs.extract import ChunkReport, plan
    from slf_store.jobs.process import run_chunk
    from slf_store.store import Store

    os.environ["SLF_FAULT"] = fault
    if clock_s:
        real = time.time
        time.time = lambda: real() + clock_s
    total = ChunkReport()
    try:
        with Store.open(settings=settings) as store:  # type: ignore[arg-type]
            plan(store, only)
        while (report := ChunkReport(**run_chunk(settings, only))).clips:  # type: ignore[arg-type]
            total.add(report)
        said.write_text(f"clips {total.clips}")
    except BaseException as error:
        said.write_text(f"{type(error).__name__}: {error}")
        raise


class Worker:
    """One such process, started."""

    def __init__(
        self, settings: object, folder: Path, *, fault: str = "", only: tuple[str, ...] = ONLY, clock_s: float = 0
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["fault_worker_preload"])
        self.said = folder / f"said-{time.monotonic_ns()}"
        self.process: ForkServerProcess = context.Process(target=run, args=(settings, fault, only, self.said, clock_s))
        self.process.start()

    def join(self, timeout_s: float = 60) -> int:
        """Its exit status; negative is the signal that killed it."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, "it did not end"
        return self.process.exitcode

    def answer(self) -> str:
        """What it said at its end."""
        self.join()
        return self.said.read_text()

    def wait_stopped(self, timeout_s: float = 60) -> None:
        """Wait until it came to a fault point that pauses it."""
        deadline = time.monotonic() + timeout_s
        while psutil.Process(self.process.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "it did not come to its fault point"
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
