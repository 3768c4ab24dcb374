"""Training a run: a system on a snapshot, one U-Net at a time, known to PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from slf_store import __version__
from slf_store.errors import ConfigError, NotFoundInStore, SelectionError
from slf_store.query.loader import Loader
from slf_store.query.manifest import open_snapshot
from slf_store.query.snapshot import frozen_layout, snapshot_row
from slf_store.query.systems import System, find_system
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

if TYPE_CHECKING:
    from slf_store.diffusion.train import TrainLog

Which = Literal[1, 2]

RUN = text("""
    SELECT run.*, snapshot.name AS snapshot, snapshot.hash AS snapshot_hash
    FROM run JOIN snapshot ON snapshot.id = run.snapshot_id WHERE run.name = :name
""")
NEW_RUN = text("""
    INSERT INTO run (name, snapshot_id, system, preset, config, seed, inputs, guide)
    VALUES (:name, :snapshot, :system, :preset, CAST(:config AS jsonb), :seed, :inputs, :guide)
""")
PUT_CHECKPOINT = text("""
    INSERT INTO checkpoint (run_id, unet, samples_seen, loss, path, checksum, seconds)
    VALUES (:run, :unet, :samples_seen, :loss, :path, :checksum, :seconds)
    ON CONFLICT (run_id, unet) DO UPDATE
    SET samples_seen = excluded.samples_seen, loss = excluded.loss, path = excluded.path,
        checksum = excluded.checksum, seconds = checkpoint.seconds + excluded.seconds, created_at = now()
""")
CHECKPOINTS = text("SELECT unet, samples_seen, path, checksum, loss, seconds FROM checkpoint WHERE run_id = :run")


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


def checkpoints(store: Store, run: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """{U-Net: checkpoint row} of a run."""
    with store.engine.connect() as connection:
        return {row["unet"]: dict(row) for row in connection.execute(CHECKPOINTS, {"run": run["id"]}).mappings()}


def create_run(store: Store, name: str, *, snapshot: str, system_name: str, preset: str, seed: int) -> dict[str, Any]:
    """The run of that name; made when it is not there, refused when it is another.

    What the system sees is written down with the run: a custom system that is changed later changes no run.

    Raises:
        ConfigError: the name is no folder name, the system needs no training, or a run of that name has another
            snapshot, system, preset or seed.
        SelectionError: no such system.
        NotFoundInStore: no such snapshot.
    """
    if not name or name != Path(name).name or name.startswith(".") or "\0" in name:
        raise ConfigError(f"run name {name!r}", hint="its files go into a folder of that name: no /, no leading dot")
    from slf_store.diffusion.config import preset as diffusion_preset

    config = diffusion_preset(preset).to_json()
    wanted = {"snapshot": snapshot, "system": system_name, "preset": preset, "seed": seed}
    try:
        row = run_row(store, name)
    except NotFoundInStore:
        row = _new_run(store, name, wanted, config)
    for key, value in wanted.items():
        if row[key] != value:
            raise ConfigError(f"run {name!r} has {key} {row[key]!r}, not {value!r}", hint="give the run another --name")
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
    on_log: Callable[[TrainLog], None] | None = None,
) -> Trained:
    """Train one U-Net of a run for a budget, or go on with it.

    Args:
        store: open store.
        run: run made by :func:`create_run`.
        unet: 1 (→ 32×32) or 2 (→ 128×128).
        samples: budget in samples seen, over all calls; resuming is exact.
        minutes: budget of this call.
        device: torch device.
        on_log: called with progress.

    Raises:
        CheckpointError, TrainingDiverged, ConfigError: as :func:`slf_store.diffusion.train.train_unet`.
    """
    import time

    import torch

    from slf_store.diffusion.config import DiffusionConfig
    from slf_store.diffusion.train import train_unet

    torch.set_num_threads(store.settings.thread_count)
    row = run_row(store, run)
    config = DiffusionConfig.from_json(json.dumps(row["config"]))
    manifest = open_snapshot(store, row["snapshot"], "train")
    loader = Loader(
        manifest,
        run_system(row),
        batch_size=config.training(unet).batch_size,
        seed=row["seed"],
        device=device,
    )
    extra = {
        "run": run,
        "system": row["system"],
        "snapshot": row["snapshot"],
        "snapshot_hash": row["snapshot_hash"],
        "slf_store": __version__,
    }
    last: list[TrainLog] = []

    def log(line: TrainLog) -> None:
        last[:] = [line]
        if on_log:
            on_log(line)

    start = time.monotonic()
    checkpoint = train_unet(
        loader.batches,
        config,
        unet,
        store.runs / run,
        samples=samples,
        minutes=minutes,
        seed=row["seed"],
        device=device,
        on_log=log,
        extra=extra,
    )
    seconds = time.monotonic() - start
    loss = last[0].loss if last else None
    _register(
        store, row["id"], unet, store.runs / run / f"unet{unet}.safetensors", checkpoint.samples_seen, loss, seconds
    )
    return Trained(run, unet, checkpoint.samples_seen, loss, seconds)


def share_unet2(store: Store, run: str, other: str) -> None:
    """Let a run use another's U-Net 2.

    Two systems that differ only in the image guide have the same U-Net 2: the guide enters U-Net 1 alone.

    Raises:
        ConfigError: the runs differ in snapshot, preset or in inputs other than the guide, or `other` has no U-Net 2.
    """
    mine, theirs = run_row(store, run), run_row(store, other)
    same_inputs = set(mine["inputs"]) == set(theirs["inputs"])
    if mine["snapshot"] != theirs["snapshot"] or mine["config"] != theirs["config"] or not same_inputs:
        raise ConfigError(
            f"run {run!r} cannot share the U-Net 2 of {other!r}: they differ in more than the image guide",
            hint="train its own with --unet 2",
        )
    found = checkpoints(store, theirs).get(2)
    if found is None:
        raise ConfigError(f"run {other!r} has no U-Net 2 yet", hint=f"slf train … --name {other} --unet 2")
    path = store.settings.home / found["path"]
    _register(store, mine["id"], 2, path, found["samples_seen"], found["loss"], 0.0)


def _register(
    store: Store, run_id: int, unet: int, path: Path, samples: int, loss: float | None, seconds: float
) -> None:
    values = {
        "run": run_id,
        "unet": unet,
        "samples_seen": samples,
        "loss": loss,
        "path": path.relative_to(store.settings.home).as_posix(),
        "checksum": file_checksum(path),
        "seconds": seconds,
    }
    with store.engine.begin() as connection:
        connection.execute(PUT_CHECKPOINT, values)
