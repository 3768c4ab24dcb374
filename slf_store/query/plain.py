"""The plain way to one sample's conditioning matrix: h5py and numpy, row by row. Tests hold the loader against it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.query.encode import ENCODERS, ENCODINGS
from slf_store.query.layout import COLUMNS, ROWS, Layout
from slf_store.query.manifest import Manifest
from slf_store.query.scaling import LIMIT, standardisation, unit_factor
from slf_store.query.systems import System
from slf_store.shards.reader import read_values

Statistics = Mapping[str, Mapping[str, Sequence[float]]]
"""{constituent: {mean, std}}, a number for each column."""


def assemble_plain(manifest: Manifest, system: System, sample: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Conditioning matrix (256, 768) float32 and mask (256,) bool of one sample."""
    values = {
        name: read_values(located.paths[located.shard[sample]])[located.row[sample]]
        for name, located in manifest.constituents.items()
        if name in system.inputs and located.shard[sample] >= 0
    }
    attributes = manifest.attributes[sample]
    return place_plain(manifest.layout, system.inputs, attributes, values, manifest.normalisation)


def place_plain(
    layout: Layout,
    inputs: Container[str],
    attributes: Mapping[str, Any],
    values: Mapping[str, NDArray[Any]],
    normalisation: Statistics,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Place one sample's values.

    Args:
        layout: where they go.
        inputs: which blocks are given; the others stay zero and masked.
        attributes: age, gender, ethnicity, language.
        values: {constituent: its stored value}, those that the sample has.
        normalisation: statistics of the constituents whose scaling is `standard`.

    Returns:
        Conditioning matrix (256, 768) float32 and mask (256,) bool.
    """
    matrix, mask = np.zeros((ROWS, COLUMNS), np.float32), np.zeros(ROWS, bool)
    for block in layout.blocks:
        if block.name not in inputs:
            continue
        rows, columns = block.area
        if block.name in ENCODERS:
            encoded, visible = ENCODINGS[block.scaling][block.name](attributes[block.name])
            if visible:
                matrix[rows, columns] = encoded
                mask[rows] = True
            continue
        if block.name not in values:
            continue
        used = np.atleast_2d(values[block.name])[block.skip :, : block.columns].astype(np.float32)
        if block.scaling == "unit":
            used = used * unit_factor(used, np.sqrt)
        elif block.scaling == "factor":
            used = np.clip(used * np.float32(block.factor), -LIMIT, LIMIT)
        else:
            mean, inverse = (part[: block.columns] for part in standardisation(normalisation[block.name]))
            used = np.clip((used - mean) * inverse, -LIMIT, LIMIT)
        matrix[rows, columns] = used
        mask[rows] = True
    return matrix, mask
