"""Probes: the faces that are searched with, one per clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.errors import CheckpointError, NotFoundInStore

if TYPE_CHECKING:
    from slf_store.evaluation.gallery import Gallery
    from slf_store.store import Store

GENERATED = text("""
    -- Faces a run generated for the gallery's clips.
    SELECT generation.id, generation.clip_id, video.identity_id, generation.scale, generation.seed, generation.steps,
           generation.samples_seen
    FROM generation
    JOIN snapshot_clip member ON member.clip_id = generation.clip_id
    JOIN clip ON clip.id = generation.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE generation.run_id = :run
      AND generation.method = 'diffusion'
      AND member.snapshot_id = :snapshot
      AND (CAST(:part AS text) = 'all' OR member.part = :part)
      AND (CAST(:scales AS double precision[]) IS NULL
           OR generation.scale = ANY(CAST(:scales AS double precision[])))
      AND (CAST(:seed AS bigint) IS NULL OR generation.seed = :seed)
      AND (CAST(:steps AS bigint) IS NULL OR generation.steps = :steps)
    ORDER BY generation.scale, generation.seed, generation.steps, generation.clip_id
""")

REAL = text("""
    -- One real face for each identity of the gallery, to search the gallery with: best a clip outside the gallery
    -- and of a video the gallery does not have; at worst a clip of the gallery, where the identity has another one
    -- there. (A real probe is never matched with itself.)
    WITH gallery AS (
        SELECT member.clip_id, video.id AS video_id, video.identity_id
        FROM snapshot_clip member
        JOIN face_embedding face ON face.clip_id = member.clip_id AND face.constituent_id = :embedding
        JOIN clip ON clip.id = member.clip_id
        JOIN video ON video.id = clip.video_id
        WHERE member.snapshot_id = :snapshot AND (CAST(:part AS text) = 'all' OR member.part = :part)
    ), person AS (
        SELECT identity_id, count(*) AS faces FROM gallery GROUP BY identity_id
    )
    SELECT DISTINCT ON (person.identity_id) face.clip_id, person.identity_id
    FROM person
    JOIN video ON video.identity_id = person.identity_id
    JOIN clip ON clip.video_id = video.id
    JOIN face_embedding face ON face.clip_id = clip.id AND face.constituent_id = :embedding
    LEFT JOIN gallery inside ON inside.clip_id = clip.id
    WHERE inside.clip_id IS NULL OR person.faces > 1
    ORDER BY person.identity_id,
             inside.clip_id IS NOT NULL,
             EXISTS (SELECT FROM gallery WHERE gallery.video_id = video.id),
             video.name, clip.name, clip.id
""")


@dataclass(frozen=True)
class Run:
    """The run whose faces are evaluated."""

    id: int
    name: str
    system: str


@dataclass(frozen=True)
class Probes:
    """One face per clip, all made the same way.

    Attributes:
        system: the run's system, or the baseline's name.
        scale: conditional scale, 0 for a baseline.
        seed: of the generation, 0 for a baseline.
        steps: solver steps of each U-Net, 0 = as the preset says, or a baseline.
        samples_seen: by U-Net 1 when the faces were made, 0 for a baseline.
        clips: (n,) int64, the clip each face was made from.
        identities: (n,) int64, whose face it should be.
        generations: (n,) keys of `generation`, or empty where the probes are the clips' real faces.
    """

    system: str
    scale: float
    seed: int
    steps: int
    samples_seen: int
    clips: NDArray[np.int64]
    identities: NDArray[np.int64]
    generations: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.clips)


def find_run(store: Store, name: str) -> Run:
    """A run by name.

    Raises:
        NotFoundInStore: there is none.
    """
    rows = store.query("SELECT id, name, system FROM run WHERE name = :name", name=name)
    if not rows:
        raise NotFoundInStore(f"the store has no run {name!r}", hint="see `slf runs` for their names")
    return Run(**rows[0])


def generated_probes(
    store: Store,
    run: Run,
    gallery: Gallery,
    scales: Sequence[float] | None,
    seed: int | None,
    steps: int | None = None,
) -> list[Probes]:
    """What the run generated for the gallery's clips: one entry per (scale, seed, steps), in that order.

    Raises:
        NotFoundInStore: nothing was generated, or not at one of the scales.
        CheckpointError: faces of one entry come from different checkpoints.
    """
    with store.engine.connect() as connection:
        rows = connection.execute(
            GENERATED,
            {
                "run": run.id,
                "snapshot": gallery.snapshot_id,
                "part": gallery.part,
                "scales": None if scales is None else [float(scale) for scale in scales],
                "seed": seed,
                "steps": steps,
            },
        ).all()
    groups: dict[tuple[float, int, int], list[tuple[int, int, int, int]]] = {}
    for generation, clip, identity, scale, at_seed, with_steps, seen in rows:
        groups.setdefault((scale, at_seed, with_steps), []).append((generation, clip, identity, seen))
    absent = sorted(set(map(float, scales or ())) - {scale for scale, _, _ in groups})
    if absent or not groups:
        where = f" at scale {', '.join(f'{scale:g}' for scale in absent)}" if absent else ""
        raise NotFoundInStore(
            f"run {run.name!r} has no generated faces for snapshot {gallery.name!r} (part {gallery.part}){where}",
            hint=f"run `slf generate {run.name} --on {gallery.name}` first",
        )
    return [_one_checkpoint(run, *key, faces) for key, faces in groups.items()]


def real_probes(store: Store, gallery: Gallery) -> Probes:
    """The ceiling's probes: one other real face per identity of the gallery, where there is one; may be none.

    Best from a clip outside the gallery and another video. An identity that has no clip outside is probed with one
    of its gallery clips, which is then left out of the faces searched; an identity with one clip in all has no probe.
    """
    with store.engine.connect() as connection:
        rows = connection.execute(
            REAL,
            {
                "snapshot": gallery.snapshot_id,
                "part": gallery.part,
                "embedding": gallery.embedding.constituent_id,
            },
        ).all()
    clips, identities = np.array(rows, np.int64).reshape(-1, 2).T
    return Probes("real-vs-real", 0.0, 0, 0, 0, clips, identities, np.zeros(0, np.int64))


def _one_checkpoint(run: Run, scale: float, seed: int, steps: int, faces: list[tuple[int, int, int, int]]) -> Probes:
    generations, clips, identities, seen = np.array(faces, np.int64).T
    if len(set(seen.tolist())) > 1:
        raise CheckpointError(
            f"the faces of run {run.name!r} at scale {scale:g}, seed {seed}, come from several checkpoints "
            f"({', '.join(map(str, sorted(set(seen.tolist()))))} samples seen)",
            hint="finish `slf generate` with the newest one, so that all faces come from it",
        )
    return Probes(run.system, scale, seed, steps, int(seen[0]), clips, identities, generations)
