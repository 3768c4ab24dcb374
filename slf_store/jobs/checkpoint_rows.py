"""Rows of checkpoints: what lies in a run's folder, as PostgreSQL knows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, text

from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

if TYPE_CHECKING:
    from slf_store.diffusion.config import Which

Role = Literal["last", "earlier", "best"]

ROWS = text("""
    SELECT unet, role, samples_seen, path, checksum, loss, validation_loss, seconds, erased_clips, created_at
    FROM checkpoint WHERE run_id = :run ORDER BY unet, role <> 'last', role, samples_seen
""")
DROP = text("DELETE FROM checkpoint WHERE run_id = :run AND unet = :unet AND role <> 'last' AND path <> ALL(:paths)")
PUT = text("""
    -- A checkpoint that was trained on clips erased since is marked like those of its run beside it.
    INSERT INTO checkpoint (run_id, unet, role, samples_seen, loss, validation_loss, path, checksum, seconds,
                            erased_clips)
    SELECT run.id, :unet, :role, :samples_seen, :loss, :validation_loss, :path, :checksum, :seconds,
           coalesce((SELECT max(erased_clips) FROM checkpoint WHERE run_id = :run), snapshot.erased_clips)
    FROM run JOIN snapshot ON snapshot.id = run.snapshot_id WHERE run.id = :run
    ON CONFLICT (run_id, unet, role) WHERE role <> 'earlier' DO UPDATE
    SET samples_seen = excluded.samples_seen, loss = excluded.loss, validation_loss = excluded.validation_loss,
        path = excluded.path, checksum = excluded.checksum, seconds = excluded.seconds, created_at = now()
""")


def checkpoint_rows(store: Store, run_id: int) -> list[dict[str, Any]]:
    """Every checkpoint of a run, the last ones of each U-Net first."""
    with store.engine.connect() as connection:
        return [dict(row) for row in connection.execute(ROWS, {"run": run_id}).mappings()]


def register_folder(store: Store, run_id: int, unet: Which, folder: Path, seconds: float) -> None:
    """Make a run's rows say what lies in its folder: the last checkpoint, earlier ones, the best.

    Args:
        store: open store.
        run_id, unet: whose.
        folder: of the run; holds a last checkpoint of the U-Net.
        seconds: training time until the last checkpoint.
    """
    from slf_store.diffusion.checkpoint import checkpoint_path
    from slf_store.diffusion.retention import earlier_checkpoints

    last, best = checkpoint_path(folder, unet), checkpoint_path(folder, unet, "best")
    known = {row["path"]: row for row in checkpoint_rows(store, run_id) if row["unet"] == unet}
    rows = [_row(store, unet, last, "last", seconds)]
    if best.exists():
        same = rows[0] if best.samefile(last) else None
        rows.append(_row(store, unet, best, "best", seconds, last=same, known=known))
    for path in earlier_checkpoints(folder, unet).values():
        rows.append(_row(store, unet, path, "earlier", 0.0, known=known))
    new = [row for row in rows if row != known.get(row["path"])]
    with store.engine.begin() as connection:
        kept = [row["path"] for row in rows if row not in new]
        connection.execute(DROP, {"run": run_id, "unet": unet, "paths": kept})
        for row in new:
            put_checkpoint(connection, run_id, unet, row)


def put_checkpoint(connection: Connection, run_id: int, unet: int, row: dict[str, Any]) -> None:
    """Write one row: role, samples_seen, loss, validation_loss, path, checksum, seconds."""
    connection.execute(PUT, {**row, "run": run_id, "unet": unet})


def _row(
    store: Store,
    unet: Which,
    path: Path,
    role: Role,
    seconds: float,
    *,
    last: dict[str, Any] | None = None,
    known: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The row of a file; the one that is known where the file is as old, so that it need not be read again."""
    from slf_store.diffusion.checkpoint import read_checkpoint

    name = path.relative_to(store.settings.home).as_posix()
    if last is not None:
        return {**last, "role": role, "path": name}
    before = (known or {}).get(name)
    if before is not None and path.stat().st_mtime <= before["created_at"].timestamp():
        return before
    header = read_checkpoint(path, unet, parts=())
    same = [row for row in (known or {}).values() if row["samples_seen"] == header.samples_seen]
    return {
        "role": role,
        "samples_seen": header.samples_seen,
        "loss": header.progress.get("loss"),
        "validation_loss": header.progress.get("validation_loss"),
        "path": name,
        "checksum": file_checksum(path),
        "seconds": same[0]["seconds"] if same and role != "last" else seconds,
    }
