"""HNSW indexes over real faces, for looking around in very large stores. No evaluation uses them.

An index is built on `vector::vector(d)`, an expression that only :mod:`slf_store.evaluation.approximate` orders by, so
the planner cannot pick it for any exact statement. What was measured of it is kept as its comment, which goes where it
goes: into a backup, and away with it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from psycopg.errors import DiskFull
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from slf_store.db.memory import LEND, MOST_KB
from slf_store.errors import ConfigError, DatabaseError, NotFoundInStore
from slf_store.evaluation.embedding import constituent_name
from slf_store.query.values import active_constituent

if TYPE_CHECKING:
    from slf_store.store import Store

MOST_DIMENSIONS = 2_000
"""Numbers of a vector that pgvector's HNSW takes."""
M, EF_CONSTRUCTION = 16, 64
"""pgvector's defaults: links of a face in the graph, and candidates looked at for each face that is added."""
NODE_BYTES, LINK_BYTES = 210, 32
"""A face in pgvector's graph while it is built: these, its links, and 4 bytes a number (measured, pgvector 0.8.6)."""
SPARE_KB = 8 << 10
"""Beside the graph, for what the processes of a build share."""
POLL_S = 1.0

Progress = Callable[[int, int], None]

LIST = text("""
    -- The indexes this program made, of one constituent version or of all; what was measured is their comment.
    SELECT constituent.id AS constituent_id, constituent.name AS model, constituent.version,
           constituent.shape[1] AS dimension, settings.m, settings.ef_construction,
           (SELECT count(*) FROM face_embedding face WHERE face.constituent_id = constituent.id) AS faces,
           pg_relation_size(made.oid) AS bytes, obj_description(made.oid, 'pg_class') AS measured
    FROM constituent
    JOIN pg_class made ON made.oid = to_regclass(format('face_embedding_%s_hnsw', constituent.id))
    CROSS JOIN LATERAL (
        SELECT max(option_value::int) FILTER (WHERE option_name = 'm') AS m,
               max(option_value::int) FILTER (WHERE option_name = 'ef_construction') AS ef_construction
        FROM pg_options_to_table(made.reloptions)
    ) settings
    WHERE CAST(:constituent AS bigint) IS NULL OR constituent.id = :constituent
    ORDER BY constituent.name, constituent.created_at, constituent.id
""")
FACES = text("SELECT count(*) FROM face_embedding WHERE constituent_id = :constituent")
OWNED = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(:partition)")
PLACED = text("""
    -- Faces in the graph so far.
    SELECT max(tuples_done) FROM pg_stat_progress_create_index WHERE relid = to_regclass(:partition)
""")
COMMENT = text("SELECT format('COMMENT ON INDEX %I IS %L', CAST(:name AS text), CAST(:said AS text))")


@dataclass(frozen=True)
class Measured:
    """How well an index finds the nearest of a sample of the store's own faces, against the exact search.

    Attributes:
        ef: candidates that each search looked at.
        k: nearest other faces asked for.
        probes: faces searched with.
        faces: in the store then.
        recall: mean over the probes of the share of the k that was found.
        worst: the smallest share of a probe.
        all_found: share of the probes with all k.
        itself: share of the probes that found themselves: one that does not is far from all others, and lost.
        exact_ms, approximate_ms: median time of a search, both ways.
        at: when, ISO 8601.
    """

    ef: int
    k: int
    probes: int
    faces: int
    recall: float
    worst: float
    all_found: float
    itself: float
    exact_ms: float
    approximate_ms: float
    at: str


