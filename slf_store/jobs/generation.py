"""Generating faces: a run's checkpoints on the clips of a snapshot, resumable, the same whatever the batch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, text

from slf_store.db.locks import HOLD_SEAL_LOCK, SEAL_LOCK
from slf_store.errors import CheckpointError, ConfigError
from slf_store.faults import fault_point
from slf_store.jobs.training import checkpoints, run_row, run_system
from slf_store.jobs.worker import new_owner, owner_is_dead
from slf_store.query.loader import Loader
from slf_store.query.manifest import Manifest, Part
from slf_store.query.run_inputs import of_clips, of_snapshot, run_inputs
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from slf_store.diffusion.checkpoint import Role
    from slf_store.diffusion.memory import RowLimit
    from slf_store.diffusion.unet import SlfUnet

KEYS = text("""
    SELECT clip_id, identity || '/' || video || '/' || clip AS key FROM clips WHERE clip_id = ANY(:clip_ids)
""")
THERE = text("""
    -- Faces made already by these very checkpoints.
    SELECT clip_id, scale, path FROM generation
    WHERE run_id = :run AND method = 'diffusion' AND scale = ANY(:scales) AND seed = :seed AND steps = :steps
      AND samples_seen = :samples_seen AND clip_id = ANY(:clip_ids)
""")
REPLACE = text("""
    DELETE FROM generation
    WHERE run_id = :run AND method = 'diffusion' AND scale = :scale AND seed = :seed AND steps = :steps
      AND clip_id = ANY(:clip_ids)
""")
NEW = text("""
    INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path, checksum)
    VALUES (:run, :clip, 'diffusion', :scale, :seed, :steps, :samples_seen, :path, :checksum)
""")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Generated:
    """What a call of :func:`generate_run` came to, in faces, and in clips where it says so.

    Attributes:
        run: its name.
        made: faces made now.
        there: faces that were there already.
        skipped: clips left out because they lack an input of the run's system.
        lacking: {constituent: clips that lack it}.
    """

    run: str
    made: int
    there: int
    skipped: int
    lacking: dict[str, int]


def generate_run(
    store: Store,
    run: str,
    snapshot: str | None = None,
    *,
    clips: str | ColumnElement[bool] | None = None,
    part: Part = "all",
    scales: Sequence[float] = (1.0,),
    seed: int = 0,
    steps: int | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    role: Role = "last",
    progress: Progress | None = None,
) -> Generated:
    """Generate one face for each clip and scale; faces that are there already are not made again.

    Clips are given as the run's training clips were: its snapshot's layout, statistics and constituent versions. All
    scales of a batch are made in one pass, and written in one transaction.

    Args:
        store: open store.
        run: trained run, both U-Nets.
        snapshot: whose clips to generate for.
        clips: or which clips: a predicate over the view `clips`. Those that lack an input are left out, and counted.
        part: part of the snapshot.
        scales: conditional scales w.
        seed: with a clip's natural key it gives that clip's noise.
        steps: solver steps of each U-Net; as configured by default.
        batch_size: clips at a time; by default as many as fit into memory.
        device: torch device.
        role: checkpoints to use: the last ones, or those with the lowest validation loss.
        progress: called with (faces done, faces in all).

    Raises:
        CheckpointError: a U-Net of the run is not trained.
        SelectionError, ShardError: as :mod:`slf_store.query.run_inputs`.
        ConfigError: neither or both of `snapshot` and `clips`, or a scale that is none.
    """
    from slf_store.diffusion.memory import RowLimit
    from slf_store.diffusion.sample import branches

    if (snapshot is None) == (clips is None):
        raise ConfigError("generate for the clips of a snapshot, or for those that fit a predicate", hint="give one")
    wanted = check_scales(scales)
    row = run_row(store, run)
    trained = load_run(store, row, device, role)
    inputs = run_inputs(store, run, run_system(row), row["snapshot"])
    lacking: dict[str, list[int]] = {}
    if snapshot is not None:
        manifest = of_snapshot(store, inputs, snapshot, part)
    else:
        assert clips is not None
        manifest, lacking = of_clips(store, inputs, clips)
    with store.engine.connect() as connection:
        keys = {r.clip_id: r.key for r in connection.execute(KEYS, {"clip_ids": manifest.clip_ids.tolist()})}
    values = {"run": row["id"], "seed": seed, "steps": steps or 0, "samples_seen": trained.samples_seen}
    todo = _todo(store, manifest, wanted, values)
    total = len(manifest) * len(wanted)
    there = done = total - sum(len(own) * len(samples) for own, samples in todo.items())
    planned = trained.limit(device) if batch_size is None and todo else None
    for own, samples in todo.items():
        _remove_left_over(store, run, own, values)
        limit = planned or RowLimit((batch_size or 1) * branches(own))
        loader = Loader(
            manifest.take(samples),
            inputs.system,
            batch_size=batch_size or max(1, limit.rows // branches(own)),
            device=device,
        )
        for batch in loader.once():
            seeds = np.array([clip_seed(seed, keys[clip]) for clip in batch.clip_ids.tolist()], np.int64)
            faces = trained.generate(
                batch.conditioning, batch.mask, batch.guide, own, seeds, steps=steps, device=device, limit=limit
            )
            _write(store, run, values, batch.clip_ids, dict(zip(own, faces, strict=True)))
            done += len(own) * len(batch)
            if progress:
                progress(done, total)
    skipped = len({clip for ids in lacking.values() for clip in ids})
    return Generated(run, done - there, there, skipped, {name: len(ids) for name, ids in lacking.items()})


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The scales without those that are there twice.

    Raises:
        ConfigError: there is none, or one is negative or no number.
    """
    wanted = tuple(dict.fromkeys(map(float, scales)))
    if not wanted or not all(0 <= scale < math.inf for scale in wanted):
        raise ConfigError(f"conditional scales {list(scales)}", hint="give numbers from 0 on, e.g. 0, 1, 2.5")
    return wanted


