"""Batch: what a loader hands to training, and how a training asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One batch of samples.

    >>> import numpy, torch
    >>> batch = Batch(conditioning=torch.zeros(2, 256, 768), mask=torch.zeros(2, 256, dtype=torch.bool), guide=None,
    ...               target=torch.zeros(2, 3, 128, 128), clip_ids=numpy.arange(2), position=2)
    >>> len(batch)
    2
    """

    conditioning: Tensor
    """(B, rows, columns) float; a masked row may hold anything."""
    mask: Tensor
    """(B, rows) bool: True = this row is present and selected."""
    guide: Tensor | None
    """(B, 3, 8, 8) in [-1, 1]; None when the system has no image guide."""
    target: Tensor
    """(B, 3, 128, 128) in [-1, 1]; channels may be last in memory."""
    clip_ids: np.ndarray[Any, np.dtype[np.int64]]
    """(B,) int64."""
    position: int
    """Samples seen up to and including this batch."""

    def __len__(self) -> int:
        return len(self.target)

    def part(self, first: int, count: int) -> Batch:
        """`count` samples from the `first` on; they share memory with this batch."""
        cut = slice(first, first + count)
        return replace(
            self,
            conditioning=self.conditioning[cut],
            mask=self.mask[cut],
            guide=None if self.guide is None else self.guide[cut],
            target=self.target[cut],
            clip_ids=self.clip_ids[cut],
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; conditioning, guide and target become float32."""
        import torch

        def move(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=torch.float32, non_blocking=True)

        return replace(
            self,
            conditioning=move(self.conditioning),
            mask=self.mask.to(device=device, non_blocking=True),
            guide=None if self.guide is None else move(self.guide),
            target=move(self.target),
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory: what a `DataLoader` calls for `pin_memory=True`."""
        return replace(
            self,
            conditioning=self.conditioning.pin_memory(),
            mask=self.mask.pin_memory(),
            guide=None if self.guide is None else self.guide.pin_memory(),
            target=self.target.pin_memory(),
        )


BatchSource: TypeAlias = Callable[[int], Iterable[Batch]]
"""`source(position)` gives the batches that follow after `position` samples: the whole of resuming."""
