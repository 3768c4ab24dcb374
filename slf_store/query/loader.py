"""The loader: batches of a snapshot in a deterministic order, gathered in one background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.diffusion.batch import Batch
from slf_store.errors import SelectionError
from slf_store.query.manifest import Manifest
from slf_store.query.order import samples_at
from slf_store.query.packed import PackedBatch, ShardMaps, gather_packed, new_buffers
from slf_store.query.scatter import Scatter
from slf_store.query.systems import System

if TYPE_CHECKING:
    import torch

AHEAD = 2
"""Batches gathered ahead of the one in use."""


class Loader:
    """Batches of one part of a snapshot for one system.

    Example::

        loader = Loader(open_snapshot(store, "train"), system("full-input"), batch_size=32)
        for batch in loader.batches(position=0):  # endless
            batch.conditioning, batch.mask, batch.guide, batch.target

    Args:
        manifest: opened snapshot.
        system: which inputs to give.
        batch_size: samples in a batch of this rank.
        seed: of the order.
        device: where batches are made.
        dtype: torch dtype name of the conditioning matrix.
        rank, world: this process among those that train together; each gets its share of every step.
    """

    def __init__(
        self,
        manifest: Manifest,
        system: System,
        *,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: str = "float32",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        import torch

        if len(manifest) == 0:
            raise SelectionError(f"snapshot {manifest.name}: this part holds no clip", hint="freeze with another split")
        if batch_size < 1 or not 0 <= rank < world:
            raise SelectionError(f"batch size {batch_size}, rank {rank} of {world}")
        self.manifest, self.system = manifest, system
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.device = torch.device(device)
        self.scatter = Scatter(manifest, system, device=self.device, dtype=getattr(torch, dtype))
        self._maps = ShardMaps()

    def batches(self, position: int = 0) -> Iterator[Batch]:
        """Endless batches after `position` samples seen by all ranks together."""
        step = self.batch_size * self.world

        def samples() -> Iterator[tuple[NDArray[np.int64], int]]:
            at = position
            while True:
                mine = samples_at(
                    at + self.rank * self.batch_size, self.batch_size, seed=self.seed, n=len(self.manifest)
                )
                at += step
                yield mine, at

        return self._in_background(samples())

    def once(self) -> Iterator[Batch]:
        """Every sample once, in snapshot order: for generation and validation."""

        def samples() -> Iterator[tuple[NDArray[np.int64], int]]:
            for start in range(0, len(self.manifest), self.batch_size):
                block = np.arange(start, min(start + self.batch_size, len(self.manifest)), dtype=np.int64)
                yield block, start + len(block)

        return self._in_background(samples())

    def _in_background(self, samples: Iterator[tuple[NDArray[np.int64], int]]) -> Iterator[Batch]:
        """Gather in one thread into a ring of buffers, hand out batches made from them."""
        pinned = self.device.type == "cuda"
        free: queue.Queue[dict[str, NDArray[Any]]] = queue.Queue()
        for _ in range(AHEAD + 1):
            free.put(new_buffers(self.manifest, self.scatter.names, self.batch_size, pinned=pinned))
        ready: queue.Queue[tuple[PackedBatch, int, dict[str, NDArray[Any]]] | BaseException | None] = queue.Queue(AHEAD)
        stop = threading.Event()

        def put(item: tuple[PackedBatch, int, dict[str, NDArray[Any]]] | BaseException | None) -> None:
            while not stop.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def work() -> None:
            try:
                for block, position in samples:
                    buffers = _take(free, stop)
                    if buffers is None:
                        return
                    packed = gather_packed(self.manifest, self.scatter.names, block, self._maps, buffers)
                    put((packed, position, buffers))
                put(None)
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=work, name="slf-loader", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                packed, position, buffers = item
                batch = self.scatter(packed, position)
                self._wait_for_copies()
                free.put(buffers)
                yield batch
        finally:
            stop.set()
            thread.join()

    def _wait_for_copies(self) -> None:
        """A pinned buffer may be filled again only when the device has copied it."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.current_stream(self.device).synchronize()


def _take(free: queue.Queue[dict[str, NDArray[Any]]], stop: threading.Event) -> dict[str, NDArray[Any]] | None:
    while not stop.is_set():
        try:
            return free.get(timeout=0.1)
        except queue.Empty:
            continue
    return None
