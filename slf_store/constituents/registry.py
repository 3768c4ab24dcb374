"""Every constituent there is: ours, and those that installed packages add through an entry point."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from slf_store.constituents.age_gender import AgeGender
from slf_store.constituents.camplusplus import CamPlusPlus
from slf_store.constituents.commonlanguage import CommonLanguage
from slf_store.constituents.deepface_attributes import DeepFaceAttributes
from slf_store.constituents.ecapa import Ecapa, EcapaWindows
from slf_store.constituents.extractor import Extractor
from slf_store.constituents.faces import FaceBox, FaceEmbedding, ImageGuide, Target
from slf_store.constituents.mel import Mel
from slf_store.constituents.nemo import SpeakerNet, TitaNet
from slf_store.constituents.pyannote_embedding import Pyannote
from slf_store.constituents.pyaudioanalysis import PyAudioAnalysis
from slf_store.constituents.resemblyzer_voice import ResemblyzerVoice
from slf_store.constituents.whisper_language import WhisperLanguage
from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.settings import Settings

ENTRY_POINTS = "slf_store.constituents"
"""Group under which a package names its subclasses of :class:`Extractor`."""

BUILT_IN: tuple[type[Extractor], ...] = (
    CamPlusPlus,
    ResemblyzerVoice,
    Ecapa,
    EcapaWindows,
    Pyannote,
    TitaNet,
    SpeakerNet,
    Mel,
    PyAudioAnalysis,
    WhisperLanguage,
    CommonLanguage,
    FaceBox,
    Target,
    ImageGuide,
    AgeGender,
    DeepFaceAttributes,
    FaceEmbedding,
)
"""In the order of extraction."""


def known_extractors(settings: Settings) -> dict[str, Extractor]:
    """Every extractor under these settings by name, in the order of extraction; no weights are looked for.

    Raises:
        ConfigError: an installed package's extractor cannot be used, or takes a name that is taken.
    """
    known: dict[str, Extractor] = {}
    for origin, kind in [("slf_store", kind) for kind in BUILT_IN] + _plugins():
        for extractor in kind.from_settings(settings):
            name = extractor.name
            if not name.isidentifier() or name != name.lower() or name in known:
                taken = "is taken" if name in known else "is no lower-case word"
                raise ConfigError(
                    f"constituent name {name!r} of {origin} {taken}", hint=f"rename it, or uninstall {origin}"
                )
            known[name] = extractor
    for name in (*settings.parameters, *settings.constituents):
        if name not in known:
            raise ConfigError(f"settings name a constituent {name!r}", hint=f"choose from {', '.join(known)}")
    return known


def extractors(settings: Settings, only: Collection[str] = ()) -> list[Extractor]:
    """The extractors to run: those named in `only`, else in the settings, else the profile's. Nothing is loaded yet.

    Raises:
        NotFoundInStore: a name in `only` is no constituent.
    """
    known = known_extractors(settings)
    for name in only:
        if name not in known:
            raise NotFoundInStore(f"no constituent {name!r}", hint=f"choose from {', '.join(known)}")
    wanted = only or settings.constituents
    return [
        extractor
        for name, extractor in known.items()
        if (name in wanted if wanted else settings.profile in extractor.profiles)
    ]


def _plugins() -> list[tuple[str, type[Extractor]]]:
    return [(f"package {point.dist.name if point.dist else point.value}", _load(point)) for point in _points()]


@cache
def _points() -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, point.value)))


@cache
def _load(point: EntryPoint) -> type[Extractor]:
    try:
        kind = point.load()
    except Exception as error:
        raise ConfigError(
            f"extractor {point.name} ({point.value}) cannot be imported: {error!r}",
            hint=f"repair or uninstall {point.dist.name if point.dist else 'its package'}",
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Extractor)):
        raise ConfigError(f"{point.value} is no subclass of Extractor", hint=f"see the entry point {point.name}")
    return kind
