"""Attributes of many clips as columns: a million of them are a few arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

LABELS = ("gender", "ethnicity", "language")


@dataclass(frozen=True)
class Labels:
    """One labelled attribute.

    Attributes:
        codes: (n,) int16 index into `names`, -1 where the label is unknown.
        names: the labels that occur.
    """

    codes: NDArray[np.int16]
    names: tuple[str, ...]

    @classmethod
    def of(cls, labels: Iterable[str | None]) -> Labels:
        """From one label a clip.

        >>> Labels.of(["m", None, "f", "m"])
        Labels(codes=array([ 0, -1,  1,  0], dtype=int16), names=('m', 'f'))
        """
        known: dict[str | None, int] = {None: -1}
        codes = np.array([known.setdefault(label, len(known) - 1) for label in labels], np.int16)
        return cls(codes, tuple(name for name in known if name is not None))


@dataclass(frozen=True)
class Attributes(Sequence[Mapping[str, Any]]):
    """Age, gender, ethnicity and language of each sample; an item is a mapping, as a row of the database.

    >>> rows = [{"age": 30.0, "gender": "f", "ethnicity": None, "language": "English"}] * 3
    >>> Attributes.of(rows)[1]
    {'age': 30.0, 'gender': 'f', 'ethnicity': None, 'language': 'English'}
    >>> len(Attributes.of(rows).take(np.array([0, 2])))
    2

    Attributes:
        age: (n,) float64 years, nan where unknown.
        labels: {attribute: labels}.
    """

    age: NDArray[np.float64]
    labels: Mapping[str, Labels]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Attributes:
        """From rows of the database."""
        return cls.of_columns({name: [row[name] for row in rows] for name in ("age", *LABELS)})

    @classmethod
    def of_columns(cls, columns: Mapping[str, Sequence[Any]]) -> Attributes:
        """From a list of values for each attribute."""
        labels = {name: Labels.of(columns[name]) for name in LABELS}
        return cls(np.array(columns["age"], np.float64), labels)  # None becomes nan

    def take(self, samples: NDArray[np.int64]) -> Attributes:
        """Only these samples, in this order."""
        labels = {name: Labels(found.codes[samples], found.names) for name, found in self.labels.items()}
        return Attributes(self.age[samples], labels)

    def coded(self, name: str) -> tuple[NDArray[np.intp], list[Any]]:
        """One attribute as (n,) codes and the different values they stand for, the last of which is None: unknown."""
        if name != "age":
            found = self.labels[name]
            return found.codes.astype(np.intp) % (len(found.names) + 1), [*found.names, None]
        ages, codes = np.unique(self.age, return_inverse=True)
        return codes, [*ages[~np.isnan(ages)].tolist(), None]

    def __len__(self) -> int:
        return len(self.age)

    @overload
    def __getitem__(self, sample: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, sample: slice) -> Attributes: ...

    def __getitem__(self, sample: int | slice) -> Mapping[str, Any] | Attributes:
        if isinstance(sample, slice):
            return self.take(np.arange(len(self))[sample])
        age = float(self.age[sample])
        row: dict[str, Any] = {"age": None if np.isnan(age) else age}
        for name, found in self.labels.items():
            code = int(found.codes[sample])
            row[name] = found.names[code] if code >= 0 else None
        return row

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[sample] for sample in range(len(self)))
