"""Work done ahead in one background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Buffer = TypeVar("Buffer")
Made = TypeVar("Made")


def in_background(
    items: Iterator[Item],
    make: Callable[[Item, Buffer], Made],
    ring: Sequence[Buffer],
    *,
    ahead: int,
    threads: int,
) -> Generator[Made, None, None]:
    """`make(item, buffer)` of every item in turn, made in a thread while the ones before are in use.

    What was made may lie in its buffer: the buffer is used again when the next one is asked for. An error in the
    thread is raised here. The thread ends with the iterator.

    Args:
        items: what to work on; taken in the thread.
        make: the work.
        ring: buffers, at least `ahead` + 1.
        ahead: results kept ready.
        threads: torch threads of the work. The setting of the caller stays as it is.

    >>> list(in_background(iter([1, 2, 3]), lambda item, buffer: item * buffer, [10, 10], ahead=1, threads=1))
    [10, 20, 30]
    """
    import torch

    free: queue.Queue[Buffer] = queue.Queue()
    for buffer in ring:
        free.put(buffer)
    ready: queue.Queue[tuple[Made, Buffer] | BaseException | None] = queue.Queue(ahead)
    stop, begun = threading.Event(), threading.Event()

    def put(item: tuple[Made, Buffer] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        torch.set_num_threads(threads)  # of this thread, and of those that begin later
        begun.set()
        try:
            for item in items:
                buffer = _take(free, stop)
                if buffer is None:
                    return
                put((make(item, buffer), buffer))
            put(None)
        except BaseException as error:
            put(error)

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
        thread.join()


def _take(free: queue.Queue[Buffer], stop: threading.Event) -> Buffer | None:
    while not stop.is_set():
        try:
            return free.get(timeout=0.1)
        except queue.Empty:
            continue
    return None