@dataclass(frozen=True)
class FaceIndex:
    """An index over the faces of one version of one embedding model.

    Attributes:
        model, version, constituent_id, dimension: of the face embedding constituent.
        m, ef_construction: it was built with.
        faces: in the store now.
        bytes: its size.
        measured: by ef.
    """

    model: str
    version: str
    constituent_id: int
    dimension: int
    m: int
    ef_construction: int
    faces: int
    bytes: int
    measured: tuple[Measured, ...]

    def measured_at(self, ef: int) -> Measured:
        """What was measured at this ef, else at the next smaller: looking at more candidates finds no fewer.

        Raises:
            NotFoundInStore: nothing was.
        """
        found = [measured for measured in self.measured if measured.ef <= ef]
        if not found:
            raise NotFoundInStore(
                f"the index of {self.model} has not been measured at ef {ef} or less: nobody knows what it finds",
                hint=f"run `slf index measure {self.model} --ef {ef}`",
            )
        return found[-1]

    def rows(self) -> list[dict[str, Any]]:
        """One for each measurement, as they are listed; one without numbers where there is none."""
        own = {name: value for name, value in vars(self).items() if name not in ("measured", "constituent_id")}
        names = list(Measured.__dataclass_fields__)
        return [
            own | {f"measured_{name}" if name in ("faces", "at") else name: said.get(name) for name in names}
            for said in map(asdict, self.measured)
        ] or [own | dict.fromkeys(("ef", "recall", "worst", "all_found", "itself"))]


def list_indexes(store: Store) -> list[FaceIndex]:
    """Every index there is."""
    with store.engine.connect() as connection:
        return _read(connection, None)


def find_index(store: Store, model: str | None = None) -> FaceIndex:
    """The index of a face embedding.

    Args:
        store: open store.
        model: as :func:`slf_store.evaluation.embedding.embedding_model`.

    Raises:
        NotFoundInStore: no real face is embedded with it, or there is no index.
    """
    with store.engine.connect() as connection:
        wanted = active_constituent(connection, constituent_name(store, model))
        found = _read(connection, wanted["id"])
    if not found:
        raise NotFoundInStore(
            f"the faces of {wanted['name']} have no index", hint=f"build it: `slf index build {wanted['name']}`"
        )
    return found[0]


