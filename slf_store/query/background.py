"""Work done ahead in one background thread, and work shared among threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")
Buffer = TypeVar("Buffer")
Made = TypeVar("Made")


def in_background(
    items: Iterator[Item], make: Callable[[Item, Buffer], Made], ring: Sequence[Buffer], *, threads: int
) -> Generator[Made, None, None]:
    """`make(item, buffer)` of every item in turn, made in a thread while the ones before are in use.

    What was made may lie in its buffer: the buffer is used again when the next one is asked for. An error in the
    thread is raised here. The thread ends with the iterator.

    Args:
        items: what to work on; taken in the thread.
        make: the work.
        ring: buffers: one in use, the others for what is made ahead.
        threads: torch threads of the work. The setting of the caller stays as it is.

    >>> list(in_background(iter([1, 2, 3]), lambda item, buffer: item * buffer, [10, 10], threads=1))
    [10, 20, 30]
    """
    import torch

    free: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[Made, Buffer] | BaseException | None] = queue.SimpleQueue()
    for buffer in ring:
        free.put(buffer)
    stop, begun = threading.Event(), threading.Event()

    def work() -> None:
        torch.set_num_threads(threads)  # of this thread, and of those that begin later
        begun.set()
        try:
            for item in items:
                buffer = free.get()
                if buffer is None or stop.is_set():
                    return
                ready.put((make(item, buffer), buffer))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    before = torch.get_num_threads()
    thread = threading.Thread(target=work, name="slf-loader", daemon=True)
    thread.start()
    begun.wait()
    torch.set_num_threads(before)
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            made, buffer = item
            yield made
            free.put(buffer)
    finally:
        stop.set()
        free.put(None)  # wakes a thread that waits for a buffer
        thread.join()


def in_parallel(work: Callable[[slice], None], n: int) -> None:
    """`work(part)` for parts of `range(n)`, each in a thread of its own: as many as torch has threads.

    Of much work in small steps this is faster than torch's own threads, which meet at the end of every step.

    >>> seen = [0] * 10
    >>> in_parallel(lambda part: seen.__setitem__(part, [1] * (part.stop - part.start)), 10)
    >>> sum(seen)
    10
    """
    import torch

    threads = min(torch.get_num_threads(), n)
    if threads < 2:
        return work(slice(0, n))
    cuts = [n * number // threads for number in range(threads + 1)]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, (slice(*cut) for cut in pairwise(cuts))))
    finally:
        torch.set_num_threads(torch.get_num_threads())  # the pool's setting is not for threads that begin later
