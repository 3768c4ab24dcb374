"""Objective: what training minimises, the weighted squared error of a U-Net's prediction."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.config import TrainingConfig, UnetConfig
from slf_store.diffusion.draws import Draws
from slf_store.diffusion.schedule import NoiseSchedule
from slf_store.diffusion.unet import SlfUnet, resize


class Objective(nn.Module):
    """A U-Net and its loss as one module: what many GPUs wrap, so that their gradients meet.

    >>> from slf_store.diffusion.config import preset
    >>> import numpy
    >>> from slf_store.diffusion.draws import draw
    >>> config = preset("tiny")
    >>> objective = Objective(SlfUnet(config.unet1), NoiseSchedule(config.unet1), config.training1)
    >>> draws = draw(objective.schedule, config.training1, 2, torch.Generator().manual_seed(0))
    >>> batch = Batch(torch.zeros(2, 256, 768), torch.zeros(2, 256, dtype=torch.bool), None,
    ...               torch.zeros(2, 3, 128, 128), numpy.arange(2), 2)
    >>> objective(batch, draws).shape
    torch.Size([2])
    """

    def __init__(self, unet: SlfUnet, schedule: NoiseSchedule, training: TrainingConfig) -> None:
        super().__init__()
        self.unet, self.schedule, self.training_config = unet, schedule, training

    def forward(self, batch: Batch, draws: Draws) -> Tensor:
        """Weighted squared error of each sample, (B,) float32 (Ho et al. 2020, eq. 14; weights: `loss_weight`)."""
        config, schedule, training = self.unet.config, self.schedule, self.training_config
        image, low = images_for(config, batch)
        if draws.crop:
            image = draws.crop.cut(image)
        mask = draws.drop_rows(batch.mask)
        if low is not None and draws.unguided is not None:
            low = low.masked_fill(draws.unguided[:, None, None, None], torch.nan)

        noisy = schedule.add_noise(image, draws.noise, draws.timestep)
        with precision(training, image.device):
            condition = self.unet.encode(batch.conditioning, mask)
            output = self.unet.denoise(
                noisy, draws.timestep, condition, low,
                augment=draws.augment, augment_noise=draws.augment_noise, crop=draws.crop,
            )  # fmt: skip
        error = output - schedule.target(config.prediction, image, draws.noise, draws.timestep)
        weight = schedule.loss_weight(config.prediction, draws.timestep, training.min_snr)
        per_sample: Tensor = weight * error.square().mean(dim=(1, 2, 3))
        return per_sample


def images_for(config: UnetConfig, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """What a U-Net makes (B, 3, size, size) and the low image it starts from, out of a batch."""
    image = resize(batch.target, config.size)
    if config.low_size == 8:
        return image, batch.guide
    return image, resize(batch.target, config.low_size)


def precision(training: TrainingConfig, device: torch.device | str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where the training asks for it and the device computes in it; a CPU without such units
    would only emulate it, slower than float32."""
    if training.precision == "fp32" or (torch.device(device).type == "cpu" and not cpu_has_bfloat16()):
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself (AVX-512 BF16 or AMX; others are taken to have none)."""
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in tests)
