"""Sampling: conditioning and guide → faces, with classifier-free guidance and a fast solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slf_store.diffusion.schedule import NoiseSchedule, threshold
from slf_store.diffusion.unet import Condition, SlfUnet
from slf_store.errors import ConfigError


class SampleNoise:
    """Standard normal noise drawn sample by sample, so that it does not depend on the batch.

    >>> both, one = SampleNoise([7, 8]), SampleNoise([8])
    >>> torch.equal(both.draw(3, 4, 4)[1], one.draw(3, 4, 4)[0])
    True
    """

    def __init__(self, seeds: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def draw(self, *shape: int) -> Tensor:
        """(samples, *shape) float32 on the CPU; each call goes on where the last one ended."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])


@torch.inference_mode()
def generate(
    unet1: SlfUnet,
    unet2: SlfUnet,
    conditioning: Tensor,
    mask: Tensor,
    guide: Tensor | None,
    *,
    scale: float | tuple[float, float] = 1.0,
    seeds: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]],
    steps: int | tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> Tensor:
    """Generate one face per sample.

    Args:
        unet1: → 32×32, on `device`.
        unet2: → 128×128, on `device`.
        conditioning: (B, rows, columns) float.
        mask: (B, rows) bool, True = visible.
        guide: (B, 3, 8, 8) in [-1, 1], or None for generation from noise alone.
        scale: conditional scale w of both U-Nets, or one each.
        seeds: (B,) one per sample; a sample's noise is drawn from its own seed alone.
        steps: solver steps of both U-Nets, or one each; None = as configured.
        device: where to compute.
        batch_size: samples computed at a time.

    Returns:
        (B, 3, 128, 128) uint8 on the CPU.

    Raises:
        ConfigError: lengths differ.
    """
    n = len(conditioning)
    if len(mask) != n or len(seeds) != n or (guide is not None and len(guide) != n):
        raise ConfigError(
            f"{n} conditionings, {len(mask)} masks, {len(seeds)} seeds"
            + ("" if guide is None else f", {len(guide)} guides"),
            hint="give one of each per sample",
        )
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    counts = steps if isinstance(steps, tuple) else (steps, steps)
    faces = []
    for start in range(0, n, batch_size):
        part = slice(start, start + batch_size)
        noise = SampleNoise(seeds[part])
        rows = conditioning[part].to(device=device, dtype=torch.float32)
        seen = mask[part].to(device)
        low = None if guide is None else guide[part].to(device=device, dtype=torch.float32)
        for unet, w, count in zip((unet1, unet2), scales, counts, strict=True):
            low = image = sample_unet(unet, rows, seen, low, scale=w, noise=noise, steps=count)
        faces.append(to_uint8(image))
    return torch.cat(faces)


@torch.inference_mode()
def sample_unet(
    unet: SlfUnet,
    conditioning: Tensor,
    mask: Tensor,
    low: Tensor | None,
    *,
    scale: float,
    noise: SampleNoise,
    steps: int | None = None,
) -> Tensor:
    """Run one U-Net's reverse diffusion; everything lies on one device.

    Args:
        unet: the network.
        conditioning: (B, rows, columns) float32.
        mask: (B, rows) bool.
        low: (B, 3, low_size, low_size) in [-1, 1] or None.
        scale: conditional scale w.
        noise: one stream per sample.
        steps: solver steps; None = as configured.

    Returns:
        (B, 3, size, size) float32 in [-1, 1].
    """
    config = unet.config
    device, n = conditioning.device, len(conditioning)
    schedule = NoiseSchedule(config, device)
    solver = schedule.solver(steps or config.steps)
    branches = guidance_branches(unet, conditioning, mask, scale)
    copies = len(branches.tokens) // n

    x = noise.draw(3, config.size, config.size).to(device)
    augment = augment_noise = None
    if low is not None and config.augment_max:
        augment = torch.full((n * copies,), config.augment_level, device=device)
        augment_noise = _repeat(noise.draw(3, config.grid, config.grid).to(device), copies)
    repeated_low = None if low is None else _repeat(low, copies)

    for t in solver.timesteps:
        timestep = t.expand(n)
        output = unet.denoise(
            _repeat(x, copies), _repeat(timestep, copies), branches, repeated_low,
            augment=augment, augment_noise=augment_noise,
        )  # fmt: skip
        guided = guide_output(output.view(copies, n, *output.shape[1:]), scale)
        x0 = threshold(schedule.to_x0(config.prediction, guided, x, timestep), config.threshold)
        x = solver.step(x0, t, x, return_dict=False)[0]
    return x.clamp(-1.0, 1.0)


def guidance_branches(unet: SlfUnet, conditioning: Tensor, mask: Tensor, scale: float) -> Condition:
    """Encode the branches a scale needs: null for 0, conditional for 1, both (null first) for any other."""
    if scale == 1.0:
        return unet.encode(conditioning, mask)
    hidden = torch.zeros_like(mask)
    if scale == 0.0:
        return unet.encode(conditioning, hidden)
    null, given = unet.encode(conditioning, hidden), unet.encode(conditioning, mask)
    return Condition(torch.cat([null.tokens, given.tokens]), torch.cat([null.vector, given.vector]))


def guide_output(branches: Tensor, scale: float) -> Tensor:
    """ε = ε_null + w·(ε_cond − ε_null) (Ho & Salimans 2022, eq. 6, with w = 1 + their w).

    v and x0 are affine in ε at a given noisy image, so the same line serves every prediction.

    Args:
        branches: (1, B, …) for a scale of 0 or 1, else (2, B, …), null first.
        scale: conditional scale w.

    >>> guide_output(torch.tensor([[1.0], [2.0]]), 3.0).tolist()
    [4.0]
    """
    if len(branches) == 1:
        return branches[0]
    null, given = branches.unbind()
    return null + scale * (given - null)


def to_uint8(image: Tensor) -> Tensor:
    """[-1, 1] → 0…255 on the CPU, rounded.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """
    return ((image + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def _repeat(x: Tensor, copies: int) -> Tensor:
    return x.repeat(copies, *[1] * (x.ndim - 1)) if copies > 1 else x
