"""Ranks: the processes that train together, through accelerate; one by itself needs none of it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from slf_store.errors import ConfigError


def world_size() -> int:
    """How many processes `accelerate launch` or `torchrun` started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_rank() -> int:
    """Which of them this one is; rank 0 writes and speaks."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


class Ranks:
    """This process among those that train together.

    Args:
        device: "cpu", "cuda" or, for one process alone, a certain card as "cuda:1".

    Attributes:
        rank, world: this one, of how many.
        main: whether it is the one that writes.
        device: where it computes.

    Raises:
        ConfigError: a certain card is named for several processes, or they have another kind of device.

    >>> Ranks("cpu").main
    True
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.rank, self.world = own_rank(), world_size()
        self._accelerator: Any = None
        if self.world > 1:
            if self.device.index is not None:
                raise ConfigError(f"{self.world} processes on {device}", hint="say --device cuda: each takes its own")
            self._accelerator = _accelerator(self.device.type)
            if self._accelerator.device.type != self.device.type:
                raise ConfigError(
                    f"asked for {device}, the processes have {self._accelerator.device}", hint="check --device"
                )
            self.device = self._accelerator.device

    @property
    def main(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are averaged over the ranks in its backward pass."""
        return module if self.world == 1 else self._accelerator.prepare_model(module)

    def apart(self, module: nn.Module, *, until_last: bool) -> AbstractContextManager[Any]:
        """A block in which gradients only add up here, except where `until_last` says that the last part has come."""
        return nullcontext() if self.world == 1 or until_last else self._accelerator.no_sync(module)

    def sum(self, value: Tensor) -> Tensor:
        """Sum over all ranks; all of them must call it."""
        return value if self.world == 1 else self._accelerator.reduce(value, "sum")

    def agree(self, elapsed_s: float, stop: bool) -> tuple[float, bool]:
        """The main rank's clock, and whether any rank is to stop: what depends on either is the same everywhere."""
        if self.world == 1:
            return elapsed_s, stop
        told = torch.tensor([elapsed_s if self.main else 0.0, float(stop)], dtype=torch.float64, device=self.device)
        clock, stops = self.sum(told).tolist()
        return clock, stops > 0

    def same(self, value: int) -> bool:
        """Whether all ranks have this number."""
        if self.world == 1:
            return True
        sums = self.sum(torch.tensor([value, value**2], dtype=torch.float64, device=self.device))
        return bool(sums[0] ** 2 == self.world * sums[1])


def leave_ranks() -> None:
    """End the process group, so that nobody waits for this process any more."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _accelerator(kind: str) -> Any:
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # A U-Net without noise augmentation, or a step without a guide, leaves parameters out of the sum.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
    return Accelerator(cpu=kind == "cpu", kwargs_handlers=[unused])
