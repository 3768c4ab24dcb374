"""Generating faces: a run's checkpoints on the clips of a snapshot, resumable, the same whatever the batch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.db.locks import HOLD_SEAL_LOCK, SEAL_LOCK
from slf_store.errors import CheckpointError
from slf_store.jobs.training import checkpoints, run_row, run_system
from slf_store.query.loader import Loader
from slf_store.query.manifest import Manifest, Part, open_snapshot
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

KEYS = text("""
    SELECT clip_id, identity || '/' || video || '/' || clip AS key FROM clips WHERE clip_id = ANY(:clip_ids)
""")
THERE = text("""
    -- Faces made already by these very checkpoints.
    SELECT clip_id, path FROM generation
    WHERE run_id = :run AND method = 'diffusion' AND scale = :scale AND seed = :seed AND steps = :steps
      AND samples_seen = :samples_seen AND clip_id = ANY(:clip_ids)
""")
REPLACE = text("""
    DELETE FROM generation
    WHERE run_id = :run AND method = 'diffusion' AND scale = :scale AND seed = :seed AND clip_id = ANY(:clip_ids)
""")
NEW = text("""
    INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path, checksum)
    VALUES (:run, :clip, 'diffusion', :scale, :seed, :steps, :samples_seen, :path, :checksum)
""")

Progress = Callable[[int, int], None]


def generate_run(
    store: Store,
    run: str,
    snapshot: str,
    *,
    part: Part = "all",
    scales: Sequence[float] = (1.0,),
    seed: int = 0,
    steps: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    progress: Progress | None = None,
) -> int:
    """Generate one face for each clip and scale; faces that are there already are not made again.

    Args:
        store: open store.
        run: trained run, both U-Nets.
        snapshot: whose clips to generate for.
        part: part of it.
        scales: conditional scales w.
        seed: with a clip's natural key it gives that clip's noise.
        steps: solver steps of both U-Nets; as configured by default.
        batch_size: faces made at a time.
        device: torch device.
        progress: called with (done, total).

    Returns:
        Faces made.

    Raises:
        CheckpointError: a U-Net of the run is not trained.
    """
    row = run_row(store, run)
    nets, samples_seen = _load(store, row, device)
    manifest = open_snapshot(store, snapshot, part)
    with store.engine.connect() as connection:
        keys = {r.clip_id: r.key for r in connection.execute(KEYS, {"clip_ids": manifest.clip_ids.tolist()})}
    total, done, made = len(manifest) * len(scales), 0, 0
    for scale in scales:
        values = {"run": row["id"], "scale": scale, "seed": seed, "steps": steps or 0, "samples_seen": samples_seen}
        todo = _todo(store, manifest, values)
        done += len(manifest) - len(todo)
        if not len(todo):
            continue
        loader = Loader(manifest.take(todo), run_system(row), batch_size=batch_size, device=device)
        for batch in loader.once():
            from slf_store.diffusion.sample import generate

            seeds = np.array([clip_seed(seed, keys[clip]) for clip in batch.clip_ids.tolist()], np.int64)
            faces = generate(
                *nets,
                batch.conditioning,
                batch.mask,
                batch.guide,
                scale=scale,
                seeds=seeds,
                steps=steps,
                device=device,
                batch_size=batch_size,
            )
            _write(store, run, values, batch.clip_ids, faces.permute(0, 2, 3, 1).numpy())
            made += len(batch)
            done += len(batch)
            if progress:
                progress(done, total)
    return made


def clip_seed(seed: int, key: str) -> int:
    """Seed of a clip's noise, from the run's seed and the clip's natural key alone.

    >>> clip_seed(0, "id1/v/1") == clip_seed(0, "id1/v/1") != clip_seed(1, "id1/v/1")
    True
    """
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _load(store: Store, row: dict[str, Any], device: str) -> tuple[tuple[Any, Any], int]:
    from slf_store.diffusion.checkpoint import load_checkpoint

    found = checkpoints(store, row)
    for unet in (1, 2):
        if unet not in found:
            raise CheckpointError(f"run {row['name']!r} has no U-Net {unet}", hint=f"slf train … --unet {unet}")
    folders = {unet: (store.settings.home / found[unet]["path"]).parent for unet in (1, 2)}
    unet1 = load_checkpoint(folders[1], 1, parts=("ema",)).unet(device)
    unet2 = load_checkpoint(folders[2], 2, parts=("ema",)).unet(device)
    return (unet1, unet2), int(found[1]["samples_seen"])


def _todo(store: Store, manifest: Manifest, values: dict[str, Any]) -> NDArray[np.int64]:
    """Indices of the clips whose face is not there yet."""
    with store.engine.connect() as connection:
        rows = connection.execute(THERE, {**values, "clip_ids": manifest.clip_ids.tolist()})
        there = {r.clip_id for r in rows if (store.settings.home / r.path).is_file()}
    return np.flatnonzero([clip not in there for clip in manifest.clip_ids.tolist()]).astype(np.int64)


def _write(
    store: Store, run: str, values: dict[str, Any], clip_ids: NDArray[np.int64], faces: NDArray[np.uint8]
) -> None:
    """Files first, then their rows in one transaction; an older face of the same clip and scale gives way.

    From the first file to the commit a lock keeps `gc` from taking the files for garbage.
    """
    folder = store.runs / run / "generated" / f"scale-{values['scale']:g}-seed-{values['seed']}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{clip}.png" for clip in clip_ids.tolist()]
    with store.engine.begin() as connection:
        connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
        for path, face in zip(paths, faces, strict=True):
            save_face(path, face, f"generated by run {run}")
        connection.execute(REPLACE, {**values, "clip_ids": clip_ids.tolist()})
        for clip, path in zip(clip_ids.tolist(), paths, strict=True):
            relative = path.relative_to(store.settings.home).as_posix()
            checksum = file_checksum(path)
            connection.execute(NEW, {**values, "clip": clip, "path": relative, "checksum": checksum})


def save_face(path: Path, face: NDArray[np.uint8], comment: str) -> None:
    """Write a (h, w, 3) uint8 face as PNG, atomically, saying in its metadata that it is no photograph."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", f"slf-store: {comment}; a machine-made image, not a photograph")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    Image.fromarray(face).save(temporary, "PNG", pnginfo=info)
    temporary.replace(path)