def create_index(
    store: Store,
    model: str | None = None,
    *,
    m: int = M,
    ef_construction: int = EF_CONSTRUCTION,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Build the index of a face embedding: all of it, or nothing. Whoever writes faces of that model waits meanwhile.

    Args:
        store: open store, as the owner of its tables.
        model: as :func:`slf_store.evaluation.embedding.embedding_model`.
        m: links of a face, 2 to 100.
        ef_construction: candidates for each, 2·m to 1000.
        workers: processes of PostgreSQL, at most.
        progress: told (done, total) of the faces placed.

    Raises:
        ConfigError: settings out of range, vectors of more than 2,000 numbers, or there is an index already.
        NotFoundInStore: fewer than two real faces are embedded with the model.
        DatabaseError: not the owner, or not enough shared memory or disk.
    """
    if not (2 <= m <= 100 and 2 * m <= ef_construction <= 1000):
        raise ConfigError(
            f"an index with m {m}, ef_construction {ef_construction}",
            hint="give 2 to 100 for m, and twice m to 1000 for ef_construction",
        )
    with store.engine.connect() as connection:
        wanted = active_constituent(connection, constituent_name(store, model))
        key, name, shape = int(wanted["id"]), wanted["name"], wanted["shape"]
        if wanted["kind"] != "embedding":
            raise ConfigError(f"{name} is no face embedding", hint="see `slf constituents` for kinds")
        (dimension,) = shape
        if dimension > MOST_DIMENSIONS:
            raise ConfigError(
                f"a face of {name} has {dimension} numbers, and an HNSW index of pgvector takes {MOST_DIMENSIONS}",
                hint="search exactly, without --approximate, or with another model",
            )
        _require_owner(store, connection, key)
        for there in _read(connection, key):
            raise ConfigError(
                f"the faces of {name} have an index: m {there.m}, ef_construction {there.ef_construction}",
                hint=f"measure it: `slf index measure {name}`; or drop it first: `slf index drop {name}`",
            )
        faces = connection.execute(FACES, {"constituent": key}).scalar_one()
    require_faces(name, faces)
    graph_kb = faces * (NODE_BYTES + LINK_BYTES * m + 4 * dimension) // 1024
    memory = {"kilobytes": min(graph_kb + SPARE_KB, MOST_KB), "until_commit": True}
    try:
        with _watched(store, key, faces, progress), store.engine.begin() as connection:
            connection.execute(LEND, memory)
            connection.exec_driver_sql(f"SET LOCAL max_parallel_maintenance_workers = {max(0, workers - 1):d}")
            connection.exec_driver_sql(
                f"CREATE INDEX {_index(key)} ON {_partition(key)} USING hnsw ((vector::vector({dimension:d}))"
                f" vector_l2_ops) WITH (m = {m:d}, ef_construction = {ef_construction:d})"
            )
    except OperationalError as error:
        if not isinstance(error.orig, DiskFull):
            raise
        raise DatabaseError(
            f"the index of {name} cannot be built: {error.orig.diag.message_primary}",
            hint="give PostgreSQL more shared memory (of a container: --shm-size) or disk, or build with --workers 1",
        ) from None


def drop_index(store: Store, model: str | None = None) -> FaceIndex:
    """Drop the index of a face embedding; nothing else changes.

    Raises:
        NotFoundInStore: there is none.
        DatabaseError: not the owner.
    """
    found = find_index(store, model)
    with store.engine.begin() as connection:
        _require_owner(store, connection, found.constituent_id)
        connection.exec_driver_sql(f"DROP INDEX {_index(found.constituent_id)}")
    return found


def keep_measured(store: Store, index: FaceIndex, measured: Measured) -> None:
    """Write a measurement beside those at other ef, in place of one at the same."""
    kept = {said.ef: asdict(said) for said in (*index.measured, measured)}
    said = json.dumps([kept[ef] for ef in sorted(kept)])
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            connection.execute(COMMENT, {"name": _index(index.constituent_id), "said": said}).scalar_one()
        )


def require_owner(store: Store, index: FaceIndex) -> None:
    """Refuse whoever may not write what is measured.

    Raises:
        DatabaseError: not the owner.
    """
    with store.engine.connect() as connection:
        _require_owner(store, connection, index.constituent_id)


def require_faces(model: str, faces: int) -> None:
    """Refuse a store in which no face has another one.

    Raises:
        NotFoundInStore: fewer than two real faces.
    """
    if faces < 2:
        raise NotFoundInStore(f"real faces with an embedding of {model}: {faces}", hint="run `slf extract` first")


def _read(connection: Connection, constituent: int | None) -> list[FaceIndex]:
    rows = connection.execute(LIST, {"constituent": constituent}).mappings()
    said = ((row, json.loads(row["measured"] or "[]")) for row in rows)
    return [FaceIndex(**{**row, "measured": tuple(Measured(**one) for one in measured)}) for row, measured in said]


def _require_owner(store: Store, connection: Connection, key: int) -> None:
    if not connection.execute(OWNED, {"partition": _partition(key)}).scalar_one():
        raise DatabaseError(
            f"an index belongs to the owner of the table {_partition(key)}, and {store.engine.url.username} is not",
            hint="run it as the login that the store was made with (SLF_DATABASE_URL)",
        )


def _partition(key: int) -> str:
    return f"face_embedding_{key:d}"


def _index(key: int) -> str:
    return f"face_embedding_{key:d}_hnsw"


@contextmanager
def _watched(store: Store, key: int, faces: int, progress: Progress | None) -> Iterator[None]:
    """Tell how far the build is that runs inside the block, from a thread of its own."""
    if progress is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        with suppress(DBAPIError), store.engine.connect() as connection:
            while not done.wait(POLL_S):
                placed = connection.execute(PLACED, {"partition": _partition(key)}).scalar_one()
                connection.rollback()
                progress(min(placed or 0, faces), faces)

    thread = threading.Thread(target=watch, name="slf-index", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
