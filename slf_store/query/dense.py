"""Large tensors that are used again: a fresh one costs more in page faults than in writing it."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class DenseBuffers:
    """Tensors of one shape whose memory comes back when the last tensor that shares it is gone.

    So nothing is ever overwritten that anybody can still see, and one who keeps no batch runs on two buffers for ever.
    Memory is zero when it is new, afterwards it holds what it held before.

    >>> import torch
    >>> buffers = DenseBuffers((256, 768), torch.float32)
    >>> first = buffers.take(2, torch.device("cpu"))
    >>> address = first.data_ptr()
    >>> del first
    >>> buffers.take(2, torch.device("cpu")).data_ptr() == address
    True
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._free: list[NDArray[np.uint8]] = []

    def __reduce__(self) -> tuple[type[DenseBuffers], tuple[Any, ...]]:
        return DenseBuffers, (self.shape, self.dtype)

    def take(self, n: int, device: torch.device) -> Tensor:
        """A tensor (n, *shape)."""
        import torch

        if device.type != "cpu":  # the allocator of a GPU keeps memory itself
            return torch.zeros((n, *self.shape), dtype=self.dtype, device=device)
        size = n * math.prod(self.shape) * self.dtype.itemsize
        buffer = self._free.pop() if self._free else np.zeros(size, np.uint8)
        if len(buffer) < size:
            buffer = np.zeros(size, np.uint8)
        lent = buffer[:size]  # the tensor's memory lives as long as this object
        weakref.finalize(lent, self._free.append, buffer).atexit = False
        return torch.from_numpy(lent).view(self.dtype).reshape(n, *self.shape)
