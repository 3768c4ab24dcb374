"""Reading an exported snapshot: no database is needed."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from slf_store.errors import ConfigError, NotFoundInStore, SelectionError, ShardError
from slf_store.query.arrow import tool
from slf_store.query.attributes import LABELS, Attributes
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


def _below(path: str) -> str:
    """A path below the export's folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError("is no path below the folder")
    return path


def _dtype(name: str) -> str:
    """A numpy dtype of plain numbers."""
    try:
        kind = np.dtype(name).kind
    except TypeError as error:
        raise ValueError(str(error)) from None
    if kind not in "fiu":
        raise ValueError("is no dtype of numbers")
    return name


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class FileEntry(_Strict):
    """A file of an export."""

    path: Annotated[str, AfterValidator(_below)]
    bytes: NonNegativeInt
    checksum: str


class ShardEntry(FileEntry):
    """A shard of an export."""

    rows: PositiveInt


class ConstituentEntry(_Strict):
    """A constituent of an export."""

    name: str
    version: str
    kind: Literal["array"]
    shape: list[PositiveInt]
    dtype: Annotated[str, AfterValidator(_dtype)]
    spec: dict[str, Any]
    data_checksum: str
    missing_clips: NonNegativeInt
    files: list[ShardEntry]


class LayoutEntry(_Strict):
    """The layout of an export."""

    name: str
    blocks: list[dict[str, Any]]


class StatisticsEntry(_Strict):
    """Normalisation of an export's constituent."""

    mean: list[float]
    std: list[float]


class SourceEntry(_Strict):
    """A source of an export's clips."""

    name: str
    synthetic: bool


class Description(_Strict):
    """What `snapshot.json` must hold: it may come from anybody."""

    name: str
    hash: str
    predicate: str
    missing: Literal["error", "skip", "zero"]
    seed: int
    chosen: dict[str, Any]
    clips: PositiveInt
    layout: LayoutEntry
    normalisation: dict[str, StatisticsEntry]
    constituents: list[ConstituentEntry]
    manifest: FileEntry
    sources: list[SourceEntry]


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
    attributes = Attributes.of_columns({name: columns[name][chosen].tolist() for name in ("age", *LABELS)})
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
        if about["format"] != FORMAT:
            raise ConfigError(
                f"{folder} has format {about['format']!r}, this program reads {FORMAT}", hint="update slf-store"
            )
        Description.model_validate(about)
        frozen_layout(about["layout"]["name"], about["layout"]["blocks"])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ShardError(f"{path} is damaged: {where}: {first['msg']}", hint="export the snapshot again") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SelectionError) as error:
        raise ShardError(f"{path} is damaged: {error}", hint="export the snapshot again") from None
    check_file(folder, about["manifest"])
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
    """Columns of the Parquet manifest, in snapshot order.

    Raises:
        ShardError: it is no Parquet file, or lacks a column.
    """
    parquet, path = tool("pyarrow.parquet"), folder / CLIPS_FILE
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise ShardError(f"{path} is damaged: {error}", hint="copy the export again") from None
    lacking = {"position", *FACTS} - set(table.column_names)
    wrong = [name for name, kind in FACTS.items() if name not in lacking and _kind(table, name) != kind.rstrip("_")]
    if lacking or wrong:
        raise ShardError(
            f"{path} is damaged: columns {', '.join(sorted(lacking) or wrong)} are missing or of another type",
            hint="export the snapshot again",
        )
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
    found = [columns.get(f"{entry['name']}.{what}") for what in ("shard", "row")]
    counts = np.array([file["rows"] for file in entry["files"]] + [1], np.int64)  # the last: of clips that have none
    shard, row = (np.zeros(0) if values is None else values for values in found)
    if (
        shard.dtype.kind not in "iu"
        or row.dtype.kind not in "iu"
        or (len(shard) and not -1 <= shard.min() <= shard.max() < len(counts) - 1)
        or (row < 0).any()
        or (row >= counts[shard]).any()
    ):
        raise ShardError(
            f"{CLIPS_FILE} names rows of {entry['name']} that no file has", hint="export the snapshot again"
        )
    paths = tuple(file["path"] for file in entry["files"])
    return Places(paths, shard.astype(np.int32), row.astype(np.int32), np.zeros(len(shard), np.int64))


def _kind(table: Any, name: str) -> str:
    """Arrow type of a column, as :data:`FACTS` writes it."""
    kind = str(table.schema.field(name).type)
    return {"double": "float64", "large_string": "string"}.get(kind, kind)
