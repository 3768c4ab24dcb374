"""Age, gender and ethnicity of generated faces, as the store's attribute constituents see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.errors import ClipError, ConfigError, ModelUnavailable
from slf_store.evaluation.embedding import COMMIT_EVERY, Progress
from slf_store.evaluation.picture import read_picture
from slf_store.evaluation.picture_pool import picture_map
from slf_store.media.clip import ClipMedia, FaceChoice
from slf_store.media.face import DetectedFace
from slf_store.media.picture import face_of

if TYPE_CHECKING:
    from slf_store.constituents.extractor import Extractor
    from slf_store.store import Store

STATING = text("""
    -- Active constituents that state age, gender or ethnicity of some of the clips.
    SELECT constituent.id, constituent.name, constituent.version, constituent.spec
    FROM constituent
    WHERE constituent.kind = 'attribute' AND constituent.status = 'active'
      AND EXISTS (SELECT FROM attribute
                  WHERE attribute.constituent_id = constituent.id AND attribute.clip_id = ANY(CAST(:clips AS bigint[]))
                    AND attribute.name IN ('age', 'gender', 'ethnicity'))
    ORDER BY constituent.name
""")

UNSEEN = text("""
    -- Generated faces that the estimator has not looked at.
    SELECT generation.id, generation.path
    FROM generation
    WHERE generation.id = ANY(CAST(:generations AS bigint[]))
      AND NOT EXISTS (SELECT FROM generation_attribute seen
                      WHERE seen.generation_id = generation.id AND seen.constituent_id = :estimator)
    ORDER BY generation.id
""")

KEEP = text("""
    -- All null says: looked at, no face found.
    INSERT INTO generation_attribute (generation_id, constituent_id, age, gender, ethnicity)
    VALUES (:generation, :estimator, :age, :gender, :ethnicity)
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True)
class Estimator:
    """A constituent that states attributes from a face: key, name and extractor."""

    constituent_id: int
    name: str
    extractor: Extractor


@dataclass
class PictureMedia(ClipMedia):
    """A generated face in the place of a clip: the picture is the frame, and the target."""

    def face(self, choice: FaceChoice) -> DetectedFace:
        """The face in it. ClipError: `no_face`."""
        return face_of(read_picture(self.path), self.path, choice.detector)

    def target(self, choice: FaceChoice) -> NDArray[np.uint8]:
        """The picture. ClipError: `no_face`: an estimator that does not look for a face sees none either."""
        return self.face(choice).image


def find_estimators(store: Store, clips: NDArray[np.int64]) -> list[Estimator]:
    """What states age, gender or ethnicity of (n,) real faces, and can say it of generated ones alike.

    Raises:
        ConfigError: the stored statements come from other code or weights than are here.
        ModelUnavailable: weights are missing.
    """
    from slf_store.constituents.faces import FromFace
    from slf_store.constituents.versioned import extractor_of

    with store.engine.connect() as connection:
        rows = connection.execute(STATING, {"clips": clips.tolist()}).all()
    try:
        made = [Estimator(row.id, row.name, extractor_of(store.settings, row.spec, row.version)) for row in rows]
    except (ConfigError, ModelUnavailable) as error:
        raise type(error)(error.what, hint=f"{error.hint}; or evaluate with --no-attributes") from error
    return [estimator for estimator in made if isinstance(estimator.extractor, FromFace)]


def estimate_generations(
    store: Store,
    generations: Sequence[int],
    estimator: Estimator,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> int:
    """Have an estimator look at generated faces it has not seen yet, and keep what it says.

    Args:
        store: open store.
        generations: keys of `generation` rows.
        estimator: of :func:`find_estimators`.
        workers: processes at most.
        progress: told (done, total).

    Returns:
        Faces looked at now.

    Raises:
        NotFoundInStore: a picture is gone.
        ModelUnavailable: the estimator cannot be loaded.
    """
    key = {"estimator": estimator.constituent_id}
    with store.engine.connect() as connection:
        todo = connection.execute(UNSEEN, {**key, "generations": list(generations)}).all()
    paths = [store.settings.home / path for _, path in todo]
    block: list[dict[str, Any]] = []
    function = partial(estimate_picture, extractor=estimator.extractor)
    with picture_map(function, store.settings.models, workers, len(todo)) as estimate:
        for done, ((generation, _), said) in enumerate(zip(todo, estimate(paths), strict=True), start=1):
            block.append({**key, "generation": generation, **said})
            if len(block) == COMMIT_EVERY or done == len(todo):
                with store.engine.begin() as connection:
                    connection.execute(KEEP, block)
                block = []
            if progress is not None:
                progress(done, len(todo))
    return len(todo)


def estimate_picture(path: Path, *, extractor: Extractor) -> dict[str, Any]:
    """Age, gender and ethnicity of a picture; each None where it is not stated, or no face is found."""
    said: dict[str, Any] = {"age": None, "gender": None, "ethnicity": None}
    try:
        values = _load(extractor).extract(PictureMedia(0, path.name, path, 1))
    except ClipError:
        return said
    assert isinstance(values, list)
    return said | {value.name: value.number if value.text is None else value.text for value in values
                   if value.name in said}  # fmt: skip


_loaded: dict[str, Extractor] = {}
"""Extractors of this process, by name and version: an extractor travels to a process without its models."""


def _load(extractor: Extractor) -> Extractor:
    version = f"{extractor.name}@{extractor.spec.version}"
    if version not in _loaded:
        extractor.load()
        _loaded[version] = extractor
    return _loaded[version]
