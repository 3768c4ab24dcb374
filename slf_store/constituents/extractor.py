"""What every extractor can do, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from slf_store.constituents.download import download
from slf_store.constituents.spec import ConstituentSpec, Kind
from slf_store.constituents.weights import Weights, checksums
from slf_store.errors import ClipError, ConfigError, ModelUnavailable
from slf_store.media.clip import ClipMedia
from slf_store.media.face import DetectedFace
from slf_store.settings import Settings

PROFILES = frozenset({"offline", "hub"})


@dataclass(frozen=True)
class AttributeValue:
    """One attribute of a clip: a label or a number, with the model's own confidence (0 to 1)."""

    name: str
    text: str | None = None
    number: float | None = None
    score: float | None = None


Value = NDArray[Any] | DetectedFace | list[AttributeValue]


@dataclass(eq=False)
class Extractor:
    """Base of extractors: a subclass names its constituent, declares :attr:`spec`, and turns clips into values.

    The fields of a subclass (a dataclass) are its parameters: they are part of the spec, and can be set in the
    store's `slf.toml` under `[parameters.<name>]`. Another parameter is another version of the constituent.

    `load` is called once per process, before the first clip. Errors about one clip are :class:`ClipError`;
    :class:`slf_store.errors.ModelUnavailable` stops the whole job.

    Attributes:
        settings: of the store; not part of the spec.
    """

    settings: Settings
    name: ClassVar[str] = ""
    profiles: ClassVar[frozenset[str]] = PROFILES
    """Profiles that extract this constituent by default; it can always be asked for by name."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Sequence[Self]:
        """The extractors of this class under these settings: mostly one.

        Raises:
            ConfigError: `[parameters.<name>]` holds what this extractor does not know.
        """
        return [cls(settings, **cls._overrides(settings, cls.name))]

    @classmethod
    def _overrides(cls, settings: Settings, name: str) -> dict[str, Any]:
        given = settings.parameters.get(name, {})
        types = get_type_hints(cls, include_extras=True)
        known = [field.name for field in fields(cls) if field.name != "settings"]
        values = {}
        for key, value in given.items():
            if key not in known:
                hint = f"it knows {', '.join(known)}" if known else "it has none"
                raise ConfigError(f"[parameters.{name}]: {name} has no parameter {key!r}", hint=hint)
            try:
                values[key] = TypeAdapter(types[key]).validate_python(value, strict=True)
            except ValidationError as error:
                raise ConfigError(
                    f"[parameters.{name}]: {key} = {value!r}: {error.errors()[0]['msg']}", hint="correct it in slf.toml"
                ) from None
        return values

    @property
    def weights(self) -> tuple[Weights, ...]:
        """Models whose weights the values depend on."""
        return ()

    @property
    def parameters(self) -> dict[str, Any]:
        """What the values depend on besides code and weights: the fields, and what a subclass adds."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "settings"}

    @cached_property
    def spec(self) -> ConstituentSpec:
        """The declaration; computing it reads weights' checksums and loads no model.

        Raises:
            ModelUnavailable: weights are missing.
        """
        raise NotImplementedError

    def declare(
        self,
        kind: Kind,
        shape: tuple[int, ...] = (),
        dtype: str | None = None,
        *,
        unit: str,
        paper: str,
        code_version: int = 1,
        variable: bool = False,
        also: Mapping[str, Any] | None = None,
    ) -> ConstituentSpec:
        """The spec of this extractor: its name, weights and parameters, with what is given here.

        Args:
            kind, shape, dtype, unit, paper, code_version, variable: as :class:`ConstituentSpec`.
            also: what the values depend on and nobody can set, e.g. a sampling rate.
        """
        return ConstituentSpec(
            name=self.name,
            kind=kind,
            shape=shape,
            dtype=dtype,
            unit=unit,
            paper=paper,
            code_version=code_version,
            variable=variable,
            weights=checksums(self.weights, self.settings.models),
            parameters={**self.parameters, **(also or {})},
        )

    def download(self) -> None:
        """Fetch what is lacking of :attr:`weights` into the models folder; does nothing where all is there.

        An extractor whose library fetches its own files overrides this.

        Raises:
            ModelUnavailable: they cannot be had.
        """
        for weights in self.weights:
            download(weights, self.settings.models)

    def load(self) -> None:
        """Load models, once per process.

        Raises:
            ModelUnavailable: weights or a library are missing or damaged.
        """

    def extract(self, clip: ClipMedia) -> Value:
        """The value of one clip."""
        raise NotImplementedError

    def extract_many(self, clips: Sequence[ClipMedia]) -> list[Value | Exception]:
        """Values of many clips, in order; an exception stands where a clip has none.

        Networks that profit from batches override this; the default goes clip by clip.
        """
        return [self.attempt(clip) for clip in clips]

    def attempt(self, clip: ClipMedia) -> Value | Exception:
        """The value of one clip, or the exception that stands for it."""
        try:
            return self.checked(clip, self.extract(clip))
        except ModelUnavailable:
            raise
        except Exception as error:
            return error

    def checked(self, clip: ClipMedia, value: Value) -> Value:
        """The value, if it is what the spec declares.

        Raises:
            ClipError: `not_finite`.
            TypeError: another shape than declared: the extractor is wrong, not the clip.
        """
        if isinstance(value, np.ndarray):
            declared = self.spec.shape
            fits = value.shape == declared
            if self.spec.variable:
                fits = value.ndim == len(declared) and value.shape[1:] == declared[1:] and 0 < len(value) <= declared[0]
            if not fits:
                raise TypeError(f"{self.name} gave {value.shape} where its spec declares {declared}")
            if not np.isfinite(value).all():
                raise ClipError("not_finite", f"{clip.path}: {self.name} holds NaN or infinity")
        return value
