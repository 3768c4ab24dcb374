"""Systems: named subsets of the inputs (paper, section 4; design's nine)."""

from __future__ import annotations

from dataclasses import dataclass

from slf_store.errors import SelectionError

SPEAKER = frozenset({"ecapa", "ecapa_windows", "pyannote", "titanet", "speakernet", "camplusplus", "resemblyzer"})
CLASSICAL = frozenset({"mel", "pyaudioanalysis"})
ATTRIBUTES = frozenset({"age", "gender", "ethnicity", "language"})


@dataclass(frozen=True)
class System:
    """Which inputs a system is given.

    Attributes:
        name: as in tables and reports.
        inputs: names of layout blocks it sees; the others are zero and masked.
        guide: whether it is given the 8×8 image guide.
    """

    name: str
    inputs: frozenset[str]
    guide: bool


_ALL = SPEAKER | CLASSICAL | ATTRIBUTES

SYSTEMS = {
    system.name: system
    for system in (
        System("full-input", _ALL, True),
        System("no-image-guide", _ALL, False),
        System("no-speaker-embeddings", _ALL - SPEAKER, True),
        System("no-audio", frozenset(ATTRIBUTES - {"language"}), True),
        System("audio-only", SPEAKER | CLASSICAL, False),
        System("speaker-embeddings-only", SPEAKER, False),
        System("no-additional-attributes", _ALL - ATTRIBUTES, True),
        System("pure-super-resolution", frozenset(), True),
    )
}
"""The systems that are trained; `random` needs no training and stands beside them as a baseline."""


def system(name: str) -> System:
    """A system by name.

    >>> system("no-image-guide").guide
    False

    Raises:
        SelectionError: there is none of that name.
    """
    if name not in SYSTEMS:
        raise SelectionError(f"no system {name!r}", hint=f"choose from {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
