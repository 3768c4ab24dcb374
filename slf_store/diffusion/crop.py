"""Crop: one random square per sample, at the same place in an image of any resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slf_store.diffusion.config import UnetConfig


@dataclass(frozen=True)
class Crop:
    """Squares of images of side `size`; `cut` takes them out of the same images at another resolution too.

    >>> crop = Crop(torch.tensor([4]), torch.tensor([0]), side=4, size=8)
    >>> crop.cut(torch.arange(16.0).view(1, 1, 4, 4)).tolist()
    [[[[8.0, 9.0], [12.0, 13.0]]]]
    """

    top: Tensor
    """(B,) int64 pixels."""
    left: Tensor
    """(B,) int64 pixels."""
    side: int
    size: int

    def each(self, change: Callable[[Tensor], Tensor]) -> Crop:
        """The same squares with both places changed alike: some of the samples, or on another device."""
        return replace(self, top=change(self.top), left=change(self.left))

    def cut(self, images: Tensor) -> Tensor:
        """(B, C, s, s) → (B, C, s·side/size, s·side/size); channels are last in memory."""
        resolution = images.shape[-1]
        inside = torch.arange(self.side * resolution // self.size, device=images.device)
        rows = (self.top * resolution // self.size)[:, None] + inside
        columns = (self.left * resolution // self.size)[:, None] + inside
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        return images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def draw_crop(config: UnetConfig, side: int, n: int, generator: torch.Generator) -> Crop | None:
    """One place per sample, on the grid of the low image; None, and nothing drawn, where `side` is 0 or all of it.

    Args:
        config: its `size` and `low_size`: places are multiples of size / low_size pixels.
        side: of the square, in pixels.
        n: samples.
        generator: on the device of the images.
    """
    if side in (0, config.size):
        return None
    step = config.size // config.low_size
    places = (config.size - side) // step + 1
    top, left = torch.randint(places, (2, n), generator=generator, device=generator.device) * step
    return Crop(top, left, side, config.size)
