"""A store with people, random vectors for faces and one run: what evaluations are tested on, without any media."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from slf_store.constituents.registry import extractors
from slf_store.evaluation.picture import encode_png, write_whole
from slf_store.jobs.constituents import register
from slf_store.settings import load_settings
from slf_store.shards.writer import seal_shard
from slf_store.store import Store

PEOPLE = 12
EVIL = "<script>alert('id')</script>"
DIMENSION = 128


@dataclass
class World:
    """A store with 12 people of 2 videos with 2 clips each, random vectors for faces, and one run."""

    store: Store
    clips: np.ndarray
    identities: np.ndarray
    vectors: np.ndarray
    targets: np.ndarray
    embedding: int

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.store.engine.begin() as connection:
            result = connection.execute(text(sql), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def add_snapshot(self, name: str, members: list[int], validation: Set[int] = frozenset()) -> int:
        (snapshot,) = self.rows(
            "INSERT INTO snapshot (name, hash, predicate, layout, blocks, missing, seed, clips, normalisation)"
            " VALUES (:name, :hash, 'true', 'slf-256x768', '[]', 'skip', 0, :n, '{}') RETURNING id",
            name=name, hash=f"hash-of-{name}", n=len(members),
        )[0]  # fmt: skip
        for position, i in enumerate(members):
            self.rows(
                "INSERT INTO snapshot_clip VALUES (:snapshot, :position, :clip, :part)",
                snapshot=snapshot, position=position, clip=int(self.clips[i]),
                part="validation" if i in validation else "train",
            )  # fmt: skip
        return int(snapshot)

    def add_generation(
        self, i: int, vector: np.ndarray | None, *, scale: float = 1.0, seed: int = 0, steps: int = 12, seen: int = 500
    ) -> int:
        """A generated face (noise) of clip number i, embedded already."""
        face = np.random.default_rng([i, seed, round(scale * 10)]).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        path = f"runs/r/{scale}-{seed}-{steps}/{i}.png"
        write_whole(self.store.settings.home / path, encode_png(face))
        (generation,) = self.rows(
            "INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path)"
            " SELECT id, :clip, 'diffusion', :scale, :seed, :steps, :seen, :path FROM run RETURNING id",
            clip=int(self.clips[i]), scale=scale, seed=seed, steps=steps, seen=seen, path=path,
        )[0]  # fmt: skip
        self.rows(
            "INSERT INTO generation_embedding VALUES (:generation, :embedding, :vector)",
            generation=generation, embedding=self.embedding, vector=vector,
        )  # fmt: skip
        return int(generation)


@contextmanager
def new_world(url: str, folder: Path) -> Iterator[World]:
    """The store, on an empty database."""
    settings = load_settings(folder / "a store", database_url=url)
    specs = {extractor.spec.name: extractor.spec for extractor in extractors(settings)}
    generator = np.random.default_rng(0)
    with Store.create(settings=settings) as store:
        with store.engine.begin() as connection:
            keys = register(connection, specs.values())
        made = World(
            store, np.zeros(0, int), np.zeros(0, int),
            generator.integers(-4, 5, (4 * PEOPLE, DIMENSION)).astype(np.float32),
            generator.integers(0, 256, (4 * PEOPLE, 128, 128, 3), dtype=np.uint8), keys["face_dlib"],
        )  # fmt: skip
        (source,) = made.rows("INSERT INTO source (name, root, layout) VALUES ('s', '/s', 'voxceleb2') RETURNING id")[0]
        clips, identities = [], []
        for person in range(PEOPLE):
            name = EVIL if person == 3 else f"id{person:05}"
            (identity,) = made.rows(
                "INSERT INTO identity (source_id, name) VALUES (:source, :name) RETURNING id", source=source, name=name
            )[0]
            for video in ("v1", "v2"):
                (key,) = made.rows(
                    "INSERT INTO video (identity_id, split, name) VALUES (:identity, 'dev', :name) RETURNING id",
                    identity=identity, name=video,
                )[0]  # fmt: skip
                for clip in ("00001", "00002"):
                    clips += made.rows(
                        "INSERT INTO clip (video_id, name, path, state, file_bytes, file_mtime_ns)"
                        " VALUES (:video, :name, 'x', 'ok', 1, 1) RETURNING id",
                        video=key, name=clip,
                    )  # fmt: skip
                    identities.append(identity)
        made.clips, made.identities = np.array(clips)[:, 0], np.array(identities)
        for clip, vector in zip(made.clips.tolist(), made.vectors, strict=True):
            made.rows(
                "INSERT INTO face_embedding (constituent_id, clip_id, vector) VALUES (:embedding, :clip, :vector)",
                embedding=made.embedding, clip=clip, vector=vector,
            )  # fmt: skip
        spec = specs["target"]
        sealed = seal_shard(
            store.shards, constituent="target", version=spec.version, spec={}, clip_ids=made.clips, values=made.targets
        )
        (shard,) = made.rows(
            "INSERT INTO shard (constituent_id, path, rows, bytes, checksum)"
            " VALUES (:target, :path, :rows, :bytes, :checksum) RETURNING id",
            target=keys["target"], path=sealed.path, rows=sealed.rows, bytes=sealed.bytes, checksum=sealed.checksum,
        )[0]  # fmt: skip
        for row, clip in enumerate(made.clips.tolist()):
            made.rows(
                "INSERT INTO extraction (constituent_id, clip_id, state, shard_id, shard_row)"
                " VALUES (:target, :clip, 'done', :shard, :row)",
                target=keys["target"], clip=clip, shard=shard, row=row,
            )  # fmt: skip
        made.add_snapshot("training", list(range(4 * PEOPLE)))
        made.rows(
            "INSERT INTO run (name, snapshot_id, system, preset, config, seed, inputs, guide)"
            " SELECT 'r', id, 'full-input', 'tiny', '{}', 0, '{}', true FROM snapshot"
        )
        yield made
