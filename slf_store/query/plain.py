"""The plain way to one sample's conditioning matrix: h5py and numpy, row by row. Tests hold the loader against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slf_store.query.encode import ENCODERS
from slf_store.query.layout import COLUMNS, ROWS
from slf_store.query.manifest import Manifest
from slf_store.query.scaling import LIMIT, standardisation, unit_factor
from slf_store.query.systems import System
from slf_store.shards.reader import read_values


def assemble_plain(manifest: Manifest, system: System, sample: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Conditioning matrix (256, 768) float32 and mask (256,) bool of one sample."""
    matrix, mask = np.zeros((ROWS, COLUMNS), np.float32), np.zeros(ROWS, bool)
    for block in manifest.layout.blocks:
        if block.name not in system.inputs:
            continue
        rows = slice(block.first, block.first + block.rows)
        if block.name in ENCODERS:
            value, visible = ENCODERS[block.name](manifest.attributes[sample][block.name])
            if visible:
                matrix[block.first, : len(value)] = value
                mask[rows] = True
            continue
        located = manifest.constituents.get(block.name)
        if located is None or located.shard[sample] < 0:
            continue
        stored = read_values(located.paths[located.shard[sample]])[located.row[sample]]
        values = stored.reshape(block.rows, -1).astype(np.float32)
        if block.scaling == "unit":
            values = values * unit_factor(values, np.sqrt)
        else:
            mean, inverse = standardisation(manifest.normalisation[block.name])
            values = np.clip((values - mean) * inverse, -LIMIT, LIMIT)
        matrix[rows, : values.shape[-1]] = values
        mask[rows] = True
    return matrix, mask
