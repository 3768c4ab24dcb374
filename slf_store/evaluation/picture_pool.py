"""A function over many picture files: here, or in a pool of processes."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FACES_PER_PROCESS = 40
"""A process takes seconds to load its models: fewer faces than this are not worth one more."""


@contextmanager
def picture_map(
    function: Callable[[Path], T], models: Path, workers: int, pictures: int
) -> Iterator[Callable[[Sequence[Path]], Iterator[T]]]:
    """A function from paths to results in the same order.

    Args:
        function: of one picture; can be pickled.
        models: folder of weights.
        workers: processes at most.
        pictures: how many there will be: few are done in this process.
    """
    processes = max(1, min(workers, pictures // FACES_PER_PROCESS))
    if processes == 1:
        from slf_store.media.face import prepare_deepface

        prepare_deepface(models)
        yield lambda paths: map(function, paths)
        return
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=start_process, initargs=(models,)
    )
    try:
        yield lambda paths: pool.map(function, paths, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def start_process(models: Path) -> None:
    """Make a worker process ready: one thread each, DeepFace pointed to the store's weights."""
    from slf_store.media.face import prepare_deepface

    prepare_deepface(models)
    import cv2

    cv2.setNumThreads(1)
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)
