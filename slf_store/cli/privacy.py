"""Verbs of privacy: forget, blocked, audit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slf_store.cli.context import Context
    from slf_store.store import Store


def forget(
    ctx: typer.Context,
    whom: Annotated[str | None, typer.Argument(help="IDENTITY, IDENTITY/VIDEO or IDENTITY/VIDEO/CLIP.")] = None,
    source: Annotated[str | None, typer.Option(help="Source, where several have an identity of that name.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="identity, video or clip, where the name can be read as several of them.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Delete checkpoints trained on it too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an erasure that was interrupted.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only look for leftovers, of WHOM if given.")] = False,
) -> None:
    """Erase a person, a video or a clip: rows, shard rows, faces, generated faces, reports. It cannot be undone."""
    from slf_store.privacy.forget import forget as run
    from slf_store.privacy.forget import resume as finish
    from slf_store.privacy.plan import plan
    from slf_store.privacy.target import named

    context: Context = ctx.obj
    if kind not in (None, "identity", "video", "clip"):
        raise typer.BadParameter(f"{kind!r} is none of identity, video, clip", param_hint="--kind")
    with context.open_store() as store:
        if check:
            _check(context, store, whom)
            return
        if whom is None and not resume:
            raise typer.BadParameter("say whom, or give --resume or --check", param_hint="WHOM")
        if not dry_run:
            with context.progress("finishing what was interrupted") as progress:
                finished = finish(store, progress)
            for receipt in finished:
                context.show_one(receipt, f"erasure {receipt['erasure']} finished")
            if resume and not finished:
                context.show_one({"open": 0}, "nothing was interrupted")
            if whom is None or (finished and not _there(store, whom, source)):
                return
        target = named(store, whom or "", source, kind)
        found = plan(store, target)
        if dry_run or not context.json:
            context.show_one(found.as_dict(), "this will go" if not dry_run else "this would go")
        if dry_run:
            return
        _confirm(yes)
        with context.progress("erasing") as progress:
            receipt = run(store, target, checkpoints=checkpoints, progress=progress)
        context.show_one(receipt, f"erased; receipt {store.settings.home / 'receipts'}/{receipt['erasure']}.json")


def blocked(
    ctx: typer.Context,
    allow: Annotated[str | None, typer.Option(help="Take IDENTITY[/VIDEO[/CLIP]] from the list again.")] = None,
) -> None:
    """Count what is on the block list: erased, and kept out of every ingest."""
    from slf_store.privacy.audit import record
    from slf_store.privacy.blocklist import COUNT
    from slf_store.privacy.blocklist import allow as take_off
    from slf_store.privacy.target import readings

    context: Context = ctx.obj
    with context.open_store() as store:
        if allow is None:
            context.show(store.query(COUNT), "blocked")
            return
        with store.engine.begin() as connection:
            was = [t for t in readings(allow) if take_off(connection, store.settings.home, t.name)]
            for target in was:
                record(connection, "allow", {"kind": target.kind})
        context.show_one({"allowed": bool(was)}, "taken off the list" if was else "it was not on the list")
        if not was:
            raise typer.Exit(1)


def audit(ctx: typer.Context) -> None:
    """List who froze, reported and erased what, and when."""
    from slf_store.privacy.audit import entries

    context: Context = ctx.obj
    with context.open_store() as store:
        context.show(entries(store), "audit log")


def _there(store: Store, whom: str, source: str | None) -> bool:
    from slf_store.errors import NotFoundInStore
    from slf_store.privacy.target import named

    try:
        named(store, whom, source)
    except NotFoundInStore:
        return False
    return True


def _confirm(yes: bool) -> None:
    from slf_store.errors import ConfigError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("an erasure cannot be undone, and nobody is there to ask", hint="give --yes")
    typer.confirm("It cannot be undone. Erase?", abort=True)


def _check(context: Context, store: Store, whom: str | None) -> None:
    from slf_store.privacy.check import check_names, check_structure

    found: list[dict[str, Any]] = check_structure(store)
    if whom is not None:
        # a clip is looked for by its whole name, a video by its own: the identity stays
        with context.progress("searching files") as progress:
            found += check_names(store, [whom if whom.count("/") > 1 else whom.rpartition("/")[2]], progress)
    context.show(found, "leftovers")
    if found:
        raise typer.Exit(1)
