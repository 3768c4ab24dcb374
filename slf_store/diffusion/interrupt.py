"""A wish to end, held back until the step is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Wish:
    """Whether somebody asked this process to end: the signal's number, or None."""

    asked: int | None = None


@contextmanager
def held_back() -> Iterator[Wish]:
    """A block in which the first Ctrl-C or SIGTERM is only noted; after the block it does what it would have done.

    The second one does it at once. Outside the main thread signals do not arrive: nothing is noted there.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: object) -> None:
        wish.asked = number
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield wish
    finally:
        restore()
    if wish.asked is not None:
        signal.raise_signal(wish.asked)
