"""Erasing a person, a video or a clip, step by step; what a crash interrupts goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from slf_store.faults import fault_point
from slf_store.privacy.erase import erase_rows
from slf_store.privacy.files import blot_logs, remove_files, remove_generated
from slf_store.privacy.pages import rewrite_pages
from slf_store.privacy.prefect import blot_prefect, blot_prefect_server
from slf_store.privacy.rewrite import rewrite_shards
from slf_store.privacy.target import Target

if TYPE_CHECKING:
    from slf_store.store import Store

Progress = Callable[[int, int], None]

OPEN = text("SELECT id FROM erasure WHERE state <> 'done' ORDER BY id")
READ = text("SELECT id, at, actor, state, receipt, work FROM erasure WHERE id = :erasure")
FILES_GONE = text("""
    -- From here on nothing needs the names any more: they go first, so that the rewriting of pages takes them as well.
    UPDATE erasure SET state = 'pages', work = NULL, receipt = receipt || CAST(:more AS jsonb) WHERE id = :erasure
""")
DONE = text("""
    UPDATE erasure
    SET state = 'done', receipt = receipt || jsonb_build_object('finished_at', now()) || CAST(:more AS jsonb)
    WHERE id = :erasure AND state = 'pages'
""")


def forget(
    store: Store, target: Target, *, checkpoints: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Erase a target, and whatever an interrupted erasure left; block it from coming back.

    Args:
        store: open store.
        target: identity, video or clip.
        checkpoints: delete the checkpoints trained on it as well; otherwise they are marked and listed.
        progress: called with (done, total), for shards and then for tables.

    Returns:
        The receipt; it holds no personal data.

    Raises:
        NotFoundInStore, ConfigError: see :func:`slf_store.privacy.plan.find`.
        DatabaseError: pages cannot be rewritten yet; :func:`resume` goes on.
    """
    erasure = erase_rows(store, target, checkpoints=checkpoints)
    return next(receipt for receipt in resume(store, progress) if receipt["erasure"] == erasure)


def resume(store: Store, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Finish every erasure that is not finished: their receipts."""
    with store.engine.connect() as connection:
        todo = list(connection.execute(OPEN).scalars())
    for erasure in todo:
        _remove(store, erasure, progress)
    if todo:
        left = rewrite_pages(store, progress)
        return [_finish(store, erasure, left) for erasure in todo]
    return []


def _remove(store: Store, erasure: int, progress: Progress | None) -> None:
    """Shards, files and texts: everything that needs to know what is to go."""
    with store.engine.connect() as connection:
        row = connection.execute(READ, {"erasure": erasure}).one()
    if row.work is None:
        return
    work, home = row.work, store.settings.home
    rewrite_shards(store, erasure, work["clip_ids"], progress)
    removed = {
        "files": remove_files(home, work["files"]) + remove_generated(store.runs, work["clip_ids"]),
        "reports_removed": remove_files(home, work["reports"]),
    }
    fault_point("forget.files_removed")
    removed["logs_blotted"] = blot_logs(home, work["names"])
    removed["prefect_values_blotted"] = blot_prefect(home, work["names"]) + blot_prefect_server(
        store.engine, work["names"]
    )
    with store.engine.begin() as connection:
        connection.execute(FILES_GONE, {"erasure": erasure, "more": json.dumps(removed)})
    fault_point("forget.names_dropped")


def _finish(store: Store, erasure: int, left: list[str]) -> dict[str, Any]:
    with store.engine.begin() as connection:
        connection.execute(DONE, {"erasure": erasure, "more": json.dumps({"not_rewritten": left})})
        row = connection.execute(READ, {"erasure": erasure}).one()
        receipt = {"erasure": row.id, "at": row.at.isoformat(), "by": row.actor, **row.receipt}
        _write(store.settings.home / "receipts" / f"{erasure}.json", receipt)
    return receipt


def _write(path: Path, receipt: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(receipt, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)
