"""Emptying the queue: enough chunks submitted to a pool of processes, until nothing is open."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from slf_store.constituents.registry import extractors
from slf_store.db.outage import outlast
from slf_store.errors import WorkerDied
from slf_store.jobs import queue
from slf_store.jobs.constituents import register
from slf_store.jobs.extract import ChunkReport, plan
from slf_store.jobs.lanes import lanes
from slf_store.jobs.process import run_chunk, use_large_pages
from slf_store.store import Store

Progress = Callable[[int, int], None]
RunChunks = Callable[[int], Iterable[dict[str, Any]]]
"""Runs so many chunks and yields each one's report as it comes."""


class Future(Protocol):
    """What a pool gives for a submitted chunk: an executor's future, or Prefect's."""

    def result(self) -> dict[str, Any]:
        """Wait for the chunk and give its report, or raise what it raised."""

    def add_done_callback(self, fn: Callable[[Any], Any], /) -> None:
        """Call `fn` with this future once the chunk has ended."""


def in_flight(submits: Sequence[Callable[[], Future]], count: int, at_once: int) -> Iterator[dict[str, Any]]:
    """Reports of chunks as they end, each way of submitting one kept busy for itself.

    A million clips are so never a million futures, a stop ends after the chunks in flight, and a slow GPU keeps no
    core waiting.

    Args:
        submits: one for each lane; submits a chunk.
        count: chunks of each lane at most; a lane ends at its first chunk without a clip.
        at_once: chunks of each lane waiting or running at most.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     sum(report["clips"] for report in in_flight([lambda: pool.submit(dict, clips=1)], 10, 3))
    10
    """
    ended: SimpleQueue[tuple[int, Future]] = SimpleQueue()
    left, flying = [count] * len(submits), [0] * len(submits)

    def fill(lane: int) -> None:
        while left[lane] and flying[lane] < at_once:
            left[lane] -= 1
            flying[lane] += 1
            submits[lane]().add_done_callback(lambda future: ended.put((lane, future)))

    for lane in range(len(submits)):
        fill(lane)
    while any(flying):
        lane, future = ended.get()
        flying[lane] -= 1
        report = future.result()
        if not report["clips"]:
            left[lane] = 0
        fill(lane)
        yield report


@contextmanager
def workers_end_with_us() -> Iterator[None]:
    """End this process's pool at once when it is told to stop (Ctrl-C, SIGTERM, a cancelled flow).

    They give their leases back (:mod:`slf_store.jobs.stopping`). After an ordinary error they finish their chunks.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise


def drain(
    store: Store,
    only: Collection[str],
    run_chunks: RunChunks,
    *,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> ChunkReport:
    """Plan, then run chunks until nothing is open.

    Raises:
        ExtractorBroken: too many values failed with errors that are not about the clip.
        ModelUnavailable, DatabaseError, ShardError: as a chunk raised it.
    """
    waiting = plan(store, only, retry_failed=retry_failed)
    total = sum(_count_open(store, lane.only) for lane in lanes(store.settings, only))
    report = ChunkReport()
    if progress and waiting:
        progress(0, total)
    while waiting:
        before = report.clips
        for finished in run_chunks(math.ceil(waiting / store.settings.chunk_size)):
            report.add(ChunkReport(**finished))
            report.check_ceiling(store.settings.error_ceiling)
            if progress:
                progress(min(report.clips, total), total)
        if report.clips == before:
            break
        waiting = outlast(store.engine, partial(_count_open, store, only), store.settings.database_patience_s)
    return report


def extract(
    store: Store, only: Collection[str] = (), *, retry_failed: bool = False, progress: Progress | None = None
) -> ChunkReport:
    """Extract everything missing in a pool of processes, without Prefect.

    Interrupted, it has its processes give their chunks back before it ends.

    Raises:
        WorkerDied: a process was killed.
        ExtractorBroken, ModelUnavailable, DatabaseError, ShardError: as :func:`drain`.

    Example::

        with Store.open(".slf") as store:
            print(extract(store).done)
    """
    use_large_pages()
    workers = store.settings.worker_count
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool, workers_end_with_us():

        def run_chunks(count: int) -> Iterable[dict[str, Any]]:
            submits = [
                partial(pool.submit, run_chunk, store.settings, lane.only) for lane in lanes(store.settings, only)
            ]
            return in_flight(submits, count, 2 * workers)

        try:
            return drain(store, only, run_chunks, retry_failed=retry_failed, progress=progress)
        except BrokenProcessPool as error:
            raise WorkerDied(
                "an extraction process was killed; often there is not enough memory",
                hint="run the same command again, perhaps with fewer processes (SLF_WORKERS): nothing is lost",
            ) from error


def _count_open(store: Store, only: Collection[str]) -> int:
    with store.engine.begin() as connection:
        keys = register(connection, [e.spec for e in extractors(store.settings, only)])
    return queue.count_open(store.engine, list(keys.values()))
