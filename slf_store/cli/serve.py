"""`slf serve-flows`: the standing server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context


def serve_flows(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port of the pages, on this machine only.")] = 4200,
    no_schedules: Annotated[bool, typer.Option("--no-schedules", help="Run nothing by the clock.")] = False,
    timezone: Annotated[str, typer.Option(help="Time zone of the schedules.")] = "UTC",
    at_once: Annotated[int, typer.Option(min=1, help="Runs at once, of different kinds.")] = 2,
) -> None:
    """Keep a Prefect server on the store's PostgreSQL, and run ingest, extract and verify by the clock. Ctrl-C ends."""
    import os

    context: Context = ctx.obj
    with context.open_store() as store:
        from flows.runtime import prepare
        from flows.serving import prefect_server, serve_deployments
        from slf_store.db.sidecar import sidecar_database

        home = store.settings.home
        prepare(home)
        with prefect_server(home, sidecar_database(store.engine, "prefect"), port) as api:
            os.environ["PREFECT_API_URL"] = api
            ui = api.removesuffix("/api")
            context.show_one(
                {
                    "pages": ui,
                    "schedules": "none" if no_schedules else timezone,
                    "log": str(home / "prefect/server.log"),
                },
                f"flows of {home}; Ctrl-C ends",
            )
            serve_deployments(home, schedules=not no_schedules, timezone=timezone, at_once=at_once)
