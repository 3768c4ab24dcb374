"""Sample grid: what a U-Net starts from, what it makes of it, and the real face, side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slf_store.diffusion.batch import Batch
from slf_store.diffusion.config import Which
from slf_store.diffusion.objective import images_for
from slf_store.diffusion.sample import SampleNoise, sample_unet, to_uint8
from slf_store.diffusion.unet import SlfUnet

FACES = 8
"""Columns of a grid."""
SIDE = 128
"""Pixels of a tile."""
STEPS = 12
"""Solver steps at most: a look, not a measurement."""


@torch.no_grad()  # not inference mode: a loader uses its batches' memory again
def sample_grid(unet: SlfUnet, batches: Iterable[Batch], device: torch.device | str) -> NDArray[np.uint8]:
    """Rows guide (U-Net 2: the real 32×32 face), generated, real; a column for each of the first clips.

    Args:
        unet: with the weights to look at, in evaluation mode.
        batches: of validation clips; the first :data:`FACES` are shown.
        device: where to compute.

    Returns:
        (3 · 128, columns · 128, 3) uint8; the first row is grey where the system has no image guide.
    """
    columns: list[Tensor] = []
    for batch in batches:
        part = batch.to(device)
        image, low = images_for(unet.config, part)
        made = _sample(unet, part, low, first=len(columns))
        start = torch.zeros_like(image) if low is None else low
        tiles = torch.stack([F.interpolate(x.float(), SIDE) for x in (start, made, image)], dim=1)
        columns += list(to_uint8(tiles))
        if len(columns) >= FACES:
            break
    rows = torch.cat(columns[:FACES], dim=3)
    return rows.permute(0, 2, 3, 1).reshape(3 * SIDE, -1, 3).numpy()


def _sample(unet: SlfUnet, batch: Batch, low: Tensor | None, *, first: int) -> Tensor:
    noise = SampleNoise(range(first, first + len(batch)))
    steps = min(unet.config.steps, STEPS)
    return sample_unet(unet, batch.conditioning, batch.mask, low, scale=1.0, noise=noise, steps=steps)


def grid_path(folder: Path | str, which: Which, samples_seen: int) -> Path:
    """Where a run's grid lies.

    >>> grid_path("run", 1, 3200).as_posix()
    'run/grids/unet1-000003200.png'
    """
    return Path(folder) / "grids" / f"unet{which}-{samples_seen:09}.png"


def save_grid(path: Path, grid: NDArray[np.uint8], comment: str) -> None:
    """Write a grid as PNG, atomically; its metadata says what it shows."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", f"slf-store: {comment}; rows: input, machine-made image, real face")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        Image.fromarray(grid).save(temporary, "PNG", pnginfo=info)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
