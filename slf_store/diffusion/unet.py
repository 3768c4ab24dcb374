"""SlfUnet: a conditional U-Net with the SLF conditioning and the low-resolution image in front."""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slf_store.compat import import_diffusers
from slf_store.diffusion.conditioning import ConditioningEncoder
from slf_store.diffusion.config import UnetConfig
from slf_store.diffusion.crop import Crop
from slf_store.diffusion.published import PublishedUnet

log = logging.getLogger(__name__)


class Condition(NamedTuple):
    """Encoded conditioning: computed once per clip, used at every solver step."""

    tokens: Tensor
    """(B, tokens, cond_dim)."""
    vector: Tensor
    """(B, time width)."""


class SlfUnet(nn.Module):
    """One of the two U-Nets: noisy image, its timestep, conditioning and a low-resolution image → prediction.

    >>> from slf_store.diffusion.config import preset
    >>> unet = SlfUnet(preset("tiny").unet1)
    >>> condition = unet.encode(torch.zeros(2, 256, 768), torch.zeros(2, 256, dtype=torch.bool))
    >>> unet.denoise(torch.zeros(2, 3, 32, 32), torch.tensor([10, 900]), condition, low=None).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        time_dim = config.vector_dim
        self.encoder = ConditioningEncoder(config, time_dim)
        self.no_low = nn.Parameter(torch.zeros(time_dim))
        """Added to the vector when there is no low image."""
        self.augment = nn.Sequential(nn.Linear(1, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))
        self.unet: Any = PublishedUnet(config, time_dim) if config.network == "published" else _of_diffusers(config)
        if config.residual:
            last: nn.Conv2d = self.unet.conv_out
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def compile_for(self, device: torch.device | str) -> None:
        """Compile the denoising network; its parameters keep their names. Where that cannot be: one log line, eager.

        Not on a CPU: building U-Net 1 for one took more than a quarter of an hour (docs/diffusion.md).
        """
        kind = torch.device(device).type
        if kind == "cpu":
            log.info("the network is not compiled on a CPU")
        elif compiler_works(kind):
            self.unet.compile(dynamic=False)
        else:
            log.warning("torch.compile finds no compiler for %s: the network runs uncompiled", kind)

    def encode(self, conditioning: Tensor, mask: Tensor) -> Condition:
        """Encode (B, rows, columns) with its mask (B, rows), True = visible; all hidden = unconditional."""
        return Condition(*self.encoder(conditioning, mask))

    def denoise(
        self,
        noisy: Tensor,
        timestep: Tensor,
        condition: Condition,
        low: Tensor | None,
        *,
        augment: Tensor | None = None,
        augment_noise: Tensor | None = None,
        crop: Crop | None = None,
    ) -> Tensor:
        """Predict what `config.prediction` says.

        Args:
            noisy: (B, 3, size, size) float.
            timestep: (B,) integer in [0, config.timesteps).
            condition: what `encode` gave.
            low: (B, 3, low_size, low_size) in [-1, 1], or None without an image guide; a sample of NaN has none.
            augment: (B,) noise level of `low` in [0, 1]; None = 0.
            augment_noise: (B, 3, grid, grid) standard normal; needed with `augment`.
            crop: where `noisy`, of side crop.side, lies in the whole image. `low` stays whole: it is enlarged, then
                cut, so that a crop is to the pixel what the whole would have given.

        Returns:
            (B, 3, size, size) float32, or the crop's square.
        """
        vector = condition.vector
        given, grid_low = self._place(low, noisy, crop)
        if augment is not None and augment_noise is not None:
            signal = augmentation_signal(augment)[:, None, None, None]
            grid_low = given[:, None, None, None] * (signal.sqrt() * grid_low + (1 - signal).sqrt() * augment_noise)
            vector = vector + self.augment(augment[:, None])
        vector = vector + (~given)[:, None] * self.no_low

        patches = F.pixel_unshuffle(noisy, self.config.patch)
        inputs = torch.cat([patches, grid_low], dim=1).contiguous(memory_format=torch.channels_last)
        output: Tensor = self.unet(
            inputs, timestep, encoder_hidden_states=condition.tokens, class_labels=vector, return_dict=False
        )[0]
        image = F.pixel_shuffle(output.float(), self.config.patch)
        return image + self._enlarge(low, given, crop) if self.config.residual and low is not None else image

    def _place(self, low: Tensor | None, noisy: Tensor, crop: Crop | None) -> tuple[Tensor, Tensor]:
        """Which samples have a low image (B,), and the images on the network's grid (zeros where none)."""
        if low is None:
            grid = noisy.shape[-1] // self.config.patch
            none = torch.zeros(len(noisy), dtype=torch.bool, device=noisy.device)
            return none, noisy.new_zeros(len(noisy), 3, grid, grid)
        given = ~low.flatten(1).isnan().any(dim=1)
        whole = resize(torch.nan_to_num(low), self.config.grid)
        return given, crop.cut(whole) if crop else whole

    def _enlarge(self, low: Tensor, given: Tensor, crop: Crop | None) -> Tensor:
        whole = resize(torch.nan_to_num(low), self.config.size)
        return given[:, None, None, None] * (crop.cut(whole) if crop else whole)


def _of_diffusers(config: UnetConfig) -> Any:
    colours, attention = 3 * config.patch**2, config.attention
    return import_diffusers().UNet2DConditionModel(
        sample_size=config.grid,
        in_channels=colours + 3,
        out_channels=colours,
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        down_block_types=["SimpleCrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=["SimpleCrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=config.cond_dim,
        attention_head_dim=config.head_dim,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )


@functools.cache
def compiler_works(device: str) -> bool:
    """Whether torch.compile can build for this kind of device (a C++ compiler with Python's headers, or Triton)."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.zeros(4, device=device))
    except Exception:  # a missing compiler shows itself as one of many errors
        return False
    return True


def resize(image: Tensor, size: int) -> Tensor:
    """Area averages when shrinking, bilinear when enlarging: the one resampler of training and sampling.

    >>> resize(torch.ones(1, 3, 8, 8), 32).shape
    torch.Size([1, 3, 32, 32])
    """
    if size == image.shape[-1]:
        return image
    if size < image.shape[-1]:
        return F.interpolate(image, size=(size, size), mode="area")
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False)


def augmentation_signal(level: Tensor) -> Tensor:
    """Share of signal variance left at an augmentation level in [0, 1] (the continuous linear schedule of Ho 2020).

    >>> augmentation_signal(torch.tensor([0.0, 1.0])).round(decimals=4).tolist()
    [0.9998999834060669, 0.0]
    """
    return torch.exp(-1e-4 - 10.0 * level**2)
