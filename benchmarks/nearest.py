"""Nearest real faces of generated ones: every way there is, exact and approximate, in one run.

    python benchmarks/nearest.py [--size N] [--sql-probes N] [--hnsw-probes N] [--threads N] [--out FILE]

N probes are searched in N faces of 512 numbers (36,237 and 36,237: every clip of VoxCeleb2's test split), in a store of
its own on an embedded PostgreSQL. Vectors are made: 118 people, faces around each, of length 1. Ways:

- plain SQL: the statement of `slf_store.evaluation.matching`, on some of the probes; for all it is projected;
- slf: what `slf evaluate` does at this size: a matrix product proposes, PostgreSQL decides; equal to plain SQL;
- numpy: a matrix product and argpartition, float32, no promise about ties or rounding;
- FAISS flat and FAISS HNSW, where the module can be imported (`pip install faiss-cpu==1.15.1`);
- pgvector's HNSW index.

Recall is the share of the ten nearest that an index finds: the mean over probes, and the worst one. Every library has
`--threads` threads; PostgreSQL has one process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DIMENSION = 512
PEOPLE = 118
SPREAD = 1.2
"""Length of what separates two faces of one person, in lengths of what separates two people."""
K = 10
EF = (16, 64, 256)
"""Breadths of an HNSW search."""
M = 16
"""Links of an HNSW graph (pgvector's default)."""

FILL = """
    -- Everything but vectors: people, one video and some clips of each; one snapshot of all; a run that made a face of
    -- every clip.
    INSERT INTO source (name, root, layout) VALUES ('made', '/made', 'voxceleb2');
    INSERT INTO place (source_id, split) SELECT id, 'test' FROM source;
    INSERT INTO identity (source_id, name) SELECT source.id, 'id' || n FROM source, generate_series(1, {people}) n;
    INSERT INTO video (identity_id, split, name) SELECT id, 'test', 'v' FROM identity;
    INSERT INTO clip (video_id, name, path, state, file_bytes, file_mtime_ns, place_id)
    SELECT video.id, lpad(n::text, 6, '0'), 'x', 'ok', 1, 1, place.id
    FROM generate_series(0, {size} - 1) n JOIN video ON video.id = mod(n, {people}) + (SELECT min(id) FROM video), place
    ORDER BY n;
    INSERT INTO snapshot (name, hash, predicate, layout, blocks, missing, seed, clips, normalisation)
    VALUES ('test', 'made', 'true', 'none', '[]', 'skip', 0, {size}, '{{}}');
    INSERT INTO snapshot_clip (snapshot_id, position, clip_id, part)
    SELECT snapshot.id, row_number() OVER (ORDER BY clip.id) - 1, clip.id, 'train' FROM clip, snapshot;
    INSERT INTO run (name, snapshot_id, system, preset, config, seed, inputs, guide)
    SELECT 'made', id, 'full-input', 'none', '{{}}', 0, '{{}}', true FROM snapshot;
    INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path)
    SELECT run.id, clip.id, 'diffusion', 1, 0, 0, 1, 'none' FROM run, clip ORDER BY clip.id;
    INSERT INTO evaluation (run_id, gallery_id, system, scale, seed, constituent_id, checkpoint_samples, probes,
                            gallery_faces, undetected)
    SELECT run.id, snapshot_id, 'full-input', 1, 0, {embedding}, 1, {size}, {size}, 0 FROM run;
"""


def measure(given: argparse.Namespace, home: Path) -> dict[str, Any]:
    import numpy as np

    from slf_store.settings import Settings
    from slf_store.store import Store

    real, generated, whose = make_vectors(given.size)
    told: dict[str, Any] = {
        "size": given.size, "dimension": DIMENSION, "threads": given.threads, "load": os.getloadavg()[0],
        "pairs": given.size**2,
    }  # fmt: skip
    with Store.create(settings=Settings(home=home), tethered=True) as store:
        with timed(told, "fill the store, s"):
            gallery, probes = fill(store, real, generated, whose)
        exact = in_postgresql(store, gallery, probes, given, told)
        told["plain SQL equals slf on"] = f"{min(given.sql_probes, given.size)} probes"
        with timed(told, "numpy, s"):
            found = by_numpy(real, generated)
        told["numpy: recall"] = recall(found, exact)
        by_faiss(real, generated, exact, told)
        by_index(store, gallery, np.random.default_rng(1).permutation(given.size)[: given.hnsw_probes], exact, told)
    told["load after"] = os.getloadavg()[0]
    return told


def make_vectors(size: int) -> tuple[Any, Any, Any]:
    """Real faces, generated faces, and whose they are: (n, 512) float32 of length 1, twice, and (n,) people."""
    import numpy as np

    generator = np.random.default_rng(0)
    people = generator.normal(size=(PEOPLE, DIMENSION)).astype(np.float32)
    whose = np.arange(size) % PEOPLE

    def faces() -> Any:
        made = people[whose] + np.float32(SPREAD) * generator.normal(size=(size, DIMENSION)).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    return faces(), faces(), whose


def fill(store: Any, real: Any, generated: Any, whose: Any) -> tuple[Any, Any]:
    """A store of these faces: its gallery and its probes."""
    import numpy as np
    from sqlalchemy import text

    from slf_store.constituents.spec import ConstituentSpec
    from slf_store.db.staging import copy_rows
    from slf_store.evaluation.embedding import EmbeddingModel
    from slf_store.evaluation.gallery import Gallery
    from slf_store.evaluation.probes import Probes
    from slf_store.jobs.constituents import register

    spec = ConstituentSpec("face_made", "embedding", (DIMENSION,), "float32", "embedding", "section 4", 1)
    with store.engine.begin() as connection:
        embedding = register(connection, [spec])["face_made"]
        statements = FILL.format(people=PEOPLE, size=len(real), embedding=embedding)
        connection.exec_driver_sql(statements)
        clips = np.array(connection.execute(text("SELECT id FROM clip ORDER BY name")).scalars().all())
        made = {row.clip_id: row.id for row in connection.execute(text("SELECT clip_id, id FROM generation"))}
        generations = np.array([made[clip] for clip in clips.tolist()])
        identities = np.array(
            connection.execute(
                text("SELECT identity_id FROM clip JOIN video ON video.id = video_id ORDER BY clip.name")
            )
            .scalars()
            .all()
        )
        columns = [("key", "int8"), ("vector", "vector")]
        copy_rows(connection, "real", columns, zip(clips.tolist(), real, strict=True))
        connection.exec_driver_sql(
            f"INSERT INTO face_embedding (constituent_id, clip_id, vector) SELECT {embedding}, key, vector FROM real"
        )
        copy_rows(connection, "made", columns, zip(generations.tolist(), generated, strict=True))
        connection.exec_driver_sql(f"INSERT INTO generation_embedding SELECT key, {embedding}, vector FROM made")
        snapshot = int(connection.execute(text("SELECT id FROM snapshot")).scalar_one())
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    model = EmbeddingModel(embedding, "face_made", "none", "none")
    gallery = Gallery(snapshot, "test", "all", model, clips, identities)
    return gallery, Probes("full-input", 1.0, 0, 0, 1, clips, identities, generations)


def in_postgresql(store: Any, gallery: Any, probes: Any, given: argparse.Namespace, told: dict[str, Any]) -> Any:
    """The two exact ways; (n, 10) indices of the nearest faces."""
    import numpy as np
    from sqlalchemy import text

    from slf_store.evaluation import matching
    from slf_store.evaluation.probes import Probes

    some = Probes("full-input", 1.0, 0, 0, 1, *(x[: given.sql_probes] for x in
                  (probes.clips, probes.identities, probes.generations)))  # fmt: skip
    stored = text("SELECT probe_clip_id, rank, gallery_clip_id, distance FROM match ORDER BY 1, 2")
    with store.engine.begin() as connection:
        evaluation = int(connection.execute(text("SELECT id FROM evaluation")).scalar_one())
        large, matching.LARGE = matching.LARGE, sys.maxsize
        with timed(told, f"plain SQL, {len(some)} probes, s"):
            matching.match(connection, evaluation, gallery, some, "euclidean")
        matching.LARGE = large
        seconds = told[f"plain SQL, {len(some)} probes, s"]
        told["plain SQL, us per pair"] = round(1e6 * seconds / (len(some) * gallery.faces), 4)
        told["plain SQL, s (projected)"] = round(seconds * given.size / len(some), 1)
        plain = connection.execute(stored).all()
        connection.execute(text("DELETE FROM match"))
        settle = matching._match_proposed

        def counted(*asked: Any) -> Any:
            left = settle(*asked)
            told["slf: probes left to plain SQL"] = int(left.sum())
            return left

        matching._match_proposed = counted
        matching.LARGE = 1
        with timed(told, "slf, s"):
            matching.match(connection, evaluation, gallery, probes, "euclidean")
        rows = connection.execute(stored).all()
    known = {row[:2]: row for row in rows}
    assert all(known[row[:2]] == row for row in plain), "slf and plain SQL differ"
    at = np.searchsorted(gallery.clips, np.array([row[2] for row in rows]))
    return at.reshape(-1, K)


def by_numpy(real: Any, generated: Any) -> Any:
    import numpy as np

    lengths = (real.astype(np.float64) ** 2).sum(axis=1).astype(np.float32) / 2
    found = np.empty((len(generated), K), np.int64)
    for start in range(0, len(generated), 512):
        near = lengths - generated[start : start + 512] @ real.T
        first = np.argpartition(near, K, axis=1)[:, :K]
        order = np.take_along_axis(near, first, axis=1).argsort(axis=1)
        found[start : start + 512] = np.take_along_axis(first, order, axis=1)
    return found


def by_faiss(real: Any, generated: Any, exact: Any, told: dict[str, Any]) -> None:
    """FAISS, where it is there."""
    try:
        import faiss
    except ImportError:
        told["FAISS"] = "not installed"
        return
    faiss.omp_set_num_threads(told["threads"])
    told["FAISS"] = faiss.__version__
    flat = faiss.IndexFlatL2(DIMENSION)
    flat.add(real)
    with timed(told, "FAISS flat, s"):
        _, found = flat.search(generated, K)
    told["FAISS flat: recall"] = recall(found, exact)
    graph = faiss.IndexHNSWFlat(DIMENSION, M)
    with timed(told, "FAISS HNSW: build, s"):
        graph.add(real)
    for ef in EF:
        graph.hnsw.efSearch = ef
        with timed(told, f"FAISS HNSW, ef {ef}: search, s"):
            _, found = graph.search(generated, K)
        told[f"FAISS HNSW, ef {ef}: recall"] = recall(found, exact)


def by_index(store: Any, gallery: Any, chosen: Any, exact: Any, told: dict[str, Any]) -> None:
    """pgvector's HNSW: built on the partition of the embedding model, asked probe by probe inside PostgreSQL."""
    import numpy as np
    from sqlalchemy import text

    key = gallery.embedding.constituent_id
    ask = text(f"""
        -- The index is used because the query orders by the very expression it is built on.
        SELECT asked.clip_id, array_agg(near.clip_id ORDER BY near.distance, near.clip_id) AS found
        FROM generation asked
        JOIN generation_embedding embedded ON embedded.generation_id = asked.id AND embedded.constituent_id = {key}
        CROSS JOIN LATERAL (
            SELECT face.clip_id, face.vector::vector({DIMENSION}) <-> embedded.vector::vector({DIMENSION}) AS distance
            FROM face_embedding_{key} face
            ORDER BY face.vector::vector({DIMENSION}) <-> embedded.vector::vector({DIMENSION}) LIMIT {K}
        ) near
        WHERE asked.clip_id = ANY(CAST(:clips AS bigint[])) GROUP BY asked.clip_id ORDER BY asked.clip_id
    """)
    build = f"CREATE INDEX made_hnsw ON face_embedding_{key} USING hnsw ((vector::vector({DIMENSION})) vector_l2_ops)"
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 0")
        with timed(told, "pgvector HNSW: build, s"):
            connection.exec_driver_sql(build)
        connection.exec_driver_sql("SET enable_seqscan = off")
        clips = np.sort(gallery.clips[chosen])
        for ef in EF:
            connection.exec_driver_sql(f"SET hnsw.ef_search = {ef}")
            with timed(told, f"pgvector HNSW, ef {ef}: {len(clips)} probes, s"):
                rows = connection.execute(ask, {"clips": clips.tolist()}).all()
            found = np.searchsorted(gallery.clips, np.array([row.found for row in rows]))
            told[f"pgvector HNSW, ef {ef}: recall"] = recall(found, exact[np.searchsorted(gallery.clips, clips)])
            seconds = told[f"pgvector HNSW, ef {ef}: {len(clips)} probes, s"]
            told[f"pgvector HNSW, ef {ef}, s (projected)"] = round(seconds * len(exact) / len(clips), 1)


def recall(found: Any, exact: Any) -> dict[str, float]:
    """Share of the ten nearest that were found: mean and worst probe, and the share of probes with all ten."""
    shares = [len(set(one) & set(other)) / K for one, other in zip(found.tolist(), exact.tolist(), strict=True)]
    return {
        "mean": round(sum(shares) / len(shares), 5),
        "worst": min(shares),
        "all ten": round(sum(share == 1 for share in shares) / len(shares), 5),
    }


@contextmanager
def timed(told: dict[str, Any], name: str) -> Any:
    began = time.perf_counter()
    yield
    told[name] = round(time.perf_counter() - began, 2)
    print(f"{name:<48}{told[name]:>10}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=36_237, help="probes, and faces")
    parser.add_argument("--sql-probes", type=int, default=500, help="probes searched by plain SQL")
    parser.add_argument("--hnsw-probes", type=int, default=1000, help="probes searched by pgvector's HNSW")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON to write, beside printing it")
    given = parser.parse_args(arguments)
    os.environ.update(dict.fromkeys(THREADS, str(given.threads)))
    home = Path(tempfile.mkdtemp(prefix="slf-nearest-"))
    try:
        told = measure(given, home)
    finally:
        stop(home)
    lines = json.dumps(told, indent=1)
    print(lines)
    if given.out:
        given.out.write_text(lines + "\n", "utf-8")


def stop(home: Path) -> None:
    from slf_store.db.embedded import EmbeddedServer

    server: Callable[[], Any] = EmbeddedServer(home).stop
    server()
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
