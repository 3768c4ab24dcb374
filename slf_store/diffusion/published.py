"""PublishedUnet: the layout of the networks that the paper's figures were made with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slf_store.compat import import_diffusers
from slf_store.diffusion.config import UnetConfig

GROUPS = 8
HEADS = 8
TIME_TOKENS = 4
SKIP_SCALE = 2**-0.5
"""What comes over a skip connection is weighed so that the sum keeps its variance."""


class PublishedUnet(nn.Module):
    """A U-Net in the layout of the published code (imagen-pytorch 1.25): narrow on the way down, wide on the way up.

    On the way down a level keeps the width it comes in with; on the way up it has its own. A level has one residual
    block more than its number of blocks, and where it attends, the first of them reads the conditioning and one
    transformer block follows the last. Called as diffusers' `UNet2DConditionModel` is.

    >>> from slf_store.diffusion.config import UnetConfig
    >>> config = UnetConfig(size=32, low_size=8, channels=(32, 64), blocks=(1, 1), attention=(False, True), cond_dim=16)
    >>> unet = PublishedUnet(config, 128)
    >>> tokens, vector = torch.zeros(2, 5, 16), torch.zeros(2, 128)
    >>> unet(torch.zeros(2, 6, 32, 32), torch.tensor([1, 9]), tokens, vector)[0].shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(self, config: UnetConfig, vector_dim: int) -> None:
        super().__init__()
        diffusers, first, cond = import_diffusers(), config.channels[0], config.cond_dim
        colours = 3 * config.patch**2
        self._colours = colours
        self.time = diffusers.models.embeddings.Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embed = diffusers.models.embeddings.TimestepEmbedding(first, vector_dim)
        self.time_tokens = nn.Linear(vector_dim, TIME_TOKENS * cond)
        self.norm_tokens = nn.LayerNorm(cond)
        self.conv_in = nn.ModuleList(
            nn.Conv2d(colours + 3, first // share, side, padding=side // 2) for side, share in ((3, 2), (7, 4), (15, 4))
        )
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        widths = (first, *config.channels)
        for level, (blocks, attends) in enumerate(zip(config.blocks, config.attention, strict=True)):
            narrow, wide, last = widths[level], widths[level + 1], level == len(config.blocks) - 1
            shrink = nn.Conv2d(narrow, wide, 3, padding=1) if last else nn.Conv2d(narrow, wide, 2, stride=2)
            self.down.append(Level(narrow, 0, blocks, vector_dim, cond if attends else 0, shrink))
            enlarge = Enlarge(wide, narrow) if level else nn.Identity()
            self.up.insert(0, Level(wide, narrow, blocks, vector_dim, cond if attends else 0, enlarge))
        self.middle1 = Block(wide, wide, vector_dim, cond_dim=cond)
        self.middle = Transformer(wide, 0)
        self.middle2 = Block(wide, wide, vector_dim, cond_dim=cond)
        self.last = Block(first, first, vector_dim, gated=True)
        self.conv_out = nn.Conv2d(first + 3, colours, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Predict (B, colours, H, W) from (B, colours + 3, H, W), (B,), (B, tokens, cond_dim) and (B, vector_dim)."""
        vector = self.embed(self.time(timestep).to(sample.dtype)) + class_labels
        clock = self.time_tokens(F.silu(vector)).view(len(sample), TIME_TOKENS, -1)
        tokens = self.norm_tokens(torch.cat([clock, encoder_hidden_states.to(clock.dtype)], dim=1))
        vector = F.silu(vector)
        image = torch.cat([conv(sample) for conv in self.conv_in], dim=1)
        skips: list[Tensor] = []
        for level in self.down:
            image = level(image, vector, tokens, skips)
        image = self.middle2(self.middle(self.middle1(image, vector, tokens), tokens), vector, tokens)
        for level in self.up:
            image = level(image, vector, tokens, skips)
        image = self.last(image, vector, tokens)
        return (self.conv_out(torch.cat([image, sample[:, self._colours :].to(image.dtype)], dim=1)),)


class Level(nn.Module):
    """The blocks of one resolution, on the way down (skip = 0: leaves its images for later) or up (takes them)."""

    def __init__(self, width: int, skip: int, blocks: int, vector_dim: int, cond_dim: int, change: nn.Module) -> None:
        super().__init__()
        self.skip = skip
        self.blocks = nn.ModuleList(
            Block(width + skip, width, vector_dim, cond_dim=0 if number else cond_dim, gated=number > 0)
            for number in range(1 + blocks)
        )
        self.attention = Transformer(width, cond_dim) if cond_dim else None
        self.change = change

    def forward(self, image: Tensor, vector: Tensor, tokens: Tensor, skips: list[Tensor]) -> Tensor:
        for number, block in enumerate(self.blocks):
            if self.skip:
                image = torch.cat([image, skips.pop() * SKIP_SCALE], dim=1)
            image = block(image, vector, tokens)
            if not self.skip and number:
                skips.append(image)
        if self.attention:
            image = self.attention(image, tokens)
        if not self.skip:
            skips.append(image)
        changed: Tensor = self.change(image)
        return changed


class Block(nn.Module):
    """Residual block, scaled and shifted by the vector; some read the conditioning, some are gated by their context."""

    def __init__(self, width_in: int, width: int, vector_dim: int, *, cond_dim: int = 0, gated: bool = False) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, width_in), nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, width), nn.Conv2d(width, width, 3, padding=1)
        self.shift = nn.Linear(vector_dim, 2 * width)
        self.read = Attention(width, cond_dim, of_image=False) if cond_dim else None
        self.gate = ContextGate(width) if gated else None
        self.short = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, image: Tensor, vector: Tensor, tokens: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(image)))
        if self.read:
            hidden = hidden + _as_image(self.read(_as_pixels(hidden), tokens), hidden)
        scale, shift = self.shift(vector)[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv2(F.silu(torch.addcmul(shift, self.norm2(hidden), scale + 1)))
        if self.gate:
            hidden = hidden * self.gate(hidden)
        summed: Tensor = hidden + self.short(image)
        return summed


class ContextGate(nn.Module):
    """A gate per channel from an attention-weighted mean over the image (global context, Cao et al. 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.net = nn.Sequential(nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, width), nn.Sigmoid())

    def forward(self, image: Tensor) -> Tensor:
        pixels = _as_pixels(image)
        weights = self.score(pixels).softmax(dim=1)
        gate: Tensor = self.net((weights.transpose(1, 2) @ pixels).squeeze(1))
        return gate[:, :, None, None]


class Transformer(nn.Module):
    """Attention of the image to itself (and to the conditioning, where cond_dim is given), then a feed-forward part."""

    def __init__(self, width: int, cond_dim: int) -> None:
        super().__init__()
        self.attention = Attention(width, cond_dim, of_image=True)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width, bias=False), nn.GELU(),
            nn.LayerNorm(2 * width), nn.Linear(2 * width, width, bias=False),
        )  # fmt: skip

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        pixels = _as_pixels(image)
        pixels = pixels + self.attention(pixels, tokens)
        return _as_image(pixels + self.feed(pixels), image)


