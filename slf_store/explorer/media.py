"""Pictures, sound and video: what an analyst's login cannot reach, because it cannot read where they lie."""

from __future__ import annotations

import mimetypes
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from slf_store.dataset.clipfile import file_name
from slf_store.errors import NotFoundInStore
from slf_store.evaluation.picture import encode_png
from slf_store.explorer.explorer import Explorer
from slf_store.explorer.runs import known_run

FILE = """
    SELECT source.root, clip.path, clip.audio_path
    FROM clip
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    JOIN source ON source.id = identity.source_id
    WHERE clip.id = :clip
"""
GENERATION = "SELECT path FROM generation WHERE id = :generation"
PLAYED = ("video/", "audio/")
"""Kinds of file that are named to the browser; others it may only download."""
WAVE_WIDTH, WAVE_HEIGHT = 640, 80

_drawing = threading.Lock()
"""matplotlib draws one figure at a time."""


def video(explorer: Explorer, request: Request) -> Response:
    """The clip's file, in ranges if asked for."""
    root, row = _place(explorer, request)
    return _file(root / file_name(row["path"]))


def sound(explorer: Explorer, request: Request) -> Response:
    """The file its sound is read from."""
    root, row = _place(explorer, request)
    return _file(root / file_name(row["audio_path"] or row["path"]))


def waveform(explorer: Explorer, request: Request) -> Response:
    """The loudest and the lowest sample of each stretch of the recorded speech, at most 24 s, as SVG."""
    from slf_store.media.speech import read_speech

    root, row = _place(explorer, request)
    path = root / file_name(row["audio_path"] or row["path"])
    if not path.is_file():
        raise _gone()
    pieces = np.array_split(read_speech(path), WAVE_WIDTH)
    middle = WAVE_HEIGHT / 2
    edges = [(middle * (1 - float(piece.max())), middle * (1 - float(piece.min()))) for piece in pieces]
    drawn = " ".join(f"M{x + 0.5} {top:.1f}V{max(bottom, top + 0.5):.1f}" for x, (top, bottom) in enumerate(edges))
    picture = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<path stroke="#4a86d8" d="{}"/></svg>'
    ).format(WAVE_WIDTH, WAVE_HEIGHT, drawn)
    return Response(str(picture), media_type="image/svg+xml")


def face(explorer: Explorer, request: Request) -> Response:
    """The real face: 128×128."""
    return _png(_value(explorer, request, "target"))


def guide(explorer: Explorer, request: Request) -> Response:
    """The image guide: 8×8."""
    return _png(_value(explorer, request, "image_guide"))


def matrix(explorer: Explorer, request: Request) -> Response:
    """The conditioning matrix and its mask, as `slf layout show --clip` draws them."""
    from slf_store.query.clip_matrix import clip_matrix
    from slf_store.query.layout import layout
    from slf_store.query.layout_picture import draw_layout

    plan = layout("slf-256x768", explorer.store)
    made = clip_matrix(explorer.store, plan, str(request.path_params["clip"]))
    with tempfile.TemporaryDirectory() as folder, _drawing:
        path = Path(folder) / "matrix.png"
        draw_layout(plan, path, made)
        return Response(path.read_bytes(), media_type="image/png")


def generated(explorer: Explorer, request: Request) -> Response:
    """A generated face."""
    rows = explorer.rows(GENERATION, generation=request.path_params["generation"])
    if not rows:
        raise NotFoundInStore("The store has no such generated face.", hint="it may have been erased")
    return _file(explorer.owner.settings.home / rows[0]["path"])


def grid(explorer: Explorer, request: Request) -> Response:
    """A sample grid of a run's training."""
    run, name = known_run(explorer, request.path_params["run"]), request.path_params["name"]
    there = {path.name: path for path in (explorer.owner.runs / run["name"] / "grids").glob("*.png")}
    if name not in there:
        raise NotFoundInStore(f"Run {run['name']} has no such grid.", hint="erasures remove grids")
    return _file(there[name])


def _place(explorer: Explorer, request: Request) -> tuple[Path, dict[str, Any]]:
    rows = explorer.rows(FILE, clip=request.path_params["clip"])
    if not rows:
        raise NotFoundInStore("The store has no such clip.", hint="it may have been erased")
    return Path(file_name(rows[0]["root"])), rows[0]


def _value(explorer: Explorer, request: Request, name: str) -> NDArray[np.uint8]:
    from slf_store.query.values import read_constituent

    values, present = read_constituent(explorer.store, name, np.array([request.path_params["clip"]], np.int64))
    if not present[0]:
        raise NotFoundInStore(f"This clip has no {name}.", hint="`slf coverage` says why")
    picture: NDArray[np.uint8] = values[0]
    return picture


def _png(picture: NDArray[np.uint8]) -> Response:
    return Response(encode_png(picture), media_type="image/png")


def _file(path: Path) -> Response:
    if not path.is_file():
        raise _gone()
    kind = mimetypes.guess_type(path.name)[0] or ""
    known = kind if kind.startswith(PLAYED) or kind == "image/png" else "application/octet-stream"
    return FileResponse(path, media_type=known)


def _gone() -> HTTPException:
    return HTTPException(410, "The file is gone: moved, erased, or its disk is away.")
