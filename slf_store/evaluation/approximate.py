"""The real faces that an index finds nearest to one face: quickly, and perhaps not all of them; and how many."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, TextClause, text

from slf_store.errors import ConfigError
from slf_store.evaluation.face_index import (
    EF_CONSTRUCTION,
    FaceIndex,
    M,
    Measured,
    create_index,
    find_index,
    keep_measured,
    require_faces,
    require_owner,
)
from slf_store.evaluation.matching import NEAREST
from slf_store.evaluation.nearest import OF_VECTOR, probe_vector

if TYPE_CHECKING:
    from slf_store.store import Store

EF, MOST_EF = 256, 1_000
"""Candidates a search looks at: by default (on 36,237 faces all ten were found, docs/evaluation.md), and at most."""
PROBES = 200
"""Faces that an index is measured with."""

_SEARCH = """
    -- The faces nearest to a vector as the HNSW index finds them. It is used because they are ordered by the very
    -- expression it is built on; the distances are pgvector's own.
    WITH near AS MATERIALIZED (
        SELECT face.clip_id, face.vector <-> CAST(:probe AS vector) AS distance
        FROM face_embedding face
        WHERE face.constituent_id = {constituent}
        ORDER BY face.vector::vector({dimension}) <-> CAST(:probe AS vector({dimension}))
        LIMIT :k
    )
    SELECT row_number() OVER (ORDER BY near.distance, near.clip_id) AS rank, near.clip_id, video.split,
           identity.name AS identity, video.name AS video, clip.name AS clip, near.distance
    FROM near
    JOIN clip ON clip.id = near.clip_id
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    ORDER BY 1
"""
USE_INDEX = """
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_sort = off;  -- small stores, too: no other plan gives the order
    SET LOCAL hnsw.iterative_scan = strict_order;  -- on to the k-th face, whatever was erased meanwhile
    SET LOCAL hnsw.ef_search = {ef}
"""
SAMPLE = text("""
    -- Faces of a model, drawn by seed.
    SELECT clip_id, vector FROM face_embedding WHERE constituent_id = :constituent
    ORDER BY hashint8extended(clip_id, :seed), clip_id LIMIT :probes
""")


def approximate_faces(
    store: Store, face: str | Path | NDArray[np.float32], k: int = 10, model: str | None = None, *, ef: int = EF
) -> list[dict[str, Any]]:
    """The k real faces nearest to one face as an index finds them: some may be missed, and farther ones stand instead.

    How many, :func:`measure_index` has found out: an index that was not measured is not used.

    Args:
        store: open store; the index is there (:func:`build_index`).
        face, k, model: as :func:`slf_store.evaluation.nearest.nearest_faces`.
        ef: candidates to look at, k to 1000; more find more, and take longer.

    Returns:
        Rows as those of :func:`slf_store.evaluation.nearest.nearest_faces`.

    Raises:
        NotFoundInStore: there is no index, or it has not been measured at this ef or less; and as there.
        ConfigError: k or ef is out of range.
        ClipError, ModelUnavailable: as there.

    Example::

        build_index(store)
        approximate_faces(store, "id00012/21Uxsk56VDQ/00001", k=5)
    """
    _check_ef(ef, k)
    index = find_index(store, model)
    index.measured_at(ef)
    vector = probe_vector(store, face, model)
    with store.engine.begin() as connection:
        use_index(connection, ef)
        rows = connection.execute(search(index), {"probe": vector, "k": k})
        return [dict(row) for row in rows.mappings()]


def build_index(
    store: Store,
    model: str | None = None,
    *,
    m: int = M,
    ef_construction: int = EF_CONSTRUCTION,
    ef: int = EF,
    probes: int = PROBES,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Build the index of a face embedding, then measure it.

    Args, Raises: as :func:`slf_store.evaluation.face_index.create_index` and :func:`measure_index`. Stopped while it is
    measured, the index stays, and is not used before it is.

    Example::

        build_index(store, "face_dlib", ef=64).recall
    """
    _check_measurement(ef, probes)
    create_index(store, model, m=m, ef_construction=ef_construction, workers=workers, progress=progress)
    return measure_index(store, model, ef=ef, probes=probes, progress=progress)


