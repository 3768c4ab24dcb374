"""Every model that extraction can use, and whether its files are here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from slf_store.constituents.registry import known_extractors
from slf_store.constituents.weights import Weights
from slf_store.errors import ModelUnavailable
from slf_store.settings import Settings


@dataclass
class ModelStatus:
    """One model.

    Attributes:
        model, licence, gated: as :class:`Weights`.
        needed_by: constituents, in the order of extraction.
        profiles: that extract one of these by default.
        found: whether all, no, or some of its files are there.
        megabytes: on the disk, or about how many there would be.
        where: its package, or its folder below the models folder.
        next_step: what a person does to get it.
    """

    model: str
    licence: str
    gated: bool
    found: Literal["yes", "no", "partly"]
    megabytes: float
    where: str
    next_step: str
    needed_by: list[str] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)


def list_models(settings: Settings) -> list[ModelStatus]:
    """Models of all known extractors; no model is loaded and no network asked."""
    found: dict[Weights, ModelStatus] = {}
    for name, extractor in known_extractors(settings).items():
        for weights in extractor.weights:
            status = found.setdefault(weights, _status(weights, settings))
            status.needed_by.append(name)
            status.profiles = sorted({*status.profiles, *extractor.profiles})
    return list(found.values())


def _status(weights: Weights, settings: Settings) -> ModelStatus:
    lacking = weights.missing(settings.models)
    try:
        folder = weights.where(settings.models)
        next_step = weights.next_step(folder)
    except ModelUnavailable as error:
        next_step = error.hint
    return ModelStatus(
        model=weights.model,
        licence=weights.licence,
        gated=weights.gated,
        found="yes" if not lacking else "no" if len(lacking) == len(weights.files) else "partly",
        megabytes=weights.megabytes if lacking else weights.megabytes_on_disk(settings.models),
        where=f"package {weights.package}" if weights.package else weights.folder,
        next_step=next_step,
    )
