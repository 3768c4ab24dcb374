"""The explorer as an ASGI application: routes, and one clear sentence for what goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable

import psycopg
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from slf_store.errors import ClipError, ConfigError, DatabaseError, NotFoundInStore, SelectionError, SlfError
from slf_store.explorer import clips, evaluations, faces, media, overview, runs, snapshots
from slf_store.explorer.explorer import HERE, Explorer

log = logging.getLogger(__name__)

Page = Callable[[Explorer, Request], Response]

PAGES: dict[str, Page] = {
    "/": overview.overview,
    "/quality": overview.quality,
    "/clips": clips.clips,
    "/clips/{clip:int}": clips.clip,
    "/clips/{clip:int}/video": media.video,
    "/clips/{clip:int}/sound": media.sound,
    "/clips/{clip:int}/waveform.svg": media.waveform,
    "/clips/{clip:int}/face.png": media.face,
    "/clips/{clip:int}/guide.png": media.guide,
    "/clips/{clip:int}/matrix.png": media.matrix,
    "/clips/{clip:int}/nearest": faces.nearest_to_clip,
    "/generations/{generation:int}": faces.nearest_to_generation,
    "/generations/{generation:int}/face.png": media.generated,
    "/snapshots": snapshots.snapshots,
    "/snapshots/{snapshot:int}": snapshots.snapshot,
    "/runs": runs.runs,
    "/runs/{run:int}": runs.run,
    "/runs/{run:int}/grids/{name}": media.grid,
    "/evaluations": evaluations.evaluations,
    "/evaluations/curves": evaluations.curves,
    "/evaluations/{evaluation:int}": evaluations.matches,
}
STATUS: dict[type[SlfError], int] = {
    NotFoundInStore: 404, ClipError: 404, SelectionError: 400, ConfigError: 501, DatabaseError: 503,
}  # fmt: skip
"""Answers to the package's own errors; 500 for any other."""


def create_app(explorer: Explorer) -> Starlette:
    """The pages of a store; unguarded, see :class:`slf_store.explorer.guard.Guard`.

    Example::

        with Store.open(".slf") as store:
            app = Guard(create_app(Explorer(store, "analyst")))
    """

    def served(page: Page) -> Callable[[Request], Response]:
        return lambda request: page(explorer, request)  # not async: Starlette runs it in a thread

    def error_page(request: Request, status: int, what: str, hint: str = "") -> Response:
        return explorer.page(request, "error", status, status=status, what=what, hint=hint)

    def own_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, SlfError)
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return error_page(request, status, error.what, error.hint)

    def database_error(request: Request, error: Exception) -> Response:
        cause = error.orig if isinstance(error, DBAPIError) else error
        match cause:
            case errors.InsufficientPrivilege():
                said = str(cause).partition("\n")[0]
                return error_page(request, 403, f"Role {explorer.role}: {said}.", "open it with `--role researcher`")
            case errors.QueryCanceled():
                limit = explorer.owner.settings.statement_timeout_s
                return error_page(request, 503, f"Stopped after {limit:g} s.", "raise SLF_STATEMENT_TIMEOUT_S")
            case errors.NumericValueOutOfRange():
                return error_page(request, 404, "There is nothing with that number.")
            case errors.DataError():
                return error_page(request, 400, f"The database cannot be asked that: {cause}.")
            case _:
                log.error("the database: %s", cause)
                return error_page(
                    request, 503, "The database cannot be used.", "see `slf status`, then start `slf explore` again"
                )

    def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = "There is no such page." if error.status_code == 404 else error.detail
        return error_page(request, error.status_code, what)

    def unexpected(request: Request, error: Exception) -> Response:  # the server logs its traceback
        return error_page(request, 500, "The page cannot be shown.", "the terminal of `slf explore` says why")

    app = Starlette(
        routes=[
            *(Route(path, served(page), methods=["GET"]) for path, page in PAGES.items()),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        exception_handlers={
            SlfError: own_error,
            DBAPIError: database_error,
            psycopg.Error: database_error,
            HTTPException: http_error,
            Exception: unexpected,
        },
    )
    app.router.redirect_slashes = False
    return app
