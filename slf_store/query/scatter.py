"""From packed rows to the conditioning matrix, on whatever device the batch lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from slf_store.diffusion.batch import Batch
from slf_store.query.encode import ENCODERS, encode_attributes
from slf_store.query.layout import COLUMNS, ROWS, Block
from slf_store.query.manifest import Manifest
from slf_store.query.packed import PackedBatch
from slf_store.query.systems import System

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LIMIT = 10.0
"""Standardised values, and those of `factor`, are clamped to ±10 (published code)."""


class Scatter:
    """Places a system's inputs into (B, 256, 768) and says which rows are visible.

    Args:
        manifest: opened snapshot.
        system: inputs it is given; the others stay zero and masked.
        device: where batches are made.
        dtype: of the conditioning matrix.
    """

    def __init__(self, manifest: Manifest, system: System, *, device: torch.device, dtype: torch.dtype) -> None:
        import torch

        self.manifest, self.system, self.device, self.dtype = manifest, system, device, dtype
        seen = [block for block in manifest.layout.blocks if block.name in system.inputs]
        self.arrays = [block for block in seen if block.name in manifest.constituents]
        self.attributes = [block for block in seen if block.name in ENCODERS]
        self.names = (
            tuple(block.name for block in self.arrays) + ("target",) + (("image_guide",) if system.guide else ())
        )
        visible = np.zeros((len(manifest), ROWS), bool)
        self._encoded: dict[str, Tensor] = {}
        for block in self.attributes:
            values, shown = encode_attributes(manifest.attributes, block.name, block.scaling)
            self._encoded[block.name] = torch.from_numpy(values)
            visible[:, block.first : block.first + block.rows] = shown[:, None]
        for block in self.arrays:
            present = manifest.constituents[block.name].present
            visible[:, block.first : block.first + block.rows] = present[:, None]
        self._visible = torch.from_numpy(visible)
        self._statistics = {
            block.name: self._load_statistics(block) for block in self.arrays if block.scaling == "standard"
        }

    def _load_statistics(self, block: Block) -> tuple[Tensor, Tensor]:
        import torch

        stored = self.manifest.normalisation[block.name]
        mean, std = (
            torch.tensor(stored[key][: block.columns], dtype=torch.float32, device=self.device)
            for key in ("mean", "std")
        )
        return mean, std

    def __call__(self, packed: PackedBatch, position: int) -> Batch:
        """The batch on the device; every copy from a pinned buffer is done when this returns on a CPU."""
        import torch

        moved = {name: self._move(values) for name, values in packed.values.items()}
        samples = torch.from_numpy(packed.samples)
        matrix = torch.zeros((len(samples), ROWS, COLUMNS), dtype=self.dtype, device=self.device)
        for block in self.attributes:
            rows = self._encoded[block.name][samples].to(self.device, self.dtype)
            matrix[:, *block.area] = rows[:, None]
        for block in self.arrays:
            rows = self._scale(block, block.cut(moved[block.name]))
            matrix[:, *block.area] = rows.to(self.dtype)
        mask = self._visible[samples].to(self.device)
        matrix.masked_fill_(~mask[:, :, None], 0)
        return Batch(
            conditioning=matrix,
            mask=mask,
            guide=to_image(moved["image_guide"]) if self.system.guide else None,
            target=to_image(moved["target"]),
            clip_ids=self.manifest.clip_ids[packed.samples],
            position=position,
        )

    def _move(self, values: Any) -> Tensor:
        import torch

        tensor = torch.from_numpy(values)
        return tensor.to(self.device, non_blocking=True) if self.device.type != "cpu" else tensor

    def _scale(self, block: Block, values: Tensor) -> Tensor:
        import torch

        rows = values.float()
        if block.scaling == "unit":
            length = rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            scaled: Tensor = rows / length * rows.shape[-1] ** 0.5
            return scaled
        if block.scaling == "factor":
            return torch.clamp(rows * block.factor, -LIMIT, LIMIT)
        mean, std = self._statistics[block.name]
        return torch.clamp((rows - mean) / std, -LIMIT, LIMIT)


def to_image(values: Tensor) -> Tensor:
    """uint8 (B, h, w, 3) to float32 (B, 3, h, w) in [-1, 1]."""
    return (values.permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous()
