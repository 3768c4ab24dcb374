"""Generated faces as vectors: the same detector and model as the gallery's real faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.errors import ConfigError
from slf_store.evaluation.picture import read_picture
from slf_store.evaluation.picture_pool import picture_map

if TYPE_CHECKING:
    from slf_store.store import Store

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
Vector = NDArray[np.float32]

COMMIT_EVERY = 32
"""Faces embedded (about 3 s) between two commits: what a crash can lose."""

UNEMBEDDED = text("""
    -- Generated faces that have not been through this embedding model.
    SELECT generation.id, generation.path
    FROM generation
    WHERE generation.id = ANY(CAST(:generations AS bigint[]))
      AND NOT EXISTS (SELECT FROM generation_embedding embedded
                      WHERE embedded.generation_id = generation.id AND embedded.constituent_id = :embedding)
    ORDER BY generation.id
""")

KEEP = text("""
    -- A null vector says: looked at, no face found.
    INSERT INTO generation_embedding (generation_id, constituent_id, vector)
    VALUES (:generation, :embedding, :vector)
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True)
class EmbeddingModel:
    """The face embedding constituent in use, and what it takes to compute it."""

    constituent_id: int
    name: str
    detector: str
    model: str


def embedding_model(store: Store, name: str | None = None) -> EmbeddingModel:
    """A face embedding of the store.

    Args:
        store: open store.
        name: DeepFace's name of the network (`Facenet512`), `facenet-casia-20180408`, or the constituent's
            (`face_dlib`); the settings' `face_model` when left out.

    Raises:
        NotFoundInStore: no real face has been embedded with the model.
        ConfigError: there is no such model; or the stored embeddings come from another detector, model or weights
            than the settings name, so that distances between real and generated faces would mean nothing.
    """
    from slf_store.constituents.deepface_models import EMBEDDINGS
    from slf_store.constituents.faces import FaceEmbedding
    from slf_store.query.values import active_constituent

    wanted = constituent_name(store, name)
    model = next((model for model in EMBEDDINGS if constituent_name(store, model) == wanted), wanted)
    spec = FaceEmbedding(store.settings, model=model).spec
    with store.engine.connect() as connection:
        row = active_constituent(connection, spec.name)
        stored = connection.execute(text("SELECT spec FROM constituent WHERE id = :id"), {"id": row["id"]}).scalar_one()
    now = spec.as_json()
    for what, then, current in (
        ("weights", stored.get("weights"), now["weights"]),
        ("detector", _detector(stored), _detector(now)),
    ):
        if then != current:
            raise ConfigError(
                f"the real faces were embedded by {spec.name} with another {what}: {then}, now {current}",
                hint="set SLF_FACE_DETECTOR and SLF_MODELS_DIR as they were, or run `slf extract` again",
            )
    return EmbeddingModel(row["id"], spec.name, store.settings.face_detector, model)


def constituent_name(store: Store, name: str | None = None) -> str:
    """The constituent of a face embedding model.

    Args:
        store: open store.
        name: as :func:`embedding_model`.
    """
    from slf_store.constituents.deepface_models import EMBEDDINGS
    from slf_store.constituents.faces import FaceEmbedding

    wanted = name or store.settings.face_model
    return FaceEmbedding(store.settings, model=wanted).name if wanted in EMBEDDINGS else wanted


def embed_generations(
    store: Store,
    generations: Sequence[int],
    model: EmbeddingModel,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> int:
    """Embed generated faces that are not embedded yet, and store their vectors.

    About 0.1 s per face and process with dlib. Interrupted, it goes on where it was.

    Args:
        store: open store.
        generations: keys of `generation` rows.
        model: from :func:`embedding_model`.
        workers: processes at most.
        progress: told (done, total) of the faces that were not embedded yet.

    Returns:
        Faces embedded now.

    Raises:
        NotFoundInStore: a picture is gone.
        ModelUnavailable: the detector or the model cannot be loaded.
    """
    with store.engine.connect() as connection:
        todo = connection.execute(
            UNEMBEDDED, {"generations": list(generations), "embedding": model.constituent_id}
        ).all()
    paths = [store.settings.home / path for _, path in todo]
    block: list[dict[str, object]] = []
    function = partial(embed_picture, detector=model.detector, model=model.model)
    with picture_map(function, store.settings.models, workers, len(todo)) as embed:
        for done, ((generation, _), vector) in enumerate(zip(todo, embed(paths), strict=True), start=1):
            block.append({"generation": generation, "embedding": model.constituent_id, "vector": vector})
            if len(block) == COMMIT_EVERY or done == len(todo):
                with store.engine.begin() as connection:
                    connection.execute(KEEP, block)
                block = []
            if progress is not None:
                progress(done, len(todo))
    return len(todo)


def embed_picture(path: Path, *, detector: str, model: str) -> Vector | None:
    """Vector of the face in a picture: (d,) float32, or None where no face is detected."""
    from slf_store.media.face import embed_face

    return embed_face(read_picture(path), detector=detector, model=model)


def _detector(spec: dict[str, object]) -> object:
    parameters = spec.get("parameters")
    face = parameters.get("face") if isinstance(parameters, dict) else None
    return face.get("detector") if isinstance(face, dict) else None
