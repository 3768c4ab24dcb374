"""Verbs that look after a store: migrate, verify, gc, compact, backup, restore."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context, Progress

Only = Annotated[list[str] | None, typer.Option("--constituent", help="Only this constituent; may be repeated.")]


def migrate(
    ctx: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Only say what would be done; exit 1 when behind.")] = False,
) -> None:
    """Bring the schema of a store to this program's version. Safe to repeat; others wait until it is done."""
    from slf_store.db.migrate import schema_version, upgrade
    from slf_store.errors import DatabaseError

    context: Context = ctx.obj
    engine = _open_any(context)
    try:
        before = schema_version(engine)
        if before.current is None:
            raise DatabaseError("the database holds no store yet", hint="run `slf init`")
        if before.steps and not check:
            context.say("a backup is the only way back: `slf backup DEST` works before a migration, too")
            upgrade(engine)
        report = {"from": before.current, "to": before.head, "steps": list(before.steps), "done": not check}
        if not before.steps:
            title = "the schema is up to date"
        else:
            title = "the schema is behind: run `slf migrate`" if check else "migrated"
        context.show_one(report if context.json else report | {"steps": "; ".join(before.steps) or "none"}, title)
    finally:
        engine.dispose()
    if check and before.steps:
        raise typer.Exit(1)


def verify(
    ctx: typer.Context,
    constituent: Only = None,
    since: Annotated[str | None, typer.Option(help="Only shards sealed since this day or moment (ISO 8601).")] = None,
) -> None:
    """Read everything again and hold it against its checksums and rows; exit 1 when anything is not as it should be."""
    from slf_store.jobs.verify import by_kind
    from slf_store.jobs.verify import verify as run

    context: Context = ctx.obj
    with context.open_store() as store, bytes_progress(context, "reading") as progress:
        report = run(store, constituent or (), since=_moment(since), progress=progress)
    summary = asdict(report) | {"sound": not report.findings}
    if context.json:
        context.show_one(summary)
    else:
        rows = [
            {"what": f.kind, "clip": f.clip, "constituent": f.constituent, "file": f.file, "message": f.message}
            for f in report.findings
        ]
        if rows:
            context.show(rows, "damage")
        del summary["findings"]
        summary["notes"] = "; ".join(report.notes) or "none"
        summary["findings"] = ", ".join(f"{kind} {count}" for kind, count in by_kind(report)) or "none"
        context.show_one(summary, "damage found" if rows else "everything is as it was stored")
    if report.findings:
        raise typer.Exit(1)


def gc(
    ctx: typer.Context,
    remove: Annotated[bool, typer.Option("--remove", help="Delete them; without it only say what would go.")] = False,
) -> None:
    """Find files that nothing needs: of crashed writers, of shards long compacted; a dry run unless --remove."""
    from slf_store.jobs.gc import collect_garbage

    context: Context = ctx.obj
    with context.open_store() as store:
        report = collect_garbage(store, remove=remove)
    values = asdict(report)
    if not context.json:
        values["files"] = _few(report.files)
        values["missing"] = _few(report.missing)
    context.show_one(values, "orphans removed" if remove else "orphans found (dry run: --remove deletes them)")
    if report.missing:
        context.say(f"{len(report.missing)} shards are in the database but not on disk: restore them from a backup")
        raise typer.Exit(1)


def compact(
    ctx: typer.Context,
    constituent: Only = None,
    rows: Annotated[int, typer.Option(min=1, help="Most rows of a merged shard.")] = 4096,
    megabytes: Annotated[float, typer.Option(min=0.001, help="Most MiB of a merged shard.")] = 256.0,
) -> None:
    """Merge small shards, while readers read and writers write; `slf gc` removes the old files a day later."""
    from slf_store.jobs.compact import compact as run
    from slf_store.jobs.compact import damaged

    context: Context = ctx.obj
    with context.open_store() as store, bytes_progress(context, "merging") as progress:
        reports = run(
            store, constituent or (), target_rows=rows, target_bytes=int(megabytes * 2**20), progress=progress
        )
        context.show([asdict(report) for report in reports], "shards")
    damaged(reports)


def backup(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="New folder, or that of an earlier backup of this store.")],
) -> None:
    """Back up the database and every file its rows name; again into the same folder copies only what is new."""
    from slf_store.jobs.backup import backup as run
    from slf_store.store import Store

    context: Context = ctx.obj
    engine = _open_any(context)
    with Store(context.settings, engine) as store, bytes_progress(context, "copying") as progress:
        report = run(store, folder, progress=progress)
    context.show_one(asdict(report), "backup complete")


def restore(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of a backup.")],
) -> None:
    """Make a store of a backup in an empty home (--home) and an empty database, bring it up to date and verify it."""
    from slf_store.jobs.restore import restore as run

    context: Context = ctx.obj
    with bytes_progress(context, "copying") as progress:
        report = run(context.settings, folder, progress=progress)
    context.show_one(asdict(report), f"store restored at {context.settings.home}")
    context.say(
        f"whoever was erased after {report.created_at} is back: repeat those erasures before anybody uses this store"
    )


@contextmanager
def bytes_progress(context: Context, description: str) -> Iterator[Progress]:
    """A progress bar that counts bytes."""
    if context.json or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _open_any(context: Context) -> Any:
    """The engine of a store whatever its schema's version."""
    from slf_store.db.engine import open_engine
    from slf_store.errors import DatabaseError

    settings = context.settings
    if not settings.home.is_dir():
        raise DatabaseError(f"no store at {settings.home}", hint="run `slf init`, or name another with --home")
    return open_engine(settings)


def _moment(text: str | None) -> str | None:
    """An ISO 8601 day or moment, checked here so that a wrong one is one plain error."""
    import datetime as dt

    from slf_store.errors import ConfigError

    if text is None:
        return None
    try:
        return dt.datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise ConfigError(
            f"--since {text!r} is no day or moment", hint="write 2026-01-31 or 2026-01-31T12:00"
        ) from None


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
