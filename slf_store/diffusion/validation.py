"""Validation: the loss on people that training never sees, by noise level."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.draws import draw_level, seed_of
from slf_store.diffusion.objective import Objective

LEVELS = 8
"""Equal stretches of timesteps, from the least noise to the most."""
_SEED = 0x5EED
"""Of the draws: the same whatever the run's own seed, so that runs compare too."""

ValidationSource: TypeAlias = Callable[[], Iterable[Batch]]
"""Gives the same few clips, in the same order, each time it is called."""


@dataclass(frozen=True)
class Validation:
    """Loss of the averaged weights, in the units of the training loss (same weights, timesteps drawn evenly)."""

    loss: float
    """Mean of the levels."""
    levels: tuple[float, ...]
    """Mean of each stretch of timesteps, the least noise first."""


@torch.no_grad()
def validate(objective: Objective, batches: Iterable[Batch], device: torch.device | str) -> Validation:
    """Mean loss over the batches at each noise level.

    Every clip has draws of its own at every level, by its place alone: two moments, two runs and two batch sizes
    differ in the weights only.

    Args:
        objective: with the weights to look at.
        batches: of validation clips, not empty.
        device: where to compute.
    """
    config = objective.unet.config
    sums, place = torch.zeros(LEVELS, dtype=torch.float64), 0
    for given in batches:
        batch = given.to(device)
        seeds = [seed_of(_SEED, place + i) for i in range(len(batch))]
        for level in range(LEVELS):
            draws = draw_level(config, seeds, level, LEVELS).to(device)
            sums[level] += objective(batch, draws).double().sum().cpu()
        place += len(batch)
    levels = (sums / place).tolist()
    return Validation(sum(levels) / LEVELS, tuple(levels))
