"""One extraction process: one thread in every library, models loaded once, chunk after chunk.

It ends when it is told to (SIGTERM), or when the process that made it is gone, however that ended: its chunk is given
back first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from slf_store.db.outage import outlast
from slf_store.jobs import stopping
from slf_store.jobs.extract import LoadedExtractors, extract_chunk
from slf_store.settings import Settings
from slf_store.store import Store

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_opened: dict[tuple[str, tuple[str, ...]], tuple[Store, LoadedExtractors]] = {}


def run_chunk(settings: Settings, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Claim and extract one chunk in this process; what it came to, as plain data.

    The first call in a process opens the store and loads the models; later ones find them there. A database that goes
    away is waited for; a signal to stop, or the end of the process that started this one, gives the chunk back.

    Raises:
        DatabaseError: the database stayed away for longer than `database_patience_s`.
        LeaseLost, ModelUnavailable, ShardError: as extracting the chunk raised it.
    """
    with stopping.at_work():
        key = (str(settings.home), only)
        if key not in _opened:
            _single_thread()
            store = Store.open(settings=settings)
            _opened[key] = (store, LoadedExtractors(store, only))
        store, loaded = _opened[key]
        return asdict(outlast(store.engine, partial(extract_chunk, store, loaded), settings.database_patience_s))


def use_large_pages() -> None:
    """Let processes started from here on get large pages from malloc; call it before making a pool.

    Networks take and give back hundreds of megabytes for every clip. With pages of 4 kB that is a hundred thousand page
    faults a clip: Whisper takes 1.3 times as long. glibc reads this when a process starts; other libraries do not.
    """
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, values are computed with one thread, as extraction processes do: on some processors more threads add in
    another order, and the last bit of a value differs from the stored one.
    """
    import threadpoolctl
    import torch

    before = torch.get_num_threads()
    with threadpoolctl.threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _single_thread() -> None:
    """Processes share the cores: a second thread in each only makes them wait for each other."""
    for name in _THREADS:  # for libraries loaded from here on
        os.environ[name] = "1"
    with suppress(ImportError):
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)  # for those there already: numpy has asked for its threads
    if torch := sys.modules.get("torch"):  # loaded later it follows OMP_NUM_THREADS; loading it takes seconds
        torch.set_num_threads(1)
