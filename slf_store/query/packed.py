"""Packed rows: the stored values of a batch as they lie in the shards, gathered into reused buffers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ShardError
from slf_store.query.manifest import Located, Manifest
from slf_store.shards.reader import map_values


@dataclass
class PackedBatch:
    """Values of some samples, still in stored precision.

    Attributes:
        samples: (B,) int64 indices into the manifest.
        values: {constituent: (B, *shape)}; zeros where a sample has none.
    """

    samples: NDArray[np.int64]
    values: dict[str, NDArray[Any]]


class ShardMaps:
    """Maps of shard files, opened when first needed, once per process: safe under fork and spawn."""

    def __init__(self) -> None:
        self._maps: dict[Path, NDArray[Any]] = {}

    def get(self, path: Path) -> NDArray[Any]:
        """The values of a shard."""
        found = self._maps.get(path)
        if found is None:
            found = self._maps[path] = map_values(path)
        return found

    def __reduce__(self) -> tuple[type[ShardMaps], tuple[()]]:
        return ShardMaps, ()


def gather_packed(
    manifest: Manifest,
    names: tuple[str, ...],
    samples: NDArray[np.int64],
    maps: ShardMaps,
    out: dict[str, NDArray[Any]],
) -> PackedBatch:
    """Copy the samples' rows from the maps into `out`: {name: (≥ B, *shape)} buffers that are used again.

    Raises:
        ShardError: naming snapshot, constituent and clip.
    """
    values: dict[str, NDArray[Any]] = {}
    for name in names:
        located = manifest.constituents[name]
        buffer = out[name][: len(samples)]
        _gather(manifest, located, samples, maps, buffer)
        values[name] = buffer
    return PackedBatch(samples, values)


def new_buffers(
    manifest: Manifest, names: tuple[str, ...], batch_size: int, *, pinned: bool
) -> dict[str, NDArray[Any]]:
    """Buffers for one batch, in page-locked memory when a GPU will copy from them."""
    import torch

    buffers: dict[str, NDArray[Any]] = {}
    for name in names:
        located = manifest.constituents[name]
        empty = torch.zeros((batch_size, *located.shape), dtype=getattr(torch, located.dtype.name), pin_memory=pinned)
        buffers[name] = empty.numpy()
    return buffers


def _gather(
    manifest: Manifest, located: Located, samples: NDArray[np.int64], maps: ShardMaps, buffer: NDArray[Any]
) -> None:
    shards, rows = located.shard[samples], located.row[samples]
    for shard in np.unique(shards):
        wanted = np.flatnonzero(shards == shard)
        if shard < 0:
            buffer[wanted] = 0
            continue
        try:
            mapped = maps.get(located.paths[shard])
            buffer[wanted] = mapped[rows[wanted]]
        except (ShardError, IndexError) as error:
            clip = manifest.clip_ids[samples[wanted[0]]]
            raise ShardError(
                f"snapshot {manifest.name}, constituent {located.name}, clip {clip}: {error}",
                hint="run `slf coverage`; extract the clip again, or freeze anew",
            ) from error
