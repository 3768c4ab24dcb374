"""Sampling: conditioning and guide → faces, with classifier-free guidance and a fast solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from slf_store.diffusion.memory import RowLimit, plan_rows
from slf_store.diffusion.schedule import NoiseSchedule, threshold
from slf_store.diffusion.unet import Condition, SlfUnet
from slf_store.errors import CheckpointError, ConfigError

Scale: TypeAlias = float | tuple[float, float]
"""Conditional scale w of both U-Nets, or one each."""
_AT_ONCE = 256
"""Images thresholded at once: torch's quantile takes no more than 16 million numbers."""


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
    scales: Sequence[Scale] = (1.0,),
    seeds: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]],
    steps: int | tuple[int, int] | None = None,
    device: torch.device | str = "cpu",
    limit: RowLimit | None = None,
) -> Tensor:
    """Generate one face per scale and sample, all in one pass.

    A sample's scales start from the same noise and share its encoded conditioning. Another batch, or other scales
    beside, change sums in their last bits: a face differs by one grey level of 255 here and there, mostly by nothing.

    Args:
        unet1: → 32×32, on `device`.
        unet2: → 128×128, on `device`.
        conditioning: (B, rows, columns) float.
        mask: (B, rows) bool, True = visible.
        guide: (B, 3, 8, 8) in [-1, 1], or None for generation from noise alone.
        scales: S conditional scales w; a pair gives U-Net 1 and U-Net 2 one each.
        seeds: (B,) one per sample; a sample's noise is drawn from its own seed alone.
        steps: solver steps of both U-Nets, or one each; None = as configured.
        device: where to compute.
        limit: most rows of a network call; None = as many as fit into memory.

    Returns:
        (S, B, 3, 128, 128) uint8 on the CPU.

    Raises:
        ConfigError: lengths differ, there is no scale, or not one row fits into a GPU's memory.
        CheckpointError: the networks give numbers that are not finite.

    >>> from slf_store.diffusion.config import preset
    >>> nets = SlfUnet(preset("tiny").unet1).eval(), SlfUnet(preset("tiny").unet2).eval()
    >>> rows, mask = torch.zeros(1, 256, 768), torch.zeros(1, 256, dtype=torch.bool)
    >>> generate(*nets, rows, mask, None, scales=(0.0, 3.0), seeds=[7], steps=1).shape
    torch.Size([2, 1, 3, 128, 128])
    """
    n = len(conditioning)
    if len(mask) != n or len(seeds) != n or (guide is not None and len(guide) != n) or not len(scales):
        raise ConfigError(
            f"{n} conditionings, {len(mask)} masks, {len(seeds)} seeds, {len(scales)} scales"
            + ("" if guide is None else f", {len(guide)} guides"),
            hint="give one of each per sample, and one scale or more",
        )
    limit = limit or plan_rows((unet1.config, unet2.config), device)
    asked = len(scales)
    if not bool(mask.any()):  # nothing conditions: every scale is the null branch
        scales = (0.0,)
    pairs = [scale if isinstance(scale, tuple) else (scale, scale) for scale in scales]
    counts = steps if isinstance(steps, tuple) else (steps, steps)
    rows = conditioning.to(device=device, dtype=torch.float32)
    seen, noise = mask.to(device), SampleNoise(seeds)
    low = None if guide is None else guide.to(device=device, dtype=torch.float32)
    for unet, own, count in zip((unet1, unet2), zip(*pairs, strict=True), counts, strict=True):
        low = image = sample_scales(unet, rows, seen, low, scales=own, noise=noise, steps=count, limit=limit)
    if not bool(image.isfinite().all()):
        raise CheckpointError(
            "the networks give numbers that are not finite", hint="use an earlier checkpoint, or train again"
        )
    return to_uint8(image).expand(asked, -1, -1, -1, -1)


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
    """One U-Net's reverse diffusion at one scale: :func:`sample_scales`, (B, 3, size, size)."""
    return sample_scales(unet, conditioning, mask, low, scales=(scale,), noise=noise, steps=steps)[0]