def clip_seed(seed: int, key: str) -> int:
    """Seed of a clip's noise, from the run's seed and the clip's natural key alone.

    >>> clip_seed(0, "id1/v/1") == clip_seed(0, "id1/v/1") != clip_seed(1, "id1/v/1")
    True
    """
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class TrainedRun:
    """Both U-Nets of a run with their averaged weights, on a device.

    Attributes:
        unet1, unet2: the networks.
        samples_seen: by U-Net 1 in training.
        guide_dropout: share of samples that U-Net 1 saw without their image guide.
    """

    unet1: SlfUnet
    unet2: SlfUnet
    samples_seen: int
    guide_dropout: float

    def limit(self, device: str) -> RowLimit:
        """How many rows of a network call fit into memory now."""
        from slf_store.diffusion.memory import plan_rows

        return plan_rows((self.unet1.config, self.unet2.config), device)

    def generate(
        self,
        conditioning: Tensor,
        mask: Tensor,
        guide: Tensor | None,
        scales: Sequence[float],
        seeds: Sequence[int] | NDArray[np.int64],
        *,
        steps: int | None,
        device: str,
        limit: RowLimit | None = None,
    ) -> NDArray[np.uint8]:
        """:func:`slf_store.diffusion.sample.generate` as pictures: (S, B, 128, 128, 3) uint8 RGB."""
        from slf_store.diffusion.sample import generate

        made = generate(
            self.unet1, self.unet2, conditioning, mask, guide, scales=scales, seeds=seeds, steps=steps, device=device,
            limit=limit,
        )  # fmt: skip
        faces: NDArray[np.uint8] = made.permute(0, 1, 3, 4, 2).numpy()
        return faces


