"""Draws: everything random in one training step, a function of (seed, samples seen) and the place in the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from slf_store.diffusion.config import TrainingConfig, UnetConfig
from slf_store.diffusion.crop import Crop, draw_crop
from slf_store.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Draws:
    """What is drawn for the n samples of a step: of all ranks, so that a rank or a micro-batch takes its `part`.

    >>> from slf_store.diffusion.config import preset
    >>> config = preset("tiny")
    >>> draws = draw(NoiseSchedule(config.unet1), config.training1, 4, torch.Generator().manual_seed(0))
    >>> torch.equal(draws.part(1, 2).noise, draws.noise[1:3])
    True
    """

    attributes: Tensor
    """(n, attribute rows) bool: True = this attribute row is kept."""
    conditional: Tensor
    """(n, 1) bool: True = the sample sees its conditioning."""
    unguided: Tensor | None
    """(n,) bool: True = the image guide is hidden; None = never."""
    augment: Tensor | None
    """(n,) noise level of the low image, 0 to 1; None = no noise."""
    augment_noise: Tensor | None
    """(n, 3, grid, grid) standard normal; of the crop's side where there is one."""
    timestep: Tensor
    """(n,) int64."""
    noise: Tensor
    """(n, 3, size, size) standard normal; of the crop's side where there is one."""
    crop: Crop | None = None
    """The square of each image that is trained on; None = all of it."""

    def part(self, first: int, count: int) -> Draws:
        """The draws of `count` samples from the `first` on; those of all are these very tensors."""
        return self._each(lambda value: value[first : first + count])

    def to(self, device: torch.device | str) -> Draws:
        """The same draws on another device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Draws:
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors, crop=self.crop and self.crop.each(change))

    def drop_rows(self, mask: Tensor) -> Tensor:
        """A mask (n, rows) without the attribute rows and the whole samples that are to be hidden.

        >>> kept = torch.tensor([[True, False], [True, True]])
        >>> draws = Draws(kept, torch.tensor([[True], [False]]), None, None, None, torch.zeros(2), torch.zeros(2))
        >>> draws.drop_rows(torch.ones(2, 3, dtype=torch.bool)).tolist()
        [[True, False, True], [False, False, False]]
        """
        kept = mask.clone()
        kept[:, : self.attributes.shape[1]] &= self.attributes
        return kept & self.conditional


def draw(schedule: NoiseSchedule, training: TrainingConfig, n: int, generator: torch.Generator) -> Draws:
    """Draw for n samples, on the generator's device.

    Attribute rows are hidden one by one, and now and then everything is (classifier-free guidance, Ho & Salimans 2022).
    """
    config, device = schedule.config, generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    crop = draw_crop(config, training.crop, n, generator)
    side = crop.side if crop else config.size
    attributes = uniform(n, training.attribute_rows) >= training.attribute_dropout
    conditional = uniform(n, 1) >= training.condition_dropout
    unguided = uniform(n) < training.guide_dropout if training.guide_dropout else None
    augment = augment_noise = None
    if config.augment_max:
        augment = uniform(n) * config.augment_max
        grid = side // config.patch
        augment_noise = torch.randn(n, 3, grid, grid, generator=generator, device=device)
    timestep = schedule.draw_timesteps(n, training.noise_levels, generator)
    noise = torch.randn(n, 3, side, side, generator=generator, device=device)
    return Draws(attributes, conditional, unguided, augment, augment_noise, timestep, noise, crop)


def draw_level(config: UnetConfig, seeds: list[int], level: int, levels: int) -> Draws:
    """Fixed draws for validation, on the CPU: each sample from its own seed, its timestep in one of equal stretches.

    Nothing is hidden, and the low image has the noise that sampling gives it.

    Args:
        config: of the U-Net.
        seeds: one per sample.
        level: which stretch of timesteps, 0 (least noise) to levels - 1.
        levels: stretches of equal length.

    >>> from slf_store.diffusion.config import preset
    >>> draw_level(preset("tiny").unet1, [7, 8], 3, 8).timestep.div(1000 / 8).int().tolist()
    [3, 3]
    """
    generators = [torch.Generator().manual_seed(seed_of(seed, level)) for seed in seeds]
    n = len(seeds)

    def normal(*shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    share = torch.cat([torch.rand(1, generator=generator) for generator in generators])
    timestep = ((level + share) / levels * config.timesteps).long().clamp(max=config.timesteps - 1)
    augmented = bool(config.augment_max)
    return Draws(
        attributes=torch.ones(n, 0, dtype=torch.bool),
        conditional=torch.ones(n, 1, dtype=torch.bool),
        unguided=None,
        augment=torch.full((n,), config.augment_level) if augmented else None,
        augment_noise=normal(3, config.grid, config.grid) if augmented else None,
        timestep=timestep,
        noise=normal(3, config.size, config.size),
    )


def seed_of(seed: int, position: int) -> int:
    """One 63-bit seed from two numbers (SplitMix64's finaliser, so that neighbours differ in every bit)."""
    x = (seed * 0x9E3779B97F4A7C15 + position + 1) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return (x ^ (x >> 31)) >> 1
