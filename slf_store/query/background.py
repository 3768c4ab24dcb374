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
