"""Training a run: a system on a snapshot, one U-Net at a time, known to PostgreSQL."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sqlalchemy import text

from slf_store import __version__
from slf_store.errors import ConfigError, NotFoundInStore, SelectionError
from slf_store.jobs.checkpoint_rows import put_checkpoint
from slf_store.jobs.training_record import TrainingRecord
from slf_store.query.loader import Loader
from slf_store.query.manifest import open_snapshot
from slf_store.query.snapshot import frozen_layout, snapshot_row
from slf_store.query.systems import System, find_system
from slf_store.store import Store

if TYPE_CHECKING:
    from slf_store.diffusion.config import DiffusionConfig
    from slf_store.diffusion.train import TrainLog
    from slf_store.diffusion.validation import ValidationSource

Which = Literal[1, 2]
log = logging.getLogger(__name__)

RUN = text("""
    SELECT run.*, snapshot.name AS snapshot, snapshot.hash AS snapshot_hash
    FROM run JOIN snapshot ON snapshot.id = run.snapshot_id WHERE run.name = :name
""")
NEW_RUN = text("""
    INSERT INTO run (name, snapshot_id, system, preset, config, seed, inputs, guide)
    VALUES (:name, :snapshot, :system, :preset, CAST(:config AS jsonb), :seed, :inputs, :guide)
    ON CONFLICT (name) DO NOTHING -- another process of the same training was quicker
""")
CHECKPOINTS = text("""
    SELECT unet, samples_seen, path, checksum, loss, validation_loss, seconds
    FROM checkpoint WHERE run_id = :run AND role = :role
""")
PARTS = text("""
    -- Clips and people of a snapshot, by part, and whether all of them are synthetic.
    SELECT part, count(*) AS clips, count(DISTINCT (clips.source, clips.identity)) AS identities,
           bool_and(clips.synthetic) AS synthetic
    FROM snapshot_clip JOIN clips USING (clip_id) WHERE snapshot_id = :snapshot GROUP BY part