@torch.inference_mode()
def sample_scales(
    unet: SlfUnet,
    conditioning: Tensor,
    mask: Tensor,
    low: Tensor | None,
    *,
    scales: Sequence[float],
    noise: SampleNoise,
    steps: int | None = None,
    limit: RowLimit | None = None,
) -> Tensor:
    """Run one U-Net's reverse diffusion at many scales; everything lies on one device.

    At each solver step one network call holds the null branch of every scale but 1 and the conditional branch of every
    scale but 0. While all scales are at the same noisy image (the first step of U-Net 1), each branch is there once.

    Args:
        unet: the network.
        conditioning: (B, rows, columns) float32.
        mask: (B, rows) bool.
        low: (B, 3, low_size, low_size) in [-1, 1] for all scales, (S, B, …) one for each, or None.
        scales: S conditional scales w.
        noise: one stream per sample.
        steps: solver steps; None = as configured.
        limit: most rows of a network call; a call of more is computed in parts. None = no limit.

    Returns:
        (S, B, 3, size, size) float32 in [-1, 1].
    """
    config, device, n = unet.config, conditioning.device, len(conditioning)
    schedule = NoiseSchedule(config, device)
    solver = schedule.solver(steps or config.steps)
    both = _Branches(unet, conditioning, mask, scales, limit or RowLimit(n * 2 * len(scales)))

    x = noise.draw(3, config.size, config.size).to(device)[None]
    lows = None if low is None else low[None] if low.ndim == 4 else low
    if lows is not None and len(lows) > 1:
        x = x.expand(len(lows), *x.shape[1:])
    augment = noise.draw(3, config.grid, config.grid).to(device) if lows is not None and config.augment_max else None

    for t in solver.timesteps:
        output = both.denoise(x, t, lows, augment)
        if len(x) < len(output):  # from here on every scale is at an image of its own
            x = x.expand(output.shape)
            lows = None if lows is None else lows.expand(len(output), *lows.shape[1:])
        noisy = x.flatten(0, 1)
        clean = schedule.to_x0(config.prediction, output.flatten(0, 1), noisy, t.expand(len(noisy)))
        x0 = torch.cat([threshold(part, config.threshold) for part in torch.split(clean, _AT_ONCE)])
        x = solver.step(x0, t, noisy, return_dict=False)[0].view(output.shape)
    return x.clamp(-1.0, 1.0)


class _Branches:
    """The branches that some scales need, encoded once: null for all but 1, conditional for all but 0."""

    def __init__(
        self, unet: SlfUnet, conditioning: Tensor, mask: Tensor, scales: Sequence[float], limit: RowLimit
    ) -> None:
        self.unet, self.scales, self.limit = unet, scales, limit
        self._members: list[list[int]] = []
        """Which scales need each branch, null first."""
        self._encoded: list[Condition] = []
        null = [at for at, scale in enumerate(scales) if scale != 1.0]
        given = [at for at, scale in enumerate(scales) if scale != 0.0]
        if null:  # what sees nothing is the same for every sample
            tokens, vector = unet.encode(conditioning[:1], torch.zeros_like(mask[:1]))
            self._members.append(null)
            self._encoded.append(Condition(tokens.expand(len(mask), -1, -1), vector.expand(len(mask), -1)))
        if given:
            self._members.append(given)
            self._encoded.append(unet.encode(conditioning, mask))

    def denoise(self, x: Tensor, t: Tensor, lows: Tensor | None, augment: Tensor | None) -> Tensor:
        """The guided output of every scale (S, B, …).

        `x` and `lows` are (S, B, …), or (1, B, …) while all scales are at the same image: then a branch is computed
        once.
        """
        config, same = self.unet.config, len(x) == 1
        places = [[0] if same else members for members in self._members]
        picked = [place for branch in places for place in branch]
        counts = [len(branch) for branch in places]
        noisy, low = x[picked].flatten(0, 1), None if lows is None else lows[picked].flatten(0, 1)
        noise = None if augment is None else augment.repeat(len(picked), 1, 1, 1)
        condition = Condition(
            torch.cat([c.tokens.repeat(count, 1, 1) for c, count in zip(self._encoded, counts, strict=True)]),
            torch.cat([c.vector.repeat(count, 1) for c, count in zip(self._encoded, counts, strict=True)]),
        )

        def call(part: slice) -> Tensor:
            count = part.stop - part.start
            return self.unet.denoise(
                noisy[part],
                t.expand(count),
                Condition(condition.tokens[part], condition.vector[part]),
                None if low is None else low[part],
                augment=None if noise is None else torch.full((count,), config.augment_level, device=noisy.device),
                augment_noise=None if noise is None else noise[part],
            )

        rows = torch.cat(self.limit.calls(call, len(noisy)))
        by_branch = torch.split(rows.view(len(picked), *x.shape[1:]), counts)
        outputs = list(zip(self._members, by_branch, strict=True))

        def guided(scale: int) -> Tensor:
            own = [output[0 if same else members.index(scale)] for members, output in outputs if scale in members]
            return guide_output(torch.stack(own), self.scales[scale])

        return torch.stack([guided(scale) for scale in range(len(self.scales))])


def branches(scales: Sequence[float]) -> int:
    """Rows that a sample takes in a network call.

    >>> branches([0.0]), branches([1.0]), branches([0.0, 1.0, 2.0])
    (1, 1, 4)
    """
    return sum((scale != 1.0) + (scale != 0.0) for scale in scales)


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
