"""Lanes of an extraction: which constituents are made together, by the same processes, from one decode."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from slf_store.constituents.registry import extractors, known_extractors
from slf_store.errors import ConfigError
from slf_store.settings import Settings


@dataclass(frozen=True)
class Lane:
    """Constituents extracted together.

    Attributes:
        device: what its chunks need, `cpu` or `gpu`.
        only: names of the constituents; empty for all of the profile.
    """

    device: Literal["cpu", "gpu"]
    only: tuple[str, ...]


def lanes(settings: Settings, only: Collection[str] = ()) -> list[Lane]:
    """One lane, or two where the setting `gpu_constituents` takes some of what is wanted to a GPU.

    Two lanes share nothing: each clip is decoded once for each of them.

    >>> lanes(Settings(gpu_constituents=("resemblyzer",)), ["mel", "resemblyzer"])
    [Lane(device='gpu', only=('resemblyzer',)), Lane(device='cpu', only=('mel',))]
    >>> lanes(Settings(), ["mel"])
    [Lane(device='cpu', only=('mel',))]

    Raises:
        ConfigError: `gpu_constituents` names what is no constituent.
        NotFoundInStore: `only` does.
    """
    if unknown := set(settings.gpu_constituents) - known_extractors(settings).keys():
        raise ConfigError(
            f"setting gpu_constituents: no constituent {sorted(unknown)[0]!r}", hint="see `slf constituents --known`"
        )
    names = [extractor.name for extractor in extractors(settings, only)]
    on_gpu = tuple(name for name in names if name in settings.gpu_constituents)
    on_cpu = tuple(name for name in names if name not in settings.gpu_constituents)
    if on_gpu and on_cpu:
        return [Lane("gpu", on_gpu), Lane("cpu", on_cpu)]
    return [Lane("gpu" if on_gpu else "cpu", tuple(only))]
