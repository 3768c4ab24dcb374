"""ConditioningEncoder: 256 masked rows × 768 become a few tokens and one vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slf_store.diffusion.config import UnetConfig

_HEADS = 4
_OWN, _NULL, _OTHER = 0.0, -4.0, -8.0
"""Starting attention scores of a latent: its own stretch of rows, the null token, other rows. A latent whose
rows are all hidden therefore starts out reading the null token."""


class ConditioningEncoder(nn.Module):
    """Rows → `latents` tokens for cross-attention, and one vector for the time embedding.

    Each row is projected by one shared layer whose hidden units are scaled and shifted per row, so that rows of
    different constituents use it differently. Latents then attention-pool the rows (Perceiver resampler, as in
    Imagen), each starting with its own stretch of neighbouring rows: a constituent of one row keeps a latent
    beside constituents of a hundred. A learned null token is always visible, so hiding every row is defined:
    it is the unconditional branch.

    Hidden rows have no influence whatever they hold, and rows hidden in the whole batch cost nothing.
    """

    def __init__(self, config: UnetConfig, vector_dim: int) -> None:
        super().__init__()
        rows, dim, latents = config.rows, config.cond_dim, config.latents
        self.project = nn.Linear(config.columns, dim)
        self.row_scale = nn.Parameter(torch.ones(rows, dim))
        self.row_shift = nn.Parameter(torch.randn(rows, dim) * 0.02)
        self.null = nn.Parameter(torch.randn(dim) * 0.02)
        self.query = nn.Parameter(torch.randn(latents, dim) / math.sqrt(dim))
        self.key = nn.Linear(dim, dim, bias=False)
        self.score = nn.Parameter(self._starting_scores(rows, latents))
        self.norm = nn.LayerNorm(dim)
        self.mix = nn.Linear(dim, dim)
        self.latent_shift = nn.Parameter(torch.randn(latents, dim) * 0.02)
        self.vector = nn.Linear(latents * dim, vector_dim)

    @staticmethod
    def _starting_scores(rows: int, latents: int) -> Tensor:
        owner = torch.arange(rows) * latents // rows
        own = owner == torch.arange(latents)[:, None]
        scores = torch.where(own, _OWN, _OTHER)
        return torch.cat([torch.full((latents, 1), _NULL), scores], dim=1)

    def forward(self, conditioning: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            conditioning: (B, rows, columns) float.
            mask: (B, rows) bool, True = visible.

        Returns:
            tokens (B, 1 + latents, cond_dim), the null token first, and the vector (B, vector_dim).
        """
        seen = mask.any(dim=0).nonzero().squeeze(1)
        return self.encode_rows(conditioning[:, seen], mask[:, seen], seen)

    def encode_rows(self, conditioning: Tensor, mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Encode the given rows only: (B, r, columns), (B, r) and their row numbers (r,)."""
        batch = len(conditioning)
        visible = conditioning.masked_fill(~mask[..., None], 0.0)
        hidden = F.silu(self.project(visible) * self.row_scale[rows] + self.row_shift[rows])
        tokens = torch.cat([self.null.to(hidden.dtype).expand(batch, 1, -1), hidden], dim=1)

        columns = torch.cat([rows.new_zeros(1), rows + 1])
        open_ = torch.cat([mask.new_ones(batch, 1), mask], dim=1)
        score = self.score[:, columns].masked_fill(~open_[:, None, :], -torch.inf)
        pooled = F.scaled_dot_product_attention(
            _heads(self.query.to(tokens.dtype).expand(batch, -1, -1)),
            _heads(self.key(tokens)),
            _heads(tokens),
            attn_mask=score[:, None].to(tokens.dtype),
        )
        latents = self.norm(pooled.transpose(1, 2).flatten(2))
        latents = latents + self.mix(latents) + self.latent_shift
        context = torch.cat([self.null.to(latents.dtype).expand(batch, 1, -1), latents], dim=1)
        return context, self.vector(latents.flatten(1))


def _heads(x: Tensor) -> Tensor:
    batch, tokens, width = x.shape
    return x.view(batch, tokens, _HEADS, width // _HEADS).transpose(1, 2)
