"""Metadata files: `vox2_meta.csv` and `vox1_meta.csv` as published, and files that state more, also by video."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slf_store.errors import DatasetError

ALIASES = {
    "identity": (
        "voxceleb2 id",
        "voxceleb1 id",
        "voxceleb id",
        "identity",
        "identity id",
        "id",
        "speaker id",
        "speaker",
        "person id",
    ),
    "video": ("video", "video id", "youtube id"),
    "gender": ("gender", "sex"),
    "age": ("age", "speaker age"),
    "ethnicity": ("ethnicity",),
    "language": ("language",),
    "set": ("set", "split", "subset"),
}
"""What a column may be called, by what it means; case, underscores, hyphens and blanks around do not matter. Of
several the first named here counts."""
_ATTRIBUTES = ("gender", "age", "ethnicity", "language")
OLDEST = 120.0
"""Years; an age above is a mistake in the file."""
_GENDERS = {"m": "m", "male": "m", "f": "f", "female": "f"}


@dataclass(frozen=True)
class Statement:
    """One attribute that a metadata file states: of one video, or of all of an identity's (`video` None).

    Attributes:
        video: name of the video.
        name: age, gender, ethnicity or language.
        text: label; gender is `f` or `m`.
        number: age in years.
    """

    video: str | None
    name: str
    text: str | None = None
    number: float | None = None


@dataclass(frozen=True)
class IdentityMeta:
    """What a metadata file says of one identity.

    Attributes:
        row: every column of the file, as read; empty where the file has a row for each video.
        statements: the attributes it states; what it leaves empty is not among them.
        split: the column `Set` in small letters; None where there is none, or it is empty.
    """

    row: dict[str, str]
    statements: tuple[Statement, ...]
    split: str | None = None

    @property
    def gender(self) -> str | None:
        """`f`, `m`, or None where the file leaves it empty."""
        return next((stated.text for stated in self.statements if stated.name == "gender"), None)


def read_metadata(path: Path, columns: Mapping[str, str] | None = None) -> dict[str, IdentityMeta]:
    """Read a metadata file: {identity: facts}. Commas or tabs, BOM or not, any line ends, blanks around values.

    Columns `gender`, `age` (or `speaker_age`), `ethnicity` and `language` become attributes of every clip of the
    identity, or of the video where there is a column `video` (or `video_id`). Columns may stand in any order; those
    that mean nothing here are kept in `row`.

    Args:
        path: the file.
        columns: {meaning: name of the column} where a name is none of :data:`ALIASES`.

    Raises:
        DatasetError: naming file, line and column that cannot be understood.
    """
    table = _Table(path, columns or {})
    found: dict[str, IdentityMeta] = {}
    lines: dict[str, int] = {}
    for line, values in table.rows():
        identity = values[table.column["identity"]]
        if not identity:
            raise table.wrong(line, "identity", "is empty", "every row names its identity")
        of_video = values[table.column["video"]] or None if "video" in table.column else None
        statements = [
            stated
            for name in _ATTRIBUTES
            if name in table.column and (stated := _state(table, line, of_video, name, values[table.column[name]]))
        ]
        split = (values[table.column["set"]].lower() or None) if "set" in table.column else None
        if "video" in table.column:
            before = found[identity].statements if identity in found else ()
            found[identity] = IdentityMeta({}, (*before, *statements), split)
            continue
        meta = IdentityMeta(dict(zip(table.header, values, strict=True)), tuple(statements), split)
        if identity in found and found[identity] != meta:
            what = f"has {identity!r} a second time, and otherwise than line {lines[identity]}"
            raise table.wrong(line, "identity", what, "keep one of the rows, or add a column `video`")
        found[identity], lines[identity] = meta, line
    return found


@dataclass
class _Table:
    """A metadata file's cells, and which column means what: `column` is {meaning: index}."""

    path: Path
    columns: Mapping[str, str]
    header: list[str] = field(init=False)
    column: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._cells = self._read()
        line, self.header = next(self._cells, (1, []))
        while len(self.header) > 1 and not self.header[-1]:
            del self.header[-1]  # a separator at the end of the line
        names = [_plain(name) for name in self.header]
        self.column = {}
        for meaning, aliases in ALIASES.items():
            index = next((names.index(alias) for alias in aliases if alias in names), None)
            if index is not None:
                self.column[meaning] = index
        for meaning, name in self.columns.items():
            if meaning not in ALIASES:
                raise DatasetError(f"no column can mean {meaning!r}", hint=f"it is one of {', '.join(ALIASES)}")
            if _plain(name) not in names:
                raise DatasetError(
                    f"metadata file {self.path}, line {line}: no column {name!r} for {meaning} among {self.header}"
                )
            self.column[meaning] = names.index(_plain(name))
        if "identity" not in self.column:
            raise DatasetError(
                f"metadata file {self.path}, line {line}: no identity column among {self.header}",
                hint=f"call one of {', '.join(ALIASES['identity'])}, or say --meta-column identity=NAME",
            )
        for meaning, index in self.column.items():
            if names.count(names[index]) > 1:
                raise DatasetError(
                    f"metadata file {self.path}, line {line}: two columns {self.header[index]!r}",
                    hint=f"which of them is {meaning}? rename the other",
                )

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and values of each row that is not blank; as many values as the header has names."""
        for line, values in self._cells:
            while len(values) > len(self.header) and not values[-1]:
                del values[-1]
            if len(values) != len(self.header):
                raise DatasetError(
                    f"metadata file {self.path}, line {line}: {len(values)} columns, {len(self.header)} in the header"
                    + (f" (no {self.header[len(values)]!r})" if len(values) < len(self.header) else "")
                )
            yield line, values

    def wrong(self, line: int, meaning: str, what: str, hint: str) -> DatasetError:
        """The error of one cell."""
        column = self.header[self.column[meaning]]
        return DatasetError(f"metadata file {self.path}, line {line}, column {column}: {what}", hint=hint)

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"metadata file {self.path} cannot be read: {error}",
                hint="give the published file, in UTF-8",
            ) from error
        first = next((line for line in text.splitlines() if line.strip()), "")
        try:
            if "\0" in text:
                raise csv.Error("it holds NUL bytes")
            reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",")
            for cells in reader:
                values = [cell.strip() for cell in cells]
                if any(values):
                    yield reader.line_num, values
        except csv.Error as error:
            raise DatasetError(
                f"metadata file {self.path} is no table: {error}", hint="give the published file"
            ) from None


def _plain(name: str) -> str:
    """A column's name for comparison.

    >>> _plain(" VoxCeleb2_ID ")
    'voxceleb2 id'
    """
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _state(table: _Table, line: int, video: str | None, name: str, value: str) -> Statement | None:
    """A value as a statement, None where it is empty."""
    if not value:
        return None
    if name == "gender":
        if value.lower() not in _GENDERS:
            raise table.wrong(line, name, repr(value), "write m, f or nothing")
        return Statement(video, name, text=_GENDERS[value.lower()])
    if name == "age":
        try:
            age = float(value)
        except ValueError:
            age = -1.0
        if not 0 <= age <= OLDEST:
            raise table.wrong(line, name, repr(value), f"write years, 0 to {OLDEST:g}, or nothing")
        return Statement(video, name, number=age)
    return Statement(video, name, text=value)
