"""Stopping an extraction process: it gives its chunk back and ends, also when who started it is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

_state = {"installed": False, "working": False, "asked": False}


@contextmanager
def at_work() -> Iterator[None]:
    """A block that a signal to stop interrupts once, so that it can clean up; the process then takes no further work.

    Only child processes listen: what a signal means to a main process is its own affair.

    Raises:
        KeyboardInterrupt: the process was told to stop.
    """
    if not _state["installed"]:
        _state["installed"] = True
        _listen()
    if _state["asked"]:
        raise KeyboardInterrupt
    _state["working"] = True
    try:
        yield
    finally:
        _state["working"] = False


def _listen() -> None:
    parent = multiprocessing.parent_process()
    if parent is None or threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _asked)
    threading.Thread(target=_follow, args=(parent.sentinel,), name="slf-parent", daemon=True).start()


def _asked(_number: int, _frame: object) -> None:
    if not _state["working"]:
        _state["asked"] = True
        raise SystemExit(128 + signal.SIGTERM)
    if not _state["asked"]:
        _state["asked"] = True
        threading.Thread(target=_end, name="slf-end", daemon=True).start()  # once the chunk is given back
        raise KeyboardInterrupt


def _follow(sentinel: int) -> None:
    """Once the parent is gone nobody would end this process: its queue stays open at this end."""
    wait([sentinel])
    _end()


def _end() -> None:
    """Ask again until this process ends: at work it hears the first time only, then it waits for its queue for ever."""
    while True:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
