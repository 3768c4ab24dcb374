"""Every model that extraction and evaluations can use, and whether its files are here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, Protocol

from slf_store.constituents.download import NeedsWeights
from slf_store.constituents.inception import InceptionFeatures
from slf_store.constituents.registry import extractors, known_extractors
from slf_store.constituents.weights import Weights
from slf_store.errors import ModelUnavailable
from slf_store.settings import Settings


@dataclass
class ModelStatus:
    """One model.

    Attributes:
        model, licence, gated: as :class:`Weights`.
        needed_by: constituents, in the order of extraction; `fid` of evaluations.
        profiles: that need it by default.
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


class ModelUser(NeedsWeights, Protocol):
    """What models are needed by."""

    @property
    def name(self) -> str:
        """A constituent, or `fid`."""

    @property
    def profiles(self) -> frozenset[str]:
        """Profiles that need it by default."""


def model_users(settings: Settings, only: Collection[str] = ()) -> list[ModelUser]:
    """What needs models: those named in `only`, else the extractors to run, and `fid` where the profile has it.

    Raises:
        NotFoundInStore: a name in `only` is neither a constituent nor `fid`.
    """
    fid = InceptionFeatures(settings)
    constituents = [name for name in only if name != fid.name]
    wanted = fid.name in only if only else settings.profile in fid.profiles
    found: list[ModelUser] = [*extractors(settings, constituents)] if constituents or not only else []
    return [*found, fid] if wanted else found


def list_models(settings: Settings) -> list[ModelStatus]:
    """Models of all known extractors, and of FID; no model is loaded and no network asked."""
    found: dict[Weights, ModelStatus] = {}
    users: list[ModelUser] = [*known_extractors(settings).values(), InceptionFeatures(settings)]
    for user in users:
        for weights in user.weights:
            status = found.setdefault(weights, _status(weights, settings))
            status.needed_by.append(user.name)
            status.profiles = sorted({*status.profiles, *user.profiles})
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
