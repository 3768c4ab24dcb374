"""From packed rows to the conditioning matrix, on whatever device the batch lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.diffusion.batch import Batch
from slf_store.query.dense import DenseBuffers
from slf_store.query.encode import ENCODERS, encode_values
from slf_store.query.layout import COLUMNS, ROWS, Block
from slf_store.query.manifest import Manifest
from slf_store.query.packed import PackedBatch
from slf_store.query.scaling import LIMIT, unit_factor
from slf_store.query.systems import System

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AT_ONCE = 8
"""Samples worked on at a time on a CPU: their rows in float32 stay in a core's second-level cache."""


class Scatter:
    """Places a system's inputs into (B, 256, 768) and says which rows are visible.

    Every number is made by the same float32 operations in the same order on every device, so that a CPU, a GPU and
    :func:`slf_store.query.plain.assemble_plain` give the same bits.

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
        self._codes: dict[str, NDArray[np.intp]] = {}
        self._encoded: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
        for block in self.attributes:
            self._codes[block.name], values = manifest.attributes.coded(block.name)
            self._encoded[block.name] = encode_values(block.name, values)
        self._statistics = {
            block.name: self._load_statistics(block) for block in self.arrays if block.scaling == "standard"
        }
        self._blank = _blank(self.arrays)
        self._dense = DenseBuffers((ROWS, COLUMNS), dtype)
        self._at_once = AT_ONCE if device.type == "cpu" else None
        self._copied: Any = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def _load_statistics(self, block: Block) -> tuple[Tensor, Tensor]:
        import torch

        stored = self.manifest.normalisation[block.name]
        mean, std = (torch.tensor(stored[key], dtype=torch.float32, device=self.device) for key in ("mean", "std"))
        return mean, std

    def __call__(self, packed: PackedBatch) -> Batch:
        """The batch on the device. Until :meth:`wait` returns, the packed values must stay as they are."""
        import torch

        samples = packed.samples
        moved = {name: self._move(values) for name, values in packed.values.items()}
        if self._copied is not None:
            self._copied.record()
        matrix = self._dense.take(len(samples), self.device)
        for rows, columns in self._blank:
            matrix[:, rows, columns] = 0
        mask = np.zeros((len(samples), ROWS), bool)
        for block in self.attributes:
            encoded, visible = self._encoded[block.name]
            codes = self._codes[block.name][samples]
            row = torch.from_numpy(encoded[codes])
            matrix[:, block.first, : row.shape[-1]] = row.to(self.device, self.dtype)
            mask[:, block.first : block.first + block.rows] = visible[codes, None]
        for block in self.arrays:
            place = slice(block.first, block.first + block.rows)
            values = moved[block.name].reshape(len(samples), block.rows, -1)
            self._write(block, values, matrix[:, place, : values.shape[-1]])
            present = self.manifest.constituents[block.name].shard[samples] >= 0
            mask[:, place] = present[:, None]
            if not present.all():
                matrix[torch.from_numpy(~present).to(self.device), place] = 0
        return Batch(
            conditioning=matrix,
            mask=torch.from_numpy(mask).to(self.device),
            guide=to_image(moved["image_guide"]) if self.system.guide else None,
            target=to_image(moved["target"]),
            clip_ids=self.manifest.clip_ids[samples],
            position=packed.position,
        )

    def wait(self) -> None:
        """Wait until a GPU has copied the packed values of the last batch; not for what it computes with them."""
        if self._copied is not None:
            self._copied.synchronize()

    def _move(self, values: NDArray[Any]) -> Tensor:
        import torch

        tensor = torch.from_numpy(values)
        return tensor.to(self.device, non_blocking=True) if self.device.type != "cpu" else tensor

    def _write(self, block: Block, values: Tensor, out: Tensor) -> None:
        """Scaled rows into their place (B, rows, columns)."""
        step = self._at_once or len(values)
        for start in range(0, len(values), step):
            rows = values[start : start + step].float()  # a copy, unless stored in float32
            if block.scaling == "unit":
                rows = rows * unit_factor(rows, square_root)
            else:
                mean, std = self._statistics[block.name]
                rows = (rows - mean).div_(std).clamp_(-LIMIT, LIMIT)
            out[start : start + step] = rows.to(self.dtype) if self.device.type != "cpu" else rows


def _blank(blocks: list[Block]) -> list[tuple[slice, slice]]:
    """The places of (rows, columns) that no array is written to."""
    places, row = [], 0
    for block in sorted(blocks, key=lambda block: block.first):
        end = block.first + block.rows
        places += [(slice(row, block.first), slice(None)), (slice(block.first, end), slice(block.columns, None))]
        row = end
    places.append((slice(row, ROWS), slice(None)))
    return [(rows, columns) for rows, columns in places if rows.start < rows.stop and columns.start != COLUMNS]


def square_root(values: Tensor) -> Tensor:
    """Correctly rounded square roots of float32."""
    return values.double().sqrt().float()


def to_image(values: Tensor) -> Tensor:
    """uint8 (B, h, w, 3) to float32 (B, 3, h, w) in [-1, 1], channels last in memory, as the values are stored."""
    import torch

    images = values.permute(0, 3, 1, 2)
    out = torch.empty_like(images, dtype=torch.float32)
    half = torch.tensor(127.5, device=values.device)  # by a plain number, a GPU would multiply with its inverse
    step = AT_ONCE if values.device.type == "cpu" else max(1, len(values))
    for start in range(0, len(out), step):
        out[start : start + step].copy_(images[start : start + step]).div_(half).sub_(1.0)
    return out
