"""Verbs of the store itself: init, status, stop, sql, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def init(ctx: typer.Context) -> None:
    """Create the store, start its PostgreSQL, and bring the schema to this version. Safe to repeat."""
    from slf_store.store import Store

    context: Context = ctx.obj
    with Store.create(settings=context.settings) as store:
        context.show_one(_status(store.settings), f"store ready at {store.settings.home}")


def status(ctx: typer.Context) -> None:
    """Say what runs where."""
    context: Context = ctx.obj
    context.show_one(_status(context.settings), f"store {context.settings.home}")


def stop(ctx: typer.Context) -> None:
    """Stop the embedded PostgreSQL; nothing is lost."""
    from slf_store.db.embedded import EmbeddedServer

    context: Context = ctx.obj
    settings = context.settings
    stopped = settings.home.is_dir() and EmbeddedServer(settings.home, settings.pg_bin).stop()
    context.show_one({"stopped": stopped}, "stopped" if stopped else "it was not running")


def sql(
    ctx: typer.Context,
    statement: Annotated[str, typer.Argument(help='One SELECT, e.g. "SELECT * FROM recall_at_k".')],
    role: Annotated[str, typer.Option(help="researcher (features, views) or analyst (results only).")] = "researcher",
) -> None:
    """Run one read-only SQL statement with a time limit."""
    from slf_store.db.readonly import run_text

    context: Context = ctx.obj
    with context.open_store() as store:
        rows = run_text(store.engine, statement, role=role, timeout_s=store.settings.statement_timeout_s)  # type: ignore[arg-type]
        context.show(rows)


def demo(
    ctx: typer.Context,
    minutes: Annotated[float, typer.Option(min=1, help="Time for the whole job, minutes.")] = 6.5,
    folder: Annotated[Path, typer.Option(help="Where the sample, the store and the report go.")] = Path(".slf-demo"),
    keep_server: Annotated[bool, typer.Option(help="Leave PostgreSQL running to look around.")] = False,
) -> None:
    """Run the main job on the synthetic sample: ingest, extract, freeze, train, generate, evaluate, report."""
    from slf_store.cli.demo import run_demo

    context: Context = ctx.obj
    run_demo(context, folder, minutes, keep_server=keep_server)


def _status(settings: Any) -> dict[str, Any]:
    from slf_store.db.embedded import EmbeddedServer

    if settings.database_url is not None:
        from slf_store.db.engine import open_engine

        engine = open_engine(settings)
        place = engine.url.render_as_string(hide_password=True)
        engine.dispose()
        return {"home": str(settings.home), "database": f"external, reachable: {place}", "profile": settings.profile}
    if not settings.home.is_dir():
        return {"home": str(settings.home), "store": "none yet: run `slf init`"}
    server = EmbeddedServer(settings.home, settings.pg_bin).status()
    return {
        "home": str(settings.home),
        "database": f"embedded, {'running' if server.running else 'stopped'}",
        "pid": server.pid,
        "port": server.port,
        "data": str(server.data_dir),
        "version": server.version,
        "os_user": server.os_user,
        "log": str(server.log),
        "shards": str(settings.home / "shards"),
        "models": str(settings.models),
        "profile": settings.profile,
    }