""")
STEPS_TO_VALIDATION = 1250
"""Steps between two validations by default: a few hundred passes forward beside 1250 forward and back."""
VALIDATION_CLIPS = 64
"""Most validation clips looked at: spread evenly over the part, the same each time."""


@dataclass(frozen=True)
class Trained:
    """One U-Net after a call of :func:`train`: samples seen in all, last loss, seconds of this call."""

    run: str
    unet: int
    samples_seen: int
    loss: float | None
    seconds: float


def run_row(store: Store, name: str) -> dict[str, Any]:
    """A run's row, with its snapshot's name and hash.

    Raises:
        NotFoundInStore: there is none of that name.
    """
    with store.engine.connect() as connection:
        row = connection.execute(RUN, {"name": name}).mappings().first()
    if row is None:
        raise NotFoundInStore(f"no run {name!r}", hint="see `slf runs`")
    return dict(row)


def checkpoints(store: Store, run: dict[str, Any], role: Literal["last", "best"] = "last") -> dict[int, dict[str, Any]]:
    """{U-Net: checkpoint row} of a run: the last ones, or those with the lowest validation loss."""
    with store.engine.connect() as connection:
        rows = connection.execute(CHECKPOINTS, {"run": run["id"], "role": role}).mappings()
        return {row["unet"]: dict(row) for row in rows}


def create_run(
    store: Store,
    name: str,
    *,
    snapshot: str,
    system_name: str,
    preset: str,
    seed: int,
    guide_dropout: float | None = None,
) -> dict[str, Any]:
    """The run of that name; made when it is not there, refused when it is another.

    What the system sees is written down with the run: a custom system that is changed later changes no run.

    Args:
        store: open store.
        name: of the run.
        snapshot, system_name, preset, seed: what it is trained on, and how.
        guide_dropout: share of samples from which U-Net 1 hides the image guide, so that it also serves without;
            None = as the run, or the preset, has it.

    Raises:
        ConfigError: the name is no folder name, the system needs no training, or a run of that name has another
            snapshot, system, preset or seed.
        SelectionError: no such system.
        NotFoundInStore: no such snapshot.
    """
    if not name or name != Path(name).name or name.startswith(".") or "\0" in name:
        raise ConfigError(f"run name {name!r}", hint="its files go into a folder of that name: no /, no leading dot")
    from slf_store.diffusion.config import preset as diffusion_preset

    config = diffusion_preset(preset)
    if guide_dropout is not None:
        config = replace(config, training1=replace(config.training1, guide_dropout=guide_dropout))
    wanted = {"snapshot": snapshot, "system": system_name, "preset": preset, "seed": seed}
    try:
        row = run_row(store, name)
    except NotFoundInStore:
        row = _new_run(store, name, wanted, config.to_json())
    for key, value in wanted.items():
        if row[key] != value:
            raise ConfigError(f"run {name!r} has {key} {row[key]!r}, not {value!r}", hint="give the run another --name")
    had = row["config"]["training1"]["guide_dropout"]
    if guide_dropout is not None and had != guide_dropout:
        raise ConfigError(f"run {name!r} has guide dropout {had}, not {guide_dropout}", hint="give it another --name")
    _require_same_system(store, row)
    return row


def _new_run(store: Store, name: str, wanted: dict[str, Any], config: str) -> dict[str, Any]:
    chosen, frozen = find_system(store, wanted["system"]), snapshot_row(store, wanted["snapshot"])
    if not chosen.trained:
        raise ConfigError(f"system {chosen.name!r} needs no training", hint="`slf evaluate` puts it beside any run")
    sees = {"inputs": chosen.sees(frozen_layout(frozen["layout"], frozen["blocks"])), "guide": chosen.guide}
    with store.engine.begin() as connection:
        connection.execute(NEW_RUN, {**wanted, **sees, "name": name, "snapshot": frozen["id"], "config": config})
    return run_row(store, name)


def _require_same_system(store: Store, run: dict[str, Any]) -> None:
    """A run goes on as it was made; who changed its system means another run. One that was removed is fine."""
    try:
        now = find_system(store, run["system"])
    except SelectionError:
        return
    frozen = snapshot_row(store, run["snapshot"])
    if (now.sees(frozen_layout(frozen["layout"], frozen["blocks"])), now.guide) != (run["inputs"], run["guide"]):
        raise ConfigError(
            f"system {run['system']!r} is another one than when run {run['name']!r} was made: that saw "
            f"{', '.join(run['inputs']) or 'nothing'}, {'with' if run['guide'] else 'without'} the image guide",
            hint="give the run another --name",
        )


def run_system(run: dict[str, Any]) -> System:
    """The system of a run, as it was when the run was made.

    Args:
        run: :func:`run_row`.
    """
    return System(run["system"], frozenset(run["inputs"]), run["guide"])


def train(
    store: Store,
    run: str,
    unet: Which,
    *,
    samples: int | None = None,
    minutes: float | None = None,
    device: str = "cpu",
    micro_batch: int | None = None,
    keep: int = 1,
    checkpoint_every_s: float = 300.0,
    validate_every: int | None = None,
    on_log: Callable[[TrainLog], None] | None = None,
) -> Trained:
    """Train one U-Net of a run for a budget, or go on with it. Its lines go to `run_log`, its files to `<home>/runs`.

    Under `accelerate launch` or `torchrun` every process calls this; the main one alone writes.

    Args:
        store: open store.
        run: run made by :func:`create_run`.
        unet: 1 (→ 32×32) or 2 (→ 128×128).
        samples: budget in samples seen, over all calls; resuming is exact.
        minutes: budget of this call.
        device: torch device.
        micro_batch: samples computed at a time; the weights are the same within rounding. None = as configured.
        keep: how many of the last checkpoints to keep.
        checkpoint_every_s: seconds between checkpoints.
        validate_every: samples between validations; None = :data:`STEPS_TO_VALIDATION` steps.
        on_log: called with progress.

    Raises:
        CheckpointError, TrainingDiverged, ConfigError: as :func:`slf_store.diffusion.train.train_unet`.
        DatabaseError: the database went away and did not come back until the end.
    """
    import torch

    from slf_store.diffusion.config import DiffusionConfig
    from slf_store.diffusion.grid import save_grid
    from slf_store.diffusion.ranks import Ranks
    from slf_store.diffusion.train import train_unet

    torch.set_num_threads(store.settings.thread_count)
    row = run_row(store, run)
    config = DiffusionConfig.from_json(json.dumps(row["config"]))
    if micro_batch is not None:
        config = _with_micro_batch(config, unet, micro_batch)
    ranks, batch_size = Ranks(device), config.training(unet).batch_size
    if batch_size % ranks.world:
        raise ConfigError(
            f"{ranks.world} processes cannot share batches of {batch_size} samples evenly",
            hint=f"start a number of processes that divides {batch_size}",
        )
    loader = Loader(
        open_snapshot(store, row["snapshot"], "train"),
        run_system(row),
        batch_size=batch_size // ranks.world,
        seed=row["seed"],
        device=ranks.device,
        rank=ranks.rank,
        world=ranks.world,
    )
    record = TrainingRecord(store, row, unet) if ranks.main else None
    last: list[TrainLog] = []

    def log_line(line: TrainLog) -> None:
        last[:] = [line]
        if record:
            record.line(line)
        if on_log:
            on_log(line)

    started = time.monotonic()
    try:
        checkpoint = train_unet(
            loader.batches,
            config,
            unet,
            store.runs / run,
            samples=samples,
            minutes=minutes,
            seed=row["seed"],
            device=device,
            validation=_validation(store, row, batch_size, ranks.device) if ranks.main else None,
            validate_every=validate_every or STEPS_TO_VALIDATION * batch_size,
            keep=keep,
            checkpoint_every_s=checkpoint_every_s,
            on_log=log_line,
            on_checkpoint=record.checkpoint if record else None,
            write_grid=record.grid if record else save_grid,
            extra=_facts(store, row),
        )
    finally:
        if record:
            record.close()
    seconds = time.monotonic() - started
    return Trained(run, unet, checkpoint.samples_seen, last[0].loss if last else None, seconds)


def _with_micro_batch(config: DiffusionConfig, unet: Which, micro_batch: int) -> DiffusionConfig:
    training = replace(config.training(unet), micro_batch=micro_batch)
    return replace(config, training1=training) if unet == 1 else replace(config, training2=training)


def _validation(store: Store, row: dict[str, Any], batch_size: int, device: Any) -> ValidationSource | None:
    """A few clips of people that training never sees; None, and a word, where the snapshot has none."""
    manifest = open_snapshot(store, row["snapshot"], "validation")
    if not len(manifest):
        log.warning("snapshot %s has no validation part: no validation loss, no sample grids", row["snapshot"])
        return None
    count = min(VALIDATION_CLIPS, len(manifest))
    chosen = manifest.take(np.linspace(0, len(manifest) - 1, count).round().astype(np.int64))
    return Loader(chosen, run_system(row), batch_size=min(batch_size, count), device=device).once


def _facts(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint and the model card say of a run; nobody's name, no predicate."""
    from slf_store.diffusion.card import CODE_LICENCE, DATA_NOTES

    with store.engine.connect() as connection:
        parts = {part["part"]: part for part in connection.execute(PARTS, {"snapshot": row["snapshot_id"]}).mappings()}
    train_part, held = parts["train"], parts.get("validation")
    return {
        "run": row["name"],
        "system": row["system"],
        "inputs": [*row["inputs"], *(["image guide 8×8"] if row["guide"] else [])],
        "snapshot": row["snapshot"],
        "snapshot_hash": row["snapshot_hash"],
        "clips": train_part["clips"],
        "identities": train_part["identities"],
        "validation_clips": held["clips"] if held else 0,
        "validation_identities": held["identities"] if held else 0,
        "seed": row["seed"],
        "slf_store": __version__,
        "licence": CODE_LICENCE,
        "data_notes": DATA_NOTES[train_part["synthetic"]],
    }


