"""What a constituent is: declared once, versioned by a hash of everything its values depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["array", "attribute", "face", "embedding"]


@dataclass(frozen=True)
class ConstituentSpec:
    """Declaration of a constituent.

    Attributes:
        name: lower-case word used in tables, files and layouts.
        kind: `array` (HDF5 shard), `attribute`, `face` (PostgreSQL), `embedding` (pgvector).
        shape: of one clip's value; its first number is the most rows there can be where `variable`.
        dtype: numpy name of the stored values; None for attributes and faces.
        unit: of the values.
        paper: where the paper or its published code names it.
        code_version: raised when the extractor's code gives other values.
        weights: checksum of the weights, by file name.
        parameters: everything else the values depend on.
        variable: whether clips have different numbers of rows (padded with zeros, true number kept in the shard).

    >>> a = ConstituentSpec("mel", "array", (111, 128), "float16", "dB", "Table 1", 1)
    >>> b = ConstituentSpec("mel", "array", (111, 128), "float16", "dB", "Table 1", 2)
    >>> len(a.version), a.version == b.version
    (12, False)
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str | None
    unit: str
    paper: str
    code_version: int
    weights: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    variable: bool = False

    def as_json(self) -> dict[str, Any]:
        """The spec as stored in PostgreSQL and in every shard."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "unit": self.unit,
            "paper": self.paper,
            "code_version": self.code_version,
            "weights": dict(self.weights),
            "parameters": dict(self.parameters),
            "variable": self.variable,
        }

    @property
    def version(self) -> str:
        """First 12 hexadecimal digits of the spec's BLAKE2b hash; prose (unit, paper) is left out."""
        values = {key: value for key, value in self.as_json().items() if key not in ("unit", "paper")}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
