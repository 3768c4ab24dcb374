"""Reading an exported snapshot: no database is needed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ConfigError, NotFoundInStore, ShardError
from slf_store.query.attributes import LABELS, Attributes, Labels
from slf_store.query.clips import Columns
from slf_store.query.locate import Places
from slf_store.query.manifest import Located, Manifest, Part
from slf_store.query.snapshot import frozen_layout
from slf_store.shards.checksum import file_checksum

FORMAT = 1
SNAPSHOT_FILE, CLIPS_FILE = "snapshot.json", "clips.parquet"
FACTS = {
    "clip_id": "int64",
    "part": "string",
    "split": "string",
    "identity": "string",
    "video": "string",
    "clip": "string",
    "age": "float64",
    "gender": "string",
    "ethnicity": "string",
    "language": "string",
    "duration_s": "float64",
    "fps": "float64",
    "frames": "int32",
    "width": "int32",
    "height": "int32",
    "has_audio": "bool_",
    "audio_rate": "int32",
    "audio_channels": "int32",
    "source": "string",
    "synthetic": "bool_",
}
"""Columns of the Parquet manifest, beside `position` and `<constituent>.shard`, `<constituent>.row`: Arrow types."""


def open_export(folder: Path, part: Part = "all") -> Manifest:
    """Open a part of an exported snapshot; no shard is read yet. It gives the same batches as the store does.

    Example::

        loader = Loader(open_export(Path("dev-export"), "train"), system("full-input"), batch_size=32)

    Args:
        folder: written by `slf snapshot export`.
        part: all, train or validation.

    Raises:
        NotFoundInStore: the folder holds no export.
        ShardError: its manifest is damaged.
        ConfigError: pyarrow is not installed, or the export is of a newer program.
    """
    about, columns = read_description(folder), read_clips(folder)
    chosen = np.flatnonzero([part in ("all", of) for of in columns["part"].tolist()])
    constituents: dict[str, Located] = {}
    for entry in about["constituents"]:
        places = places_of(entry, columns)
        constituents[entry["name"]] = Located(
            entry["name"],
            entry["version"],
            tuple(entry["shape"]),
            np.dtype(entry["dtype"]),
            tuple(folder / path for path in places.paths),
            places.shard[chosen],
            places.row[chosen],
        )
    age = np.array([np.nan if years is None else years for years in columns["age"][chosen].tolist()], np.float64)
    attributes = Attributes(age, {label: Labels.of(columns[label][chosen].tolist()) for label in LABELS})
    layout = frozen_layout(about["layout"]["name"], about["layout"]["blocks"])
    ids = columns["clip_id"][chosen].astype(np.int64)
    constituents = dict(sorted(constituents.items()))
    return Manifest(
        about["name"],
        about["hash"],
        layout,
        ids,
        attributes,
        constituents,
        about["normalisation"],
        about["missing"],
    )


def read_description(folder: Path) -> dict[str, Any]:
    """`snapshot.json` of an export, after a look at its manifest's checksum.

    Raises:
        NotFoundInStore, ShardError, ConfigError: as :func:`open_export`.
    """
    path = folder / SNAPSHOT_FILE
    if not path.is_file():
        raise NotFoundInStore(f"{folder} holds no exported snapshot", hint="write one: `slf snapshot export NAME DIR`")
    try:
        about: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version, manifest = about["format"], about["manifest"]
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{path} is damaged: {error}", hint="export the snapshot again") from None
    if version != FORMAT:
        raise ConfigError(f"{folder} has format {version}, this program reads {FORMAT}", hint="update slf-store")
    check_file(folder, manifest)
    return about


def check_file(folder: Path, file: dict[str, Any]) -> None:
    """Hold a file against its checksum.

    Raises:
        ShardError: it is missing or damaged.
    """
    path = folder / file["path"]
    try:
        sound = file_checksum(path) == file["checksum"]
    except OSError as error:
        raise ShardError(f"{path} cannot be read: {error.strerror}", hint="copy the export again") from None
    if not sound:
        raise ShardError(f"{path} is not the file that was exported", hint="copy the export again")


def read_clips(folder: Path) -> Columns:
    """Columns of the Parquet manifest, in snapshot order."""
    table = arrow("pyarrow.parquet").read_table(folder / CLIPS_FILE)
    columns = {}
    for name in table.column_names:
        values = table.column(name)
        if name.endswith((".shard", ".row")) or name in ("position", "clip_id"):
            columns[name] = values.to_numpy()
        else:
            columns[name] = np.fromiter(values.to_pylist(), object, table.num_rows)
    return columns


def places_of(entry: dict[str, Any], columns: Columns) -> Places:
    """Where a constituent lies, below the export's folder."""
    shard, row = (_integers(columns[f"{entry['name']}.{what}"]) for what in ("shard", "row"))
    return Places(tuple(file["path"] for file in entry["files"]), shard, row, np.zeros(len(shard), np.int64))


def _integers(values: NDArray[Any]) -> NDArray[np.int32]:
    return values.astype(np.int32)


def arrow(module: str) -> Any:
    """A module of pyarrow.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            "exported snapshots have a Parquet manifest, and pyarrow is not installed",
            hint="pip install 'slf-store[tools]'",
        ) from None
