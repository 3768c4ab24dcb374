"""Fetching weights into the models folder: a file has its name only when it is whole."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from slf_store.constituents.weights import Weights
from slf_store.errors import ModelUnavailable
from slf_store.settings import Settings

TOKEN = "HF_TOKEN"
"""Variable with the hub's token. It is read here and nowhere else, and sent for gated models only."""
TIMEOUT_S = 10.0
"""How long a server may be silent."""
LOOK_S = 0.3
Progress = Callable[[int, int], None]


class NeedsWeights(Protocol):
    """An extractor, or what else runs a network."""

    @property
    def settings(self) -> Settings:
        """Of the store."""

    @property
    def weights(self) -> tuple[Weights, ...]:
        """Models it needs."""

    def download(self) -> None:
        """Fetch what is lacking of them."""


def fetch(users: Collection[NeedsWeights], progress: Progress | None = None) -> None:
    """Fetch the weights that these lack: called once, before any process loads them.

    Args:
        users: extractors to be run, mostly.
        progress: told megabytes fetched and to be fetched, from a thread.

    Raises:
        ModelUnavailable: the first that cannot be had. Nothing is fetched if one needs a token that is not set.
    """
    lacking = {
        weights: user.settings.models
        for user in users
        for weights in user.weights
        if weights.missing(user.settings.models)
    }
    for weights, models in lacking.items():
        _refuse_without_token(weights, models)
    with _watched(lacking, progress):
        for user in users:
            user.download()


def download(weights: Weights, models: Path) -> None:
    """Fetch the files of one model that are lacking; does nothing where none is.

    An interrupted download is gone on with. Processes that fetch the same model wait for each other.

    Args:
        weights: of the model.
        models: the models folder.

    Raises:
        ModelUnavailable: it cannot be had; names the model, the folder and the next step.
    """
    if not weights.missing(models):
        return
    if weights.package is not None or not (weights.repo or weights.url):
        weights.paths(models)  # says what to do instead
    _refuse_without_token(weights, models)
    import fasteners

    folder, source = weights.where(models), weights.source_of(weights.files[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with fasteners.InterProcessLock(folder / ".lock"):
            for name in weights.missing(models):
                source = weights.source_of(name)
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).unlink(missing_ok=True)  # an empty one
                if weights.repo:
                    _from_hub(weights, name, folder)
                else:
                    from_url(source, folder / name)
    except Exception as error:
        raise ModelUnavailable(
            f"weights of {weights.model} cannot be fetched into {folder}: {source}: {_reason(error)}",
            hint=weights.next_step(folder),
        ) from None
    weights.paths(models)


def from_url(url: str, target: Path) -> None:
    """Download a file by way of `<name>.part`, which a later try goes on with if the server still has the same file.

    Raises:
        OSError: the server cannot be reached, refuses, sends a page instead of the file, or breaks off.
    """
    part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.etag")
    headers = {"User-Agent": "slf-store"}
    if part.is_file() and tag.is_file():
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": tag.read_text("ascii")}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.is_file():
            part.unlink()  # as long as the file already, or longer: not to be trusted
            return from_url(url, target)
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise OSError(f"{url} gives a web page instead of the file")
        length = response.headers.get("Content-Length")
        resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        expected = None if length is None else int(length) + (part.stat().st_size if resumed else 0)
        if etag := response.headers.get("ETag"):
            tag.write_text(etag, "ascii")
        else:
            tag.unlink(missing_ok=True)
        with part.open("ab" if resumed else "wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
    if expected is not None and part.stat().st_size != expected:
        raise OSError(f"{url} broke off after {part.stat().st_size:,} of {expected:,} bytes")
    part.replace(target)
    tag.unlink(missing_ok=True)
    return None


def _from_hub(weights: Weights, name: str, folder: Path) -> None:
    """One file of a hub repository; the library writes it to a hidden name first and goes on with what it left."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    endpoint = os.environ.get("HF_ENDPOINT")  # also where it was set after the library was imported
    repo = weights.repo or ""
    _knock(hf_hub_url(repo, name, revision=weights.revision, endpoint=endpoint))
    token = os.environ.get(TOKEN) if weights.gated else None
    hf_hub_download(
        repo,
        name,
        revision=weights.revision,
        local_dir=folder,
        token=token or False,  # False: also no token that the library would find by itself
        etag_timeout=TIMEOUT_S,
        endpoint=endpoint,
    )


def _knock(url: str) -> None:
    """Fail at once where nobody answers: the hub's library tries for half a minute first."""
    with suppress(HTTPError):  # it answers
        urlopen(Request(url, method="HEAD", headers={"User-Agent": "slf-store"}), timeout=TIMEOUT_S).close()


def _refuse_without_token(weights: Weights, models: Path) -> None:
    """Raise before anything is asked of the hub where it would refuse anyway."""
    if weights.gated and not os.environ.get(TOKEN):
        folder = weights.where(models)
        raise ModelUnavailable(
            f"weights of {weights.model} are not in {folder}, and the hub gives them only with a token",
            hint=weights.next_step(folder),
        )


def _reason(error: Exception) -> str:
    """An error in one line, without the token."""
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"refused ({status}): {TOKEN} is not set or not valid, or its owner has not accepted the licence"
    if status == HTTPStatus.NOT_FOUND:
        return "not found (404)"
    text = (str(getattr(error, "reason", error)).strip() or type(error).__name__).splitlines()[0][:300]
    token = os.environ.get(TOKEN)
    return text.replace(token, "***") if token else text


@contextmanager
def _watched(lacking: dict[Weights, Path], progress: Progress | None) -> Iterator[None]:
    """Tell `progress` how much has come, by looking at the folders: no library needs to know of it."""
    total = round(sum(weights.megabytes for weights in lacking))
    if progress is None or not total:
        yield
        return
    folders = {weights.where(models) for weights, models in lacking.items()}
    before, done = _megabytes(folders), threading.Event()

    def look() -> None:
        while not done.wait(LOOK_S):
            progress(min(total, round(_megabytes(folders) - before)), total)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _megabytes(folders: Collection[Path]) -> float:
    total = 0
    for folder in folders:
        for file in folder.rglob("*"):
            try:
                total += file.stat().st_size
            except FileNotFoundError:  # renamed meanwhile
                continue
    return total / 1e6
