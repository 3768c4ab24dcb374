"""A loader as a PyTorch dataset, for any trainer that takes a `DataLoader`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info

from slf_store.diffusion.batch import Batch
from slf_store.query.loader import Loader
from slf_store.query.manifest import Manifest
from slf_store.query.systems import System


class SnapshotDataset(IterableDataset[Batch]):
    """Batches of a snapshot as an `IterableDataset`.

    It makes whole batches, so the `DataLoader` must not: `batch_size=None`. The batches and their order are the same
    for any `num_workers`, 0 included (the fastest: the loader has a thread of its own), forked or spawned. They may be
    changed in place.

    Example::

        dataset = SnapshotDataset(open_snapshot(store, "train"), system("full-input"), batch_size=32)
        for batch in DataLoader(dataset, batch_size=None, num_workers=0, pin_memory=True):
            batch.position  # keep it: `dataset.position = position` resumes there

    Args:
        manifest: opened snapshot.
        system: which inputs to give.
        batch_size: samples in a batch of this rank.
        seed: of the order.
        dtype: of the conditioning matrix.
        rank, world: as in :class:`Loader`; by default what `torch.distributed` says when it is set up, else 0 of 1.
        position: samples seen by all ranks together. Set it to resume.
        samples: how many all ranks together shall see in one pass; None never ends. With ranks that wait for each
            other take a multiple of `batch_size × world`: only then each rank has the same number of full batches.
    """

    def __init__(
        self,
        manifest: Manifest,
        system: System,
        *,
        batch_size: int,
        seed: int = 0,
        dtype: str = "float32",
        rank: int | None = None,
        world: int | None = None,
        position: int = 0,
        samples: int | None = None,
    ) -> None:
        grouped = distributed.is_available() and distributed.is_initialized()
        rank = rank if rank is not None else distributed.get_rank() if grouped else 0
        world = world if world is not None else distributed.get_world_size() if grouped else 1
        self.loader = Loader(
            manifest, system, batch_size=batch_size, seed=seed, dtype=dtype, rank=rank, world=world, writable=True
        )
        self.position, self.samples = position, samples

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        part = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self.loader.batches(self.position, self.samples, part=part)