class Attention(nn.Module):
    """Eight heads of 64 with normalised queries and keys.

    Args:
        width: of the image.
        cond_dim: of the conditioning's tokens; 0 = they are not read.
        of_image: the image reads itself too, with one key and one value for all heads (multi-query); else the
            conditioning alone, with keys and values of each head.
    """

    def __init__(self, width: int, cond_dim: int, *, of_image: bool) -> None:
        super().__init__()
        inner, kept = HEADS * 64, 64 if of_image else HEADS * 64
        self.kept = kept // 64
        """Keys of their own: of each head, or one."""
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.pixels = nn.Linear(width, 2 * kept, bias=False) if of_image else None
        self.tokens = nn.Linear(cond_dim, 2 * kept, bias=not of_image) if cond_dim else None
        self.null = nn.Parameter(torch.randn(2, kept // 64, 1, 64))
        """A key and a value that are always there."""
        self.query_scale, self.key_scale = nn.Parameter(torch.ones(64)), nn.Parameter(torch.ones(64))
        self.out = nn.Sequential(nn.Linear(inner, width, bias=False), nn.LayerNorm(width))

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """(B, N, width) and (B, T, cond_dim) → (B, N, width).

        With one key for all heads, a head is one more row of queries: nothing is copied, and it is one product.
        """
        image, shape = self.norm(pixels), pixels.shape[:2]
        read = [project(x) for project, x in ((self.tokens, tokens), (self.pixels, image)) if project]
        key, value = (_split(x, self.kept) for x in torch.cat(read, dim=1).chunk(2, dim=2))
        null_key, null_value = self.null.to(key.dtype)[:, None].expand(-1, len(key), -1, -1, -1)
        key, value = torch.cat([null_key, key], dim=2), torch.cat([null_value, value], dim=2)
        query = F.normalize(_split(self.query(image), self.kept), dim=-1) * self.query_scale
        key = F.normalize(key, dim=-1) * self.key_scale
        mixed = F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value, scale=8.0)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(*shape, -1))
        return out


class Enlarge(nn.Module):
    """Twice the side: four pixels out of each."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, 4 * width, 1)

    def forward(self, image: Tensor) -> Tensor:
        return F.pixel_shuffle(F.silu(self.conv(image)), 2).contiguous(memory_format=torch.channels_last)


def _as_pixels(image: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H·W, C): no copy in channels-last memory."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def _as_image(pixels: Tensor, like: Tensor) -> Tensor:
    return pixels.reshape(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, N, columns) → (B, heads, N · columns / (heads · 64), 64)."""
    return x.reshape(len(x), -1, heads, 64).transpose(1, 2)
