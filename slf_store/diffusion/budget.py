"""When training stops, and how fast it learns until then."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slf_store.diffusion.config import TrainingConfig
from slf_store.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """When to stop: after so many samples in all, or so many minutes of this call."""

    samples: int | None
    minutes: float | None

    def __post_init__(self) -> None:
        if (self.samples is None) == (self.minutes is None):
            raise ConfigError("training needs one budget", hint="give either samples or minutes")

    def share(self, samples_seen: int, elapsed_s: float) -> float:
        """Spent part of the budget, 0 to 1.

        >>> Budget(samples=200, minutes=None).share(50, 3.0)
        0.25
        """
        used = samples_seen / self.samples if self.samples is not None else elapsed_s / (60.0 * (self.minutes or 0.0))
        return min(used, 1.0)


def learning_rate(training: TrainingConfig, samples_seen: int, share: float) -> float:
    """Linear warm-up over samples, then a cosine fall over the last part of the budget.

    >>> [round(learning_rate(TrainingConfig(lr=1.0, decay_from=0.5), 0, s), 3) for s in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    """
    rate = training.lr
    if training.warmup_samples:
        rate *= min(1.0, (samples_seen + 1) / training.warmup_samples)
    if share > training.decay_from:
        rate *= 0.5 * (1.0 + math.cos(math.pi * (share - training.decay_from) / (1.0 - training.decay_from)))
    return rate
