"""Choosing among clips that fit: at most some of each identity, balanced groups, a sample. The same on any machine."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import SelectionError
from slf_store.query.clips import Columns, keys

BALANCED = ("gender", "ethnicity", "language", "age_group", "split")
"""What groups can be balanced by."""


def draw(seed: int, key: str) -> bytes:
    """Where a natural key stands in the draw of a seed; adding other clips does not move it.

    >>> draw(0, "dev/id1/v/1") == draw(0, "dev/id1/v/1") != draw(1, "dev/id1/v/1")
    True
    """
    return hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


def ranks(columns: Columns, seed: int) -> NDArray[np.int64]:
    """Indices of all clips in the order of the draw: (n,) int64."""
    drawn = [draw(seed, key) for key in keys(columns)]
    return np.array(sorted(range(len(drawn)), key=drawn.__getitem__), np.int64)


def per_identity(columns: Columns, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` clips of each identity, taking its videos in turn.

    Raises:
        SelectionError: the limit is below 1.
    """
    if limit < 1:
        raise SelectionError(f"--per-identity {limit}: at least 1 clip of each identity is needed")
    turn: Counter[tuple[str, str]] = Counter()
    ranked = []
    identities = columns["identity"].tolist()
    for index, video in enumerate(zip(identities, columns["video"].tolist(), strict=True)):
        ranked.append((turn[video], index))
        turn[video] += 1
    taken: Counter[str] = Counter()
    keep = []
    for _, index in sorted(ranked):
        if taken[identities[index]] < limit:
            taken[identities[index]] += 1
            keep.append(index)
    return np.array(sorted(keep), np.int64)


def groups(columns: Columns, by: Sequence[str], ethnicities: Mapping[str, str]) -> dict[tuple[str, ...], list[int]]:
    """{combination of labels: indices}; clips with an unknown label are in no group.

    Args:
        columns: of the clips.
        by: of :data:`BALANCED`.
        ethnicities: the label of a source → the label a snapshot holds; unmapped ones are unknown.

    Raises:
        SelectionError: `by` names something else, or nothing.
    """
    unknown = [name for name in by if name not in BALANCED]
    if unknown or not by:
        raise SelectionError(f"cannot balance by {', '.join(unknown) or 'nothing'}", hint=f"use {', '.join(BALANCED)}")
    labels = []
    for name in by:
        if name == "age_group":
            labels.append([age_group(age) for age in columns["age"].tolist()])
        elif name == "ethnicity":
            labels.append([ethnicities.get(label) for label in columns[name].tolist()])
        else:
            labels.append(columns[name].tolist())
    found: dict[tuple[str, ...], list[int]] = {}
    for index, combination in enumerate(zip(*labels, strict=True)):
        if None not in combination:
            found.setdefault(combination, []).append(index)
    return found


def balanced(
    columns: Columns, found: Mapping[tuple[str, ...], list[int]], seed: int, most: int | None = None
) -> NDArray[np.int64]:
    """Indices of equal numbers of clips of each group: as many as the smallest has, drawn by seed.

    Args:
        columns: of the clips.
        found: :func:`groups`.
        seed: of the draw.
        most: clips in all; each group gives its equal share.
    """
    if not found:
        return np.empty(0, np.int64)
    each = min(map(len, found.values()))
    if most is not None:
        each = min(each, most // len(found))
    place = np.empty(len(columns["clip_id"]), np.int64)
    place[ranks(columns, seed)] = np.arange(len(place))
    chosen = [sorted(indices, key=place.__getitem__)[:each] for indices in found.values()]
    return np.array(sorted(index for group in chosen for index in group), np.int64)


def age_group(age: float | None) -> str | None:
    """Decade of an age.

    >>> age_group(34.5), age_group(None)
    ('30s', None)
    """
    return None if age is None else f"{int(age // 10) * 10}s"
