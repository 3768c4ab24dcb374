"""Systems: named subsets of the inputs (paper, section 4), as data: the nine of `systems.toml`, and a store's own."""

from __future__ import annotations

import tomllib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from slf_store.errors import NotFoundInStore, SelectionError

if TYPE_CHECKING:
    from slf_store.query.layout import Layout
    from slf_store.store import Store

SPEAKER = frozenset({"ecapa", "ecapa_windows", "pyannote", "titanet", "speakernet", "camplusplus", "resemblyzer"})
CLASSICAL = frozenset({"mel", "pyaudioanalysis"})
ATTRIBUTES = frozenset({"age", "gender", "ethnicity", "language"})
GROUPS: Mapping[str, frozenset[str]] = {"speaker": SPEAKER, "classical": CLASSICAL, "attributes": ATTRIBUTES}
"""Names that stand for several inputs in a system."""
KEYS = {"name", "include", "exclude", "guide"}

READ = text("SELECT name, include, exclude, guide FROM system WHERE name = :name")
LIST = "SELECT name, include, exclude, guide, created_by, created_at FROM system ORDER BY name"
ADD = text("INSERT INTO system (name, include, exclude, guide) VALUES (:name, :include, :exclude, :guide)")
REMOVE = text("DELETE FROM system WHERE name = :name")
RUNS = text("SELECT name FROM run WHERE system = :name ORDER BY name")


@dataclass(frozen=True)
class Inputs:
    """Which inputs a system sees, by pattern: a name, a glob, or a group.

    >>> "mel" in Inputs(("*",), ("speaker",)), "ecapa" in Inputs(("*",), ("speaker",)), "pitch" in Inputs(("p*",))
    (True, False, True)
    """

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        return _fits(str(name), self.include) and not _fits(str(name), self.exclude)


@dataclass(frozen=True)
class System:
    """Which inputs a system is given.

    Attributes:
        name: as in tables and reports.
        inputs: names of layout blocks it sees (`name in system.inputs`); the others are zero and masked.
        guide: whether it is given the 8×8 image guide.
        trained: False for a baseline that needs no training.
    """

    name: str
    inputs: Container[str]
    guide: bool
    trained: bool = True

    def sees(self, layout: Layout) -> list[str]:
        """Names of the blocks of a layout that it sees, in their order."""
        return [block.name for block in layout.blocks if block.name in self.inputs]


def _built_in() -> dict[str, System]:
    data = tomllib.loads(resources.files(__package__).joinpath("systems.toml").read_text("utf-8"))
    return {name: _system(name, values) for name, values in data.items()}


def _system(name: str, values: Mapping[str, Any]) -> System:
    inputs = Inputs(tuple(values["include"]), tuple(values.get("exclude", ())))
    return System(name, inputs, values["guide"], values.get("trained", True))


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(name in GROUPS.get(pattern, ()) or fnmatchcase(name, pattern) for pattern in patterns)


SYSTEMS = _built_in()
"""The built-in systems, by name; `random` is a baseline that is not trained."""


def system(name: str) -> System:
    """A built-in system by name.

    >>> system("no-image-guide").guide
    False

    Raises:
        SelectionError: there is none of that name.
    """
    if name not in SYSTEMS:
        raise SelectionError(f"no system {name!r}", hint=f"choose from {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def find_system(store: Store, name: str) -> System:
    """A system by name: built in, or the store's own.

    Raises:
        SelectionError: there is none of that name.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]
    with store.engine.connect() as connection:
        row = connection.execute(READ, {"name": name}).mappings().first()
    if row is None:
        raise SelectionError(f"no system {name!r}", hint=f"choose from {', '.join(SYSTEMS)}; or `slf system list`")
    return _system(name, dict(row))


def list_systems(store: Store) -> list[dict[str, Any]]:
    """Every system: name, include, exclude, guide, trained, created_by (None where it is built in)."""
    built_in = [
        {"name": name, **_patterns(found.inputs), "guide": found.guide, "trained": found.trained, "created_by": None}
        for name, found in SYSTEMS.items()
    ]
    own = [{**row, "trained": True} for row in store.query(LIST)]
    return built_in + [{key: row[key] for key in built_in[0]} for row in own]


def add_system(store: Store, path: Path) -> System:
    """Add a system of one's own from a TOML file.

    The file has `name`, `include` and `guide`, and may have `exclude`::

        name = "voice-and-pitch"
        include = ["speaker", "pitch"]
        guide = false

    Raises:
        SelectionError: the file cannot be read or understood, names an input that is none, or the name is taken.
    """
    values = _read(path)
    name, known = values["name"], _known(store)
    for pattern in [*values["include"], *values["exclude"]]:
        if pattern not in GROUPS and not any(fnmatchcase(one, pattern) for one in known):
            raise SelectionError(
                f"{path}: no input fits {pattern!r}",
                hint=f"use a group ({', '.join(GROUPS)}), a glob, or a name: {', '.join(sorted(known))}",
            )
    if name in SYSTEMS:
        raise SelectionError(f"{path}: {name!r} is a built-in system", hint="give yours another name")
    try:
        with store.engine.begin() as connection:
            connection.execute(ADD, values)
    except IntegrityError:
        raise SelectionError(
            f"there is a system {name!r} already", hint=f"choose another name, or `slf system remove {name}` first"
        ) from None
    return _system(name, values)


def remove_system(store: Store, name: str) -> list[str]:
    """Remove a system of one's own; runs that were made with it keep it as it was. Their names.

    Raises:
        SelectionError: it is built in.
        NotFoundInStore: there is none of that name.
    """
    if name in SYSTEMS:
        raise SelectionError(f"{name!r} is a built-in system", hint="only a store's own can be removed")
    with store.engine.begin() as connection:
        if not connection.execute(REMOVE, {"name": name}).rowcount:
            raise NotFoundInStore(f"no system {name!r}", hint="see `slf system list`")
        return list(connection.execute(RUNS, {"name": name}).scalars())


def _read(path: Path) -> dict[str, Any]:
    hint = 'a system is: name = "mine", include = ["speaker", "mel"], guide = true; exclude = [] may stand there, too'
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SelectionError(f"{path} cannot be read as a system: {error}", hint=hint) from None
    values.setdefault("exclude", [])
    wrong = sorted(KEYS ^ values.keys())
    if wrong:
        raise SelectionError(f"{path}: {', '.join(wrong)} missing or unknown", hint=hint)
    lists = all(
        isinstance(values[key], list) and all(isinstance(x, str) for x in values[key]) for key in ("include", "exclude")
    )
    if not lists or not isinstance(values["guide"], bool) or not isinstance(values["name"], str):
        raise SelectionError(f"{path}: include and exclude are lists of names, guide is true or false", hint=hint)
    if not values["name"] or "/" in values["name"] or values["name"].startswith("."):
        raise SelectionError(f"{path}: system name {values['name']!r}", hint="use letters, digits, - and _")
    return values


def _known(store: Store) -> set[str]:
    """Inputs there can be: attributes, blocks of built-in layouts, array constituents of the store, plug-ins too."""
    from slf_store.query.layout import LAYOUTS

    names = {block.name for layout in LAYOUTS.values() for block in layout.blocks} | ATTRIBUTES
    return names | {row["name"] for row in store.query("SELECT DISTINCT name FROM constituent WHERE kind = 'array'")}


def _patterns(inputs: Container[str]) -> dict[str, list[str]]:
    assert isinstance(inputs, Inputs)
    return {"include": list(inputs.include), "exclude": list(inputs.exclude)}
