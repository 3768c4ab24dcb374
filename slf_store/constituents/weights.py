"""Weights: where each model's files come from, where they lie, their checksums."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from slf_store.errors import ModelUnavailable
from slf_store.shards.checksum import file_checksum

OFFLINE_INSTALL = "pip install 'slf-store[offline]'"
HUB_INSTALL = "pip install 'slf-store[hub]'"
FETCH = "run `slf models --download [CONSTITUENT]`"


@dataclass(frozen=True)
class Weights:
    """The files of one model.

    Attributes:
        model: its name, as its authors write it.
        files: names of the files, relative to their folder.
        licence: SPDX name, or what its page says.
        package: installed Python package that ships them (offline); the folder is then the package's.
        install: how that package, or the library that runs the model, is installed.
        repo: repository on the Hugging Face hub they come from; the folder is then `<models>/<folder>`.
        revision: commit of the repository; its `main` when unset.
        url: where the file is downloaded; the folder of the files if it ends in `/`.
        folder: below the models folder, for weights that are not in a package.
        gated: the hub asks for consent to a licence and for a token.
        fetch: what a person does to have them fetched.
        megabytes: about how large the files are together.
    """

    model: str
    files: tuple[str, ...]
    licence: str
    package: str | None = None
    install: str = OFFLINE_INSTALL
    repo: str | None = None
    revision: str | None = None
    url: str | None = None
    folder: str = ""
    gated: bool = False
    fetch: str = FETCH
    megabytes: float = 0.0

    def where(self, models: Path) -> Path:
        """Folder the files are in, or belong into.

        Raises:
            ModelUnavailable: the package that ships them is not installed.
        """
        if self.package is None:
            return models / self.folder
        return package_folder(self.package, needed_by=self.model, install=self.install)

    def missing(self, models: Path) -> list[str]:
        """Files that are not there, or empty."""
        try:
            folder = self.where(models)
        except ModelUnavailable:
            return list(self.files)
        return [name for name in self.files if not (folder / name).is_file() or not (folder / name).stat().st_size]

    def paths(self, models: Path) -> list[Path]:
        """The files, in order.

        Raises:
            ModelUnavailable: one is missing; names the model, the folder and the next step.
        """
        folder = self.where(models)
        if lacking := self.missing(models):
            raise ModelUnavailable(
                f"weights of {self.model} are not in {folder}: {', '.join(lacking)} missing",
                hint=self.next_step(folder),
            )
        return [folder / name for name in self.files]

    def checksums(self, models: Path) -> dict[str, str]:
        """{file: checksum}; part of the spec, so that other weights make another version.

        Raises:
            ModelUnavailable: a file is missing.
        """
        return {name: _checksum_of(path) for name, path in zip(self.files, self.paths(models), strict=True)}

    def megabytes_on_disk(self, models: Path) -> float:
        """How large the files that are there are together."""
        lacking = self.missing(models)
        there = [name for name in self.files if name not in lacking]
        return sum((self.where(models) / name).stat().st_size for name in there) / 1e6

    def source_of(self, name: str) -> str:
        """Where a file comes from: its address, or its name on the hub."""
        if self.url is not None:
            return self.url + name if self.url.endswith("/") else self.url
        return f"{self.repo or self.package}/{name}"

    @contextmanager
    def loading(self, models: Path) -> Iterator[Path]:
        """Around everything that reads the files: yields their folder; what goes wrong inside is the weights' fault.

        Raises:
            ModelUnavailable: a file is missing, cut short or something else than it should be, or a library is missing.
        """
        self.paths(models)
        folder = self.where(models)
        try:
            yield folder
        except ModelUnavailable:
            raise
        except ImportError as error:
            missing = error.name or str(error)
            raise ModelUnavailable(f"{self.model} needs the package {missing}", hint=self.install) from error
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            names = ", ".join(self.files)
            again = self.install if self.package else f"{self.fetch}, with {names} deleted"
            raise ModelUnavailable(
                f"weights of {self.model} in {folder} cannot be used: {reason}",
                hint=f"they are damaged, or another model's: {again}",
            ) from error

    def next_step(self, folder: Path) -> str:
        """What a person does to get the files."""
        if self.package is not None:
            return self.install
        page = f"{self.repo} on the Hugging Face hub" if self.repo else self.url
        token = "accept its licence on the page of that name and set HF_TOKEN, then " if self.gated else ""
        return f"{token}{self.fetch}, or put {', '.join(self.files)} of {page} into {folder}"


def checksums(weights: Iterable[Weights], models: Path) -> dict[str, str]:
    """Checksums of several models' files by name."""
    return {name: checksum for one in weights for name, checksum in one.checksums(models).items()}


def package_folder(package: str, *, needed_by: str, install: str) -> Path:
    """Folder of an installed package, found without importing it.

    Raises:
        ModelUnavailable: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelUnavailable(
            f"{needed_by} needs weights from the package {package}, which is not installed", hint=install
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _checksum_of(path: Path) -> str:
    stat = path.stat()
    return _checksum(path, stat.st_size, stat.st_mtime_ns)


@cache
def _checksum(path: Path, size: int, mtime_ns: int) -> str:
    return file_checksum(path)
