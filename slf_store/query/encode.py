"""Attributes as rows of the conditioning matrix (design §6, rows 0 to 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ConfigError

GENDERS = ("f", "m")
ETHNICITIES = ("asian", "black", "indian", "middle eastern", "white")
"""The paper's five. The setting `ethnicity_mapping` says which label of a source is which of them."""
LANGUAGES = (
    "Arabic", "Basque", "Breton", "Catalan", "Chinese_China", "Chinese_Hongkong", "Chinese_Taiwan", "Chuvash",
    "Czech", "Dhivehi", "Dutch", "English", "Esperanto", "Estonian", "French", "Frisian", "Georgian", "German",
    "Greek", "Hakha_Chin", "Indonesian", "Interlingua", "Italian", "Japanese", "Kabyle", "Kinyarwanda", "Kyrgyz",
    "Latvian", "Maltese", "Mongolian", "Persian", "Polish", "Portuguese", "Romanian", "Romansh_Sursilvan", "Russian",
    "Sakha", "Slovenian", "Spanish", "Swedish", "Tamil", "Tatar", "Turkish", "Ukranian", "Welsh",
)  # fmt: skip
"""CommonLanguage's 45 labels, in its own spelling."""
OLDEST = 100.0
"""Years that become 1."""


def map_ethnicities(rows: Sequence[Mapping[str, Any]], mapping: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows with the ethnicity of their source replaced by one of the five; a label that is not mapped is unknown.

    A snapshot keeps what this gives: another mapping afterwards changes no snapshot. The stored attribute stays the
    source's own label.

    >>> map_ethnicities([{"ethnicity": "black"}, {"ethnicity": "latino hispanic"}], {"black": "black"})
    [{'ethnicity': 'black'}, {'ethnicity': None}]

    Raises:
        ConfigError: a label is mapped to something else than one of the five.
    """
    for label, ethnicity in mapping.items():
        if ethnicity not in ETHNICITIES:
            raise ConfigError(
                f"ethnicity_mapping: {label!r} = {ethnicity!r} is none of {', '.join(ETHNICITIES)}",
                hint="correct ethnicity_mapping in slf.toml; leave a label out to make it unknown",
            )
    return [{**row, "ethnicity": mapping.get(row["ethnicity"])} for row in rows]


def encode_age(age: float | None) -> tuple[list[float], bool]:
    """[age / 100, unknown]: the row is there also when the age is not.

    >>> encode_age(25.0), encode_age(None)
    (([0.25, 0.0], True), ([0.0, 1.0], True))
    """
    return ([0.0, 1.0], True) if age is None else ([age / OLDEST, 0.0], True)


def one_hot(label: str | None, labels: Sequence[str]) -> tuple[list[float], bool]:
    """One-hot row; zeros, and masked, where the label is unknown.

    >>> one_hot("m", GENDERS), one_hot(None, GENDERS)
    (([0.0, 1.0], True), ([0.0, 0.0], False))
    """
    return [float(label == known) for known in labels], label in labels


Encoder = Callable[[Any], tuple[list[float], bool]]
"""Of one value: its row, and whether it is visible."""

ENCODERS: Mapping[str, Encoder] = {
    "age": encode_age,
    "gender": lambda label: one_hot(label, GENDERS),
    "ethnicity": lambda label: one_hot(label, ETHNICITIES),
    "language": lambda label: one_hot(label, LANGUAGES),
}


PUBLISHED_WIDTH = 768
PUBLISHED_ETHNICITIES = {"indian": 0, "asian": 16, "latino hispanic": 2, "black": 3, "middle eastern": 4, "white": 5}
"""Positions in the published code's one-hot row; 16 looks like a slip for 1."""


def publish_age(age: float | None) -> tuple[list[float], bool]:
    """The published code's age: age / 100 in every element but the last, which says "unknown"."""
    known = 0.0 if age is None else age / OLDEST
    return [known] * (PUBLISHED_WIDTH - 1) + [float(age is None)], True


def publish_gender(gender: str | None) -> tuple[list[float], bool]:
    """The published code's gender: +1 (man) or -1 (woman) in every element; zeros, and masked, where unknown."""
    sign = {"m": 1.0, "f": -1.0}.get(str(gender), 0.0)
    return [sign] * PUBLISHED_WIDTH, bool(sign)


def publish_ethnicity(ethnicity: str | None) -> tuple[list[float], bool]:
    """The published code's ethnicity: one-hot at its own positions.

    >>> publish_ethnicity("asian")[0].index(1.0)
    16
    """
    at = PUBLISHED_ETHNICITIES.get(str(ethnicity), -1)
    return [float(at == position) for position in range(max(PUBLISHED_ETHNICITIES.values()) + 1)], at >= 0


PUBLISHED: Mapping[str, Encoder] = {
    "age": publish_age,
    "gender": publish_gender,
    "ethnicity": publish_ethnicity,
    "language": ENCODERS["language"],
}
ENCODINGS: Mapping[str, Mapping[str, Encoder]] = {"attribute": ENCODERS, "published": PUBLISHED}
"""Encoders of attributes by a block's scaling."""


def encode_values(
    name: str, values: Sequence[Any], scaling: str = "attribute"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of one attribute: rows (n, columns) float32 and visible (n,) bool.

    >>> encode_values("gender", ["m", None])[0].tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    encoded = [ENCODINGS[scaling][name](value) for value in values]
    rows = np.array([row for row, _ in encoded], np.float32).reshape(len(encoded), -1)
    return rows, np.array([visible for _, visible in encoded], bool)
