"""The extractor of one version of a constituent, whatever the settings say today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from slf_store.constituents.extractor import Extractor
from slf_store.constituents.registry import known_extractors
from slf_store.errors import ConfigError
from slf_store.settings import Settings

_FACE = {"face_detector": "detector", "frame_choice": "frame", "seed": "seed", "face_tracks": "tracks"}
"""Settings that the choice of a face is made of, and what a spec calls them."""
_SHOWN = ("code_version", "weights", "parameters", "shape", "dtype")


def extractor_of(settings: Settings, wanted: Mapping[str, Any], version: str) -> Extractor:
    """The extractor that computes this very version: under the settings, or with the parameters that its spec names.

    Args:
        settings: of the store.
        wanted: the spec, as PostgreSQL has it.
        version: of the spec.

    Raises:
        ConfigError: this program computes another version: other code or other weights; or has no such extractor.
        ModelUnavailable: weights are missing.
    """
    made: Extractor | None = None
    for made in _candidates(settings, wanted):
        if made.spec.version == version:
            return made
    name = wanted["name"]
    if made is None:
        raise ConfigError(f"no extractor {name!r} is installed here", hint="install the package that brought it")
    now = made.spec.as_json()
    other = ", ".join(key.replace("_", " ") for key in _SHOWN if now[key] != wanted.get(key)) or "spec"
    raise ConfigError(
        f"{name}@{version} cannot be computed here: this program makes {name}@{made.spec.version} (other {other})",
        hint="use the program, settings and weights that extracted it, or train a run on what is extracted now",
    )


def _candidates(settings: Settings, wanted: Mapping[str, Any]) -> Iterator[Extractor]:
    name, parameters = wanted["name"], wanted["parameters"]
    known = known_extractors(settings).get(name)
    if known is None:
        return
    yield known
    own = {field.name: parameters[field.name] for field in fields(known) if field.name in parameters}
    face = {key: parameters["face"][said] for key, said in _FACE.items()} if "face" in parameters else {}
    changed = settings.model_copy(update={**face, "parameters": {**settings.parameters, name: own}})
    try:
        yield known_extractors(changed)[name]
    except ConfigError:  # a parameter that this program does not know
        return