def measure_index(
    store: Store,
    model: str | None = None,
    *,
    ef: int = EF,
    probes: int = PROBES,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Hold an index against the exact search, on faces of the store that the settings' seed draws; and keep the result.

    Looked for are the ten nearest other faces; a face as near as the tenth counts as found. Whether a face finds itself
    is told apart. Faces that are unlike all of the store's (bad generated ones) may do worse.

    Args:
        store: open store, as the owner of its tables.
        model: as :func:`slf_store.evaluation.embedding.embedding_model`.
        ef: candidates to look at, 11 to 1000.
        probes: faces to search with; each is searched exactly, too, which takes its time in a large store.
        progress: told (done, total) of the probes.

    Raises:
        NotFoundInStore: there is no index, or the store has fewer than two faces.
        ConfigError: ef or the number of probes is out of range.
        DatabaseError: not the owner.

    Example::

        measure_index(store, ef=64).worst
    """
    _check_measurement(ef, probes)
    index = find_index(store, model)
    require_owner(store, index)
    require_faces(index.model, index.faces)
    k = min(NEAREST, index.faces - 1)
    statement, exactly = search(index), text(OF_VECTOR)
    shares, itself, times = [], [], []
    with store.engine.connect() as exact, store.engine.begin() as quick:
        use_index(quick, ef)
        drawn = exact.execute(
            SAMPLE, {"constituent": index.constituent_id, "seed": store.settings.seed, "probes": probes}
        ).all()
        for done, (clip, vector) in enumerate(drawn, start=1):
            asked = {"probe": vector, "k": k + 1}  # itself, and k others
            right, exact_s = _timed(exact, exactly, asked | {"model": index.model})
            found, quick_s = _timed(quick, statement, asked)
            reach = _others(right, clip, k)[-1]
            shares.append(sum(distance <= reach for distance in _others(found, clip, k)) / k)
            itself.append(any(row.clip_id == clip for row in found))
            times.append((exact_s, quick_s))
            if progress is not None:
                progress(done, len(drawn))
    exact_ms, approximate_ms = (1000 * np.median(np.array(times), axis=0)).round(3).tolist()
    measured = Measured(
        ef, k, len(shares), index.faces, sum(shares) / len(shares), min(shares), shares.count(1.0) / len(shares),
        sum(itself) / len(itself), exact_ms, approximate_ms, dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    keep_measured(store, index, measured)
    return measured


def search(index: FaceIndex) -> TextClause:
    """The statement that an index answers, for `probe` and `k`; :func:`use_index` comes before it."""
    return text(
        _SEARCH.replace("{constituent}", f"{index.constituent_id:d}").replace("{dimension}", f"{index.dimension:d}")
    )


def use_index(connection: Connection, ef: int) -> None:
    """Have the rest of a transaction search by the index, looking at `ef` candidates."""
    connection.exec_driver_sql(USE_INDEX.format(ef=f"{ef:d}"))


def _timed(connection: Connection, statement: TextClause, asked: dict[str, Any]) -> tuple[Sequence[Row[Any]], float]:
    began = time.perf_counter()
    rows = connection.execute(statement, asked).all()
    return rows, time.perf_counter() - began


def _others(rows: Sequence[Row[Any]], clip: int, k: int) -> list[float]:
    """Distances of the first k faces that are not the probe itself."""
    return [row.distance for row in rows if row.clip_id != clip][:k]


def _check_measurement(ef: int, probes: int) -> None:
    _check_ef(ef, NEAREST + 1)
    if probes < 1:
        raise ConfigError(f"{probes} probes", hint="give at least 1")


def _check_ef(ef: int, k: int) -> None:
    if not 1 <= k <= ef <= MOST_EF:
        raise ConfigError(f"{k} faces of {ef} candidates", hint=f"give an ef from {max(k, 1)} to {MOST_EF}")
