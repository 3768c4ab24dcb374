"""`slf explore`."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from slf_store.errors import ConfigError

if TYPE_CHECKING:
    from slf_store.cli.context import Context
    from slf_store.db.readers import Role

NEEDED = ("jinja2", "starlette", "uvicorn")


def explore(
    ctx: typer.Context,
    role: Annotated[
        str, typer.Option(help="Whose eyes: researcher, or analyst (no faces, no sound, no paths).")
    ] = "researcher",
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback asks for a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 = any free one.")] = 8050,
    token: Annotated[bool, typer.Option("--token", help="Ask for a token on loopback too.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another name the page is reached by; may be repeated.")
    ] = None,
) -> None:
    """Look at the store in a browser: a read-only page on this machine. Ctrl-C ends."""
    context: Context = ctx.obj
    if role not in ("researcher", "analyst"):
        raise typer.BadParameter(f"{role!r} is neither researcher nor analyst", param_hint="--role")
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"the explorer needs {', '.join(absent)}", hint="pip install 'slf-store[explore]'")
    from slf_store.explorer.app import create_app
    from slf_store.explorer.explorer import Explorer
    from slf_store.explorer.serve import listen, serve

    with context.open_store() as store:
        place = listen(host, port, allowed=allow_host or (), with_token=token)
        explorer = Explorer(store, cast("Role", role))
        try:
            context.show_one({"page": place.url, "role": role}, f"explorer of {store.settings.home}; Ctrl-C ends")
            sys.stdout.flush()
            serve(create_app(explorer), place)
        finally:
            explorer.close()