def load_run(store: Store, row: dict[str, Any], device: str, role: Role = "last") -> TrainedRun:
    """Load both U-Nets of a run.

    Args:
        store: open store.
        row: :func:`slf_store.jobs.training.run_row`.
        device: torch device.
        role: the last checkpoints, or the best; of a U-Net that has no best one, the last.

    Raises:
        CheckpointError: one is not trained, missing or damaged, or the best is asked for and there is none.
        ConfigError: there is no such device.
    """
    import torch

    from slf_store.diffusion.checkpoint import read_checkpoint

    chosen = checkpoints(store, row, role)
    if role == "best" and not chosen:
        raise CheckpointError(
            f"run {row['name']!r} was never validated: no checkpoint is its best",
            hint="train on a snapshot that has a validation part, or use the last checkpoint",
        )
    found = checkpoints(store, row) | chosen
    for unet in (1, 2):
        if unet not in found:
            raise CheckpointError(f"run {row['name']!r} has no U-Net {unet}", hint=f"slf train … --unet {unet}")
    torch.set_num_threads(store.settings.thread_count)
    paths = {unet: store.settings.home / found[unet]["path"] for unet in (1, 2)}
    loaded = [read_checkpoint(paths[1], 1, parts=("ema",)), read_checkpoint(paths[2], 2, parts=("ema",))]
    try:
        unets = [checkpoint.unet(device) for checkpoint in loaded]
    except (RuntimeError, AssertionError) as error:  # what torch says of a device that is none, or is not here
        raise ConfigError(f"device {device!r}: {str(error).splitlines()[0]}", hint="give cpu, cuda or cuda:1") from None
    return TrainedRun(unets[0], unets[1], int(found[1]["samples_seen"]), loaded[0].config.training1.guide_dropout)


def _todo(
    store: Store, manifest: Manifest, scales: tuple[float, ...], values: dict[str, Any]
) -> dict[tuple[float, ...], NDArray[np.int64]]:
    """{scales: indices of the clips that have no face yet at just these}."""
    with store.engine.connect() as connection:
        rows = connection.execute(THERE, {**values, "scales": list(scales), "clip_ids": manifest.clip_ids.tolist()})
        there = {(r.clip_id, r.scale) for r in rows if (store.settings.home / r.path).is_file()}
    groups: dict[tuple[float, ...], list[int]] = {}
    for sample, clip in enumerate(manifest.clip_ids.tolist()):
        open_ = tuple(scale for scale in scales if (clip, scale) not in there)
        if open_:
            groups.setdefault(open_, []).append(sample)
    return {open_: np.array(samples, np.int64) for open_, samples in groups.items()}


def _folder(store: Store, run: str, scale: float, values: dict[str, Any]) -> Path:
    steps = f"-steps-{values['steps']}" if values["steps"] else ""
    return store.runs / run / "generated" / f"scale-{scale:.15g}-seed-{values['seed']}{steps}"


def _remove_left_over(store: Store, run: str, scales: Sequence[float], values: dict[str, Any]) -> None:
    """Temporary files of processes of this machine that were killed."""
    for scale in scales:
        for path in _folder(store, run, scale, values).glob(".*.png.*"):
            if owner_is_dead(path.name.partition(".png.")[2].replace("~", "/")):
                path.unlink(missing_ok=True)


def _write(
    store: Store, run: str, values: dict[str, Any], clip_ids: NDArray[np.int64], faces: dict[float, NDArray[np.uint8]]
) -> None:
    """Files first, then their rows in one transaction; an older face of the same clip and scale gives way.

    From the first file to the commit a lock keeps `gc` from taking the files for garbage.
    """
    clips = clip_ids.tolist()
    with store.engine.begin() as connection:
        connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
        rows = []
        for scale, own in faces.items():
            folder = _folder(store, run, scale, values)
            folder.mkdir(parents=True, exist_ok=True)
            for clip, face in zip(clips, own, strict=True):
                path = folder / f"{clip}.png"
                save_face(path, face, f"generated by run {run}")
                relative = path.relative_to(store.settings.home).as_posix()
                rows.append({**values, "scale": scale, "clip": clip, "path": relative, "checksum": file_checksum(path)})
            connection.execute(REPLACE, {**values, "scale": scale, "clip_ids": clips})
        fault_point("generate.files")
        connection.execute(NEW, rows)
    fault_point("generate.committed")


def save_face(path: Path, face: NDArray[np.uint8], comment: str) -> None:
    """Write a (h, w, 3) uint8 face as PNG, atomically, saying in its metadata that it is no photograph."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", f"slf-store: {comment}; a machine-made image, not a photograph")
    temporary = path.with_name(f".{path.name}.{new_owner().replace('/', '~')}")
    try:
        Image.fromarray(face).save(temporary, "PNG", pnginfo=info)
        fault_point("generate.written")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
