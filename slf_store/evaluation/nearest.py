"""The real faces nearest to one face: of a clip, or of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import ClipError, ConfigError, NotFoundInStore
from slf_store.evaluation.embedding import EmbeddingModel, constituent_name, embedding_model
from slf_store.query.values import active_constituent

if TYPE_CHECKING:
    from slf_store.store import Store

OF_CLIP = """
    -- The vector of a clip that is named by its natural key; the first, where several sources have one.
    SELECT face.vector
    FROM (SELECT clip_id FROM clips
          WHERE (identity, video, clip) = (:identity, :video, :clip) ORDER BY clip_id LIMIT 1) asked
    JOIN face_embedding face ON face.clip_id = asked.clip_id AND face.constituent_id = :constituent
"""

OF_VECTOR = "SELECT * FROM nearest_faces(CAST(:probe AS vector), :k, :model) ORDER BY rank"


def nearest_faces(
    store: Store, face: str | Path | NDArray[np.float32], k: int = 10, model: str | None = None
) -> list[dict[str, Any]]:
    """The k real faces of the whole store nearest to one face, exactly, by Euclidean distance.

    In SQL it is the function of the same name: `SELECT * FROM nearest_faces(clip_id, 10, 'face_dlib')`, which also
    takes a vector.

    Args:
        store: open store.
        face: a picture that shows a face; or a clip by its natural key, `id00012/21Uxsk56VDQ/00001`; or (d,) a vector.
        k: faces wanted, at least 1.
        model: face embedding, as :func:`slf_store.evaluation.embedding.embedding_model`.

    Returns:
        rank (from 1), clip_id, split, identity, video, clip, distance of each. Of a clip, itself is the first.

    Raises:
        NotFoundInStore: no such clip or picture, the clip has no embedding, no real face has one.
        ConfigError: k is below 1, the vector has another dimension, or the model is none.
        ClipError: the file is no picture, or no face is detected in it.
        ModelUnavailable: the model cannot be loaded, to embed a picture.

    Example::

        nearest_faces(store, "id00012/21Uxsk56VDQ/00001", k=5)
    """
    if k < 1:
        raise ConfigError(f"{k} nearest faces", hint="ask for at least 1")
    vector = probe_vector(store, face, model)
    return list(store.query(OF_VECTOR, probe=vector, k=k, model=constituent_name(store, model)))


def probe_vector(store: Store, face: str | Path | NDArray[np.float32], model: str | None = None) -> NDArray[np.float32]:
    """(d,) the vector to search with.

    Args, Raises: as :func:`nearest_faces`.
    """
    with store.engine.connect() as connection:
        found = active_constituent(connection, constituent_name(store, model))
    if isinstance(face, np.ndarray):
        if face.shape != tuple(found["shape"]):
            raise ConfigError(f"a vector of {face.shape}", hint=f"{found['name']} has {tuple(found['shape'])}")
        return face
    if Path(face).is_file():
        return _embed(store, Path(face), embedding_model(store, model))
    parts = str(face).split("/")
    if len(parts) != 3:
        raise NotFoundInStore(f"{face} is no picture", hint="name a picture, or a clip as identity/video/clip")
    identity, video, clip = parts
    rows = store.query(OF_CLIP, identity=identity, video=video, clip=clip, constituent=found["id"])
    if not rows:
        raise NotFoundInStore(
            f"the store has no clip {face} with a face embedding of {found['name']}",
            hint="see `slf coverage` for what failed, and the view clips for names",
        )
    vector: NDArray[np.float32] = rows[0]["vector"].to_numpy()
    return vector


def _embed(store: Store, path: Path, model: EmbeddingModel) -> NDArray[np.float32]:
    """The largest face of a picture, cropped as a clip's is, then embedded; a 128×128 target is taken as it is."""
    from slf_store.media.face import TARGET_SIZE, crop_face, embed_face, prepare_deepface
    from slf_store.media.picture import face_of, read_picture

    prepare_deepface(store.settings.models)
    image = read_picture(path)
    if image.shape[:2] != (TARGET_SIZE, TARGET_SIZE):
        image = crop_face(face_of(image, path, model.detector))
    vector = embed_face(image, detector=model.detector, model=model.model)
    if vector is None:
        raise ClipError("no_face", f"{path}: no face is found in it", hint="give a picture that shows a face")
    return vector
