"""RunInputs: what a trained run is given of a clip: its own snapshot's layout, statistics and constituent versions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement

from slf_store.errors import SelectionError, ShardError
from slf_store.query.attributes import Attributes
from slf_store.query.clips import as_sql, matching
from slf_store.query.drift import CONSTITUENTS
from slf_store.query.encode import map_ethnicities
from slf_store.query.layout import Layout
from slf_store.query.locate import hold_clips, locate
from slf_store.query.manifest import Located, Manifest, Part, open_snapshot
from slf_store.query.selection import refuse_twins
from slf_store.query.snapshot import frozen_layout, snapshot_row
from slf_store.query.systems import System

if TYPE_CHECKING:
    from slf_store.store import Store

GUIDE, TARGET = "image_guide", "target"


@dataclass(frozen=True)
class RunInputs:
    """What a run was trained on.

    Attributes:
        run: its name.
        system: what it sees.
        layout: of its training snapshot.
        normalisation: {constituent: {mean, std}} of its training snapshot.
        constituents: {constituent that it sees: row of :data:`slf_store.query.drift.CONSTITUENTS`}, the guide included
            where the system has one. An input of the system that the training snapshot did not hold is not among them.
        target: the same row of the target, which no system sees and every batch holds.
    """

    run: str
    system: System
    layout: Layout
    normalisation: dict[str, dict[str, list[float]]]
    constituents: dict[str, dict[str, Any]]
    target: dict[str, Any]

    def version(self, name: str) -> str:
        """`name@version` that the run was trained on."""
        return f"{name}@{self.constituents[name]['version']}"


def run_inputs(store: Store, run: str, system: System, snapshot: str) -> RunInputs:
    """What a run sees, as its training snapshot has it.

    Args:
        store: open store.
        run: name, for messages.
        system: of the run.
        snapshot: name of its training snapshot; clips of it may have been erased since.

    Raises:
        NotFoundInStore: no such snapshot.
    """
    row = snapshot_row(store, snapshot)
    with store.engine.connect() as connection:
        held = {
            entry["name"]: dict(entry) for entry in connection.execute(CONSTITUENTS, {"snapshot": row["id"]}).mappings()
        }
    plan = frozen_layout(row["layout"], row["blocks"])
    seen = [*system.sees(plan), *([GUIDE] if system.guide else [])]
    constituents = {name: held[name] for name in seen if name in held}
    return RunInputs(run, system, plan, row["normalisation"], constituents, held[TARGET])


def of_snapshot(store: Store, inputs: RunInputs, name: str, part: Part = "all") -> Manifest:
    """Clips of a snapshot, to be loaded as the run's training clips were.

    Raises:
        SelectionError: the snapshot lacks a constituent that the run sees, or holds another version of it.
        NotFoundInStore, ShardError: as :func:`slf_store.query.manifest.open_snapshot`.
    """
    opened = open_snapshot(store, name, part)
    for constituent in inputs.constituents:
        held = opened.constituents.get(constituent)
        if held is None or held.version != inputs.constituents[constituent]["version"]:
            what = f"no {constituent}" if held is None else f"{constituent}@{held.version}"
            raise SelectionError(
                f"snapshot {name} holds {what}, run {inputs.run} was trained on {inputs.version(constituent)}",
                hint="freeze clips that have the run's version, or give --clips, which finds it",
            )
    held_too = {key: opened.constituents[key] for key in (*inputs.constituents, TARGET)}
    return replace(opened, layout=inputs.layout, normalisation=inputs.normalisation, constituents=held_too)


def of_clips(
    store: Store, inputs: RunInputs, predicate: str | ColumnElement[bool]
) -> tuple[Manifest, dict[str, list[int]]]:
    """Clips that fit a predicate now, with the run's constituent versions and today's attributes.

    Args:
        store: open store.
        inputs: of the run.
        predicate: SQL over the view `clips`, evaluated read-only.

    Returns:
        The clips that have every input of the run, and {constituent: ids of clips that lack it}: left out.

    Raises:
        SelectionError: the predicate is no valid condition, fits no clip, or no clip has every input.
        ShardError: a version that the run sees was retired.
    """
    condition = as_sql(predicate)
    columns = matching(store, condition)
    refuse_twins(columns)
    ids = columns["clip_id"]
    if not len(ids):
        raise SelectionError(f"no clip fits {condition!r}", hint='see `slf sql "SELECT * FROM clips LIMIT 5"`')
    located: dict[str, Located] = {}
    with store.engine.begin() as connection:
        hold_clips(connection, ids)
        for name, entry in {**inputs.constituents, TARGET: inputs.target}.items():
            if entry["status"] != "active" and name in inputs.constituents:
                raise ShardError(
                    f"{inputs.version(name)}, which run {inputs.run} sees, was retired: its values are gone",
                    hint="extract it again under the settings that made it, or train another run",
                )
            places = locate(connection, entry["id"], len(ids))
            paths = tuple(store.shards / path for path in places.paths)
            shape, dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
            located[name] = Located(name, entry["version"], shape, dtype, paths, places.shard, places.row)
    lacking = {name: ids[~located[name].present].tolist() for name in inputs.constituents}
    lacking = {name: clips for name, clips in lacking.items() if clips}
    keep = np.ones(len(ids), bool)
    for name in lacking:
        keep &= located[name].present
    if not keep.any():
        told = ", ".join(f"{inputs.version(name)} {len(clips)}" for name, clips in lacking.items())
        raise SelectionError(
            f"{len(ids)} clips fit {condition!r}, and every one lacks an input of run {inputs.run}: {told}",
            hint="run `slf extract` under the settings of the run's snapshot",
        )
    rows = [
        dict(zip(("age", "gender", "ethnicity", "language"), values, strict=True))
        for values in zip(*(columns[key].tolist() for key in ("age", "gender", "ethnicity", "language")), strict=True)
    ]
    attributes = Attributes.of(map_ethnicities(rows, store.settings.ethnicity_mapping))
    manifest = Manifest(
        f"of clips {condition!r}", "", inputs.layout, ids, attributes, located, inputs.normalisation, missing="zero"
    )
    return manifest.take(np.flatnonzero(keep)), lacking