def share_unet2(store: Store, run: str, other: str) -> None:
    """Let a run use another's U-Net 2.

    Two systems that differ only in the image guide have the same U-Net 2: the guide enters U-Net 1 alone.

    Raises:
        ConfigError: the runs differ in snapshot, preset or in inputs other than the guide, or `other` has no U-Net 2.
    """
    mine, theirs = run_row(store, run), run_row(store, other)
    same_inputs = set(mine["inputs"]) == set(theirs["inputs"])
    from slf_store.diffusion.config import DiffusionConfig

    # Read, not compared as text: an older run's says nothing of fields that came later.
    one, two = (DiffusionConfig.from_json(json.dumps(run["config"])) for run in (mine, theirs))
    if mine["snapshot"] != theirs["snapshot"] or one != two or not same_inputs:
        raise ConfigError(
            f"run {run!r} cannot share the U-Net 2 of {other!r}: they differ in more than the image guide",
            hint="train its own with --unet 2",
        )
    found = checkpoints(store, theirs).get(2)
    if found is None:
        raise ConfigError(f"run {other!r} has no U-Net 2 yet", hint=f"slf train … --name {other} --unet 2")
    with store.engine.begin() as connection:
        put_checkpoint(connection, mine["id"], 2, {**found, "role": "last", "seconds": 0.0})
