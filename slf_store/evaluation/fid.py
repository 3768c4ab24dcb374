"""FID: the Fréchet distance between Inception features of generated and of real faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.constituents.inception import InceptionFeatures
from slf_store.errors import ModelUnavailable
from slf_store.evaluation.embedding import Progress
from slf_store.evaluation.frechet import frechet_estimate
from slf_store.evaluation.interval import Estimate
from slf_store.evaluation.picture import read_picture

if TYPE_CHECKING:
    from slf_store.evaluation.gallery import Gallery
    from slf_store.evaluation.probes import Probes
    from slf_store.store import Store

BATCH = 256
"""Pictures in memory at once: 12 MB."""

PATHS = text("""
    -- Where the pictures of generated faces are.
    SELECT id, path FROM generation WHERE id = ANY(CAST(:generations AS bigint[]))
""")


@dataclass(frozen=True)
class Fid:
    """What the FID of every evaluation on one gallery needs.

    Attributes:
        store: open store.
        network: loaded.
        real: (m, 2048) float32, of the gallery's real faces.
        progress: told (done, total) of the faces that go through the network.
    """

    store: Store
    network: InceptionFeatures
    real: NDArray[np.float32]
    progress: Progress | None = None

    def estimate(self, probes: Probes, *, seed: int) -> Estimate | None:
        """FID of probes against the gallery, with an interval: :func:`frechet_estimate` of their features.

        Every probe counts: no face needs to be detected. The features are not kept.

        Args:
            probes: one face per clip; of a real one, only where the clip has a target.
            seed: of the interval.

        Returns:
            None with fewer than 3 people or real faces.

        Raises:
            NotFoundInStore: a picture is gone.
        """
        if len(probes.generations):
            vectors, identities = self._generated(probes.generations), probes.identities
        else:
            vectors, present = real_features(self.store, self.network, probes.clips, self.progress)
            identities = probes.identities[present]
        return frechet_estimate(vectors, identities, self.real, seed=seed)

    def _generated(self, generations: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features of generated faces in their order."""
        keys = generations.tolist()
        with self.store.engine.connect() as connection:
            paths = {row.id: row.path for row in connection.execute(PATHS, {"generations": keys})}
        found = []
        for start in range(0, len(keys), BATCH):
            block = keys[start : start + BATCH]
            pictures = [read_picture(self.store.settings.home / paths[key]) for key in block]
            found.append(self.network.features(np.stack(pictures)))
            if self.progress is not None:
                self.progress(start + len(block), len(keys))
        return np.concatenate(found)


def open_fid(store: Store, gallery: Gallery, progress: Progress | None = None) -> Fid | None:
    """FID on a gallery, its real faces seen by the network; None where its weights have not been fetched.

    Nothing is downloaded here: `slf models fid --download` does that.

    Args:
        store: open store.
        gallery: what is searched in.
        progress: told (done, total) of the faces that go through the network.

    Raises:
        ModelUnavailable: the weights are there and cannot be used.
    """
    network = InceptionFeatures(store.settings)
    if not network.is_here:
        return None
    try:
        network.load()
    except ModelUnavailable as error:
        raise ModelUnavailable(error.what, hint=f"{error.hint}; or evaluate with --no-fid") from error
    real, _ = real_features(store, network, gallery.clips, progress)
    return Fid(store, network, real, progress)


def real_features(
    store: Store, network: InceptionFeatures, clips: NDArray[np.int64], progress: Progress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features of the targets of (n,) clips: (m, 2048) float32 in their order, and (n,) bool, which have a target."""
    from slf_store.query.values import read_constituent

    found, there = [], []
    for start in range(0, len(clips), BATCH):
        block = clips[start : start + BATCH]
        targets, present = read_constituent(store, "target", block)
        found.append(network.features(targets[present]))
        there.append(present)
        if progress is not None:
            progress(start + len(block), len(clips))
    return np.concatenate(found), np.concatenate(there)
