"""How a store keeps up with a catalogue of VoxCeleb2's size: registering, scanning again, claiming, asking.

    python benchmarks/catalogue.py [--clips N] [--meta-dir DIR] [--files N] [--home DIR] [--explain FILE] [--full-only]

There is no media: probing is replaced by made-up facts, and so is looking at files (size and time) in the second scan.
Everything below is the code `slf ingest`, `slf extract` and `slf coverage` run, on an embedded PostgreSQL with its
usual settings, fsync included. `--files` adds walking and looking at a real tree of so many empty files.

Twelve constituents are queued for every clip. Chunks of 16 clips are committed, with and without the triggers that
keep counts; what they sealed is verified, and the person it belongs to is erased. To see a queue half empty, its first
half is finished by plain UPDATEs (1 % of it failed), then all but the last 200 clips; tables are vacuumed after each,
as autovacuum does in time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import sql
from sqlalchemy import text

from slf_store.constituents.spec import ConstituentSpec
from slf_store.dataset.synthetic.catalogue import DEV_CLIPS, TEST_CLIPS, make_catalogue
from slf_store.dataset.voxceleb2 import walk
from slf_store.db.embedded import EmbeddedServer
from slf_store.jobs import counts, queue
from slf_store.jobs import sql_ingest as statements
from slf_store.jobs.commit import Outcome, commit_chunk
from slf_store.jobs.constituents import list_constituents, register
from slf_store.jobs.coverage import REASONS, SUMMARY
from slf_store.jobs.ingest import BATCH, register_source
from slf_store.jobs.register import Writer, register_metadata
from slf_store.jobs.scan import compare, look_at, mark
from slf_store.jobs.verify import verify
from slf_store.privacy.forget import forget
from slf_store.privacy.plan import plan
from slf_store.privacy.target import Target
from slf_store.settings import Settings
from slf_store.store import Store

CONSTITUENTS = 12
LEFT = 200
"""Clips left in a queue that is nearly empty."""
CLAIMS = 100
COMMITS = 30
QUERIES = {
    "coverage summary": SUMMARY,
    "coverage reasons": REASONS,
    "coverage of one identity": """
        SELECT constituent, state, reason, count(*) FROM coverage
        WHERE identity = (SELECT name FROM identity ORDER BY id OFFSET 50 LIMIT 1)
        GROUP BY constituent, state, reason""",
    "clips: count by split": "SELECT split, count(*) FROM clips GROUP BY split",
    "clips: gender": "SELECT count(*) FROM clips WHERE gender = 'f'",
    "clips: split and duration": "SELECT count(*) FROM clips WHERE split = 'dev' AND duration_s >= 5",
    "clips: gender, split, duration": """
        SELECT count(*) FROM clips WHERE gender = 'f' AND split = 'dev' AND duration_s >= 5""",
    "clips: the first 100": "SELECT * FROM clips ORDER BY clip_id LIMIT 100",
    "clips of one identity": """
        SELECT * FROM clips WHERE identity = (SELECT name FROM identity ORDER BY id OFFSET 50 LIMIT 1)""",
}
"""Statements that are timed; the goal is a second each."""
RECOUNT = text("""
    INSERT INTO extraction_count (constituent_id, place_id, state, error_code, clips, timed, seconds)
    SELECT constituent_id, place_id, state, error_code, count(*), count(seconds), coalesce(sum(seconds), 0)
    FROM extraction GROUP BY constituent_id, place_id, state, error_code
""")

Figures = dict[str, Any]


class Timings:
    """What was measured, in the order it was."""

    def __init__(self, quiet: bool) -> None:
        self.figures: Figures = {}
        self.quiet = quiet

    def note(self, name: str, value: float) -> None:
        self.figures[name] = round(value, 3) if isinstance(value, float) else value
        if not self.quiet:
            print(
                f"{name:<52}{self.figures[name]:>14,}" if not isinstance(value, str) else f"{name}: {value}", flush=True
            )

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.note(f"{name}, s", time.perf_counter() - start)


def run(
    store: Store, clips: int, meta_folder: Path | None, timings: Timings, explain: Path | None, *, full_only: bool
) -> None:
    """All measurements but that of real files."""
    test = round(clips * TEST_CLIPS / (DEV_CLIPS + TEST_CLIPS))
    catalogue = make_catalogue(clips - test, test, meta_folder=meta_folder)
    files = list(catalogue.files())
    rows = {
        file.path: (file.identity, file.split, file.video, file.clip, file.path, "ok", None, None, *fact, *[None] * 4)
        for file, fact in zip(files, catalogue.facts(len(files)), strict=True)
    }
    timings.note("clips", len(files))
    timings.note("identities", len({file.identity for file in files}))
    timings.note("videos", len({(file.identity, file.video) for file in files}))
    at_size, at_time = (statements.SCANNED_COLUMNS.index((name, "int8")) for name in ("file_bytes", "file_mtime_ns"))

    looks = {path: (row[at_size], row[at_time], None, None) for path, row in rows.items()}
    with timings.timed("bare COPY of the same rows"):
        bare_copy(store, list(rows.values()))
    with store.engine.begin() as connection:
        source = register_source(connection, Path("/voxceleb2"), "voxceleb2", "voxceleb2")["id"]
        connection.execute(statements.NEW_PLACES, {"source_id": source, "splits": ["dev", "test"]})

    def scan() -> int:
        """As `slf ingest` does; the number of clips that were new."""
        new = 0
        with Writer(store.engine, source) as writer:
            for difference in compare(store.engine, source, files, lambda file: looks[file.path], BATCH):
                mark(store.engine, difference)
                todo = difference.new + difference.changed
                for start in range(0, len(todo), BATCH):
                    writer.add([rows[f.path] for f in todo[start : start + BATCH]])
                new += len(todo)
        return new

    with timings.timed("registration"):
        assert scan() == len(files)
    with timings.timed("metadata of all identities"):
        register_metadata(store.engine, source, catalogue.meta)
    vacuum(store, "clip", "video", "identity", "attribute")
    with timings.timed("scan without changes"):
        assert scan() == 0
    found = timings.figures
    timings.note("registration, clips/s", round(len(files) / found["registration, s"]))
    timings.note("registration / bare COPY", found["registration, s"] / found["bare COPY of the same rows, s"])
    timings.note("second scan / first", found["scan without changes, s"] / found["registration, s"])

    with store.engine.begin() as connection:
        keys = list(register(connection, [spec(n) for n in range(CONSTITUENTS)]).values())
    with timings.timed(f"queue {CONSTITUENTS} constituents"):
        enqueue(store, keys)
    vacuum(store, "extraction")
    with timings.timed("queue again, nothing new"):
        enqueue(store, keys)
    claims(store, keys, "full", timings)
    asked(store, timings, explain)
    commits(store, keys, timings)
    cared_for(store, timings)
    if full_only:
        sizes(store, timings)
        return
    last = store.query("SELECT max(id) AS id FROM clip")[0]["id"]
    for state, upto in (("half empty", last - len(files) // 2), ("nearly empty", last - LEFT)):
        with timings.timed(f"(finishing clips by UPDATE, until the queue is {state})"):
            finish(store, keys, upto)
        vacuum(store, "extraction")
        claims(store, keys, state, timings)
        asked(store, timings, None)
    sizes(store, timings)


def bare_copy(store: Store, rows: list[tuple[Any, ...]]) -> None:
    """The same rows into a plain table, logged as usual, without an index."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in statements.SCANNED_COLUMNS
    )
    connection = store.engine.raw_connection()
    try:
        driver = connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE TABLE bare ({})").format(columns))
        connection.commit()  # rows of a table that is new in their transaction would not be logged
        with driver.cursor() as cursor, cursor.copy("COPY bare FROM STDIN (FORMAT BINARY)") as stream:
            stream.set_types([kind for _, kind in statements.SCANNED_COLUMNS])
            for row in rows:
                stream.write_row(row)
        connection.commit()
        with driver.cursor() as cursor:
            cursor.execute("DROP TABLE bare")
        connection.commit()
    finally:
        connection.close()


def spec(number: int) -> ConstituentSpec:
    """A constituent that nobody extracts."""
    return ConstituentSpec(
        name=f"made_up_{number:02d}", kind="array", shape=(1, 192), dtype="float16", unit="", paper="", code_version=1
    )


def enqueue(store: Store, keys: list[int]) -> None:
    """As `slf extract` does when it starts, without counting."""
    queue.add_missing(store.engine, keys)
    counts.fold(store.engine)


def claims(store: Store, keys: list[int], state: str, timings: Timings) -> None:
    """Claim chunks of 16 clips and give them back."""
    with timings.timed(f"count open clips, queue {state}"):
        opened = queue.count_open(store.engine, keys)
    timings.note(f"open clips, queue {state}", opened)
    took = []
    for number in range(min(CLAIMS, opened // 16)):
        start = time.perf_counter()
        claimed = queue.claim(store.engine, keys, clips=16, owner=f"benchmark {number}", lease_s=600)
        took.append(1000 * (time.perf_counter() - start))
        assert len(claimed) == 16
        assert len(claimed[0].constituents) == len(keys)
    timings.note(f"claim 16 clips, queue {state}: median, ms", statistics.median(took))
    timings.note(f"claim 16 clips, queue {state}: slowest, ms", max(took))
    for number in range(len(took)):
        queue.release(store.engine, f"benchmark {number}")


def commits(store: Store, keys: list[int], timings: Timings) -> None:
    """Seal and commit chunks of 16 clips, as the tables are and without the triggers that keep counts."""
    specs = {key: spec(number) for number, key in enumerate(keys)}
    value = np.random.default_rng(0).standard_normal((1, 192)).astype(np.float16)
    for triggers in ("DISABLE", "ENABLE"):
        with store.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE extraction {triggers} TRIGGER USER"))
        took = []
        for number in range(COMMITS):
            owner = f"commit {triggers} {number}"
            chunk = queue.claim(store.engine, keys, clips=16, owner=owner, lease_s=600)
            outcomes = [Outcome(clip.clip_id, value, 0.05) for clip in chunk]
            start = time.perf_counter()
            commit_chunk(store, owner, {key: (made_up, outcomes) for key, made_up in specs.items()})
            took.append(1000 * (time.perf_counter() - start))
        if triggers == "DISABLE":
            with store.engine.begin() as connection:
                connection.execute(text("TRUNCATE extraction_count"))
                connection.execute(RECOUNT)
        kept = "counts kept" if triggers == "ENABLE" else "no counts kept"
        timings.note(f"commit 16 clips x {len(keys)} shards, {kept}: median, ms", statistics.median(took))


def cared_for(store: Store, timings: Timings) -> None:
    """Verify what was committed, and erase the person it belongs to."""
    with timings.timed(f"verify {2 * COMMITS * CONSTITUENTS} shards"):
        found = verify(store).findings
        assert found == [], found[:3]
    person = store.query("SELECT identity FROM clips ORDER BY clip_id LIMIT 1")[0]["identity"]
    with timings.timed("forget: what would go"):
        found = plan(store, Target(person)).as_dict()
    timings.note("clips of that person", found["clips"])
    with timings.timed("forget one person, tables rewritten"):
        forget(store, Target(person))


def finish(store: Store, keys: list[int], upto: int) -> None:
    """Finish everything open up to a clip, two constituents at a time."""
    done = text("""
        UPDATE extraction
        SET state = CASE WHEN clip_id % 100 = 0 THEN 'failed' ELSE 'done' END,
            error_code = CASE WHEN clip_id % 100 = 0 THEN 'no_face' END,
            error_message = CASE WHEN clip_id % 100 = 0 THEN 'no face in frames 1, 2, 3' END,
            shard_row = clip_id % 16, seconds = 0.05, value_hash = clip_id * 7919, value_min = -1, value_mean = 0,
            value_max = 1, value_rms = 0.5, value_rows = 1, zero_rows = 0, finished_at = now(),
            lease_owner = NULL, lease_expires_at = NULL
        WHERE constituent_id = :key AND clip_id <= :upto AND state IN ('pending', 'leased')
    """)

    def one(key: int) -> None:
        with store.engine.begin() as connection:
            connection.execute(done, {"key": key, "upto": upto})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, keys))
    counts.fold(store.engine)


def asked(store: Store, timings: Timings, explain: Path | None) -> None:
    """Time each statement: the fastest of three."""
    plans = []
    todo: dict[str, Callable[[], object]] = {
        name: (lambda statement=statement: store.query(statement, source=None) if ":source" in statement
               else store.query(statement))
        for name, statement in QUERIES.items()
    }  # fmt: skip
    todo["slf constituents"] = lambda: list_constituents(store)
    for name, ask in todo.items():
        took = []
        for _ in range(3):
            start = time.perf_counter()
            ask()
            took.append(time.perf_counter() - start)
        timings.note(f"{name}, s", min(took))
    if explain is not None:
        values = {"source": None}
        for name, statement in QUERIES.items():
            found = store.query("EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) " + statement,
                                **(values if ":source" in statement else {}))  # fmt: skip
            plans.append(f"== {name}\n" + "\n".join(row["QUERY PLAN"] for row in found))
        keys = [row["id"] for row in store.query("SELECT id FROM constituent ORDER BY id")]
        with store.engine.connect() as connection:
            connection.execute(queue.READ_FEW)
            found = connection.execute(
                text("EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) " + queue.CLAIM.text),
                {"constituents": keys, "clips": 16, "owner": "explained", "seconds": 600},
            ).scalars()
            plans.append("== claim\n" + "\n".join(found))
            found = connection.execute(
                text("EXPLAIN (COSTS OFF) " + queue.ENQUEUE.text), {"constituent": keys[0]}
            ).scalars()
            plans.append("== enqueue\n" + "\n".join(found))
            connection.rollback()
        explain.write_text("\n\n".join(plans) + "\n", "utf-8")


def sizes(store: Store, timings: Timings) -> None:
    """How much room the database takes."""
    found = store.query("SELECT pg_database_size(current_database()) AS bytes")
    timings.note("database, MB", round(found[0]["bytes"] / 1e6))
    tables = store.query("""
        SELECT regexp_replace(relname, '_[0-9]+$', ' (partitions)') AS name,
               sum(pg_table_size(oid))::bigint AS heap, sum(pg_indexes_size(oid))::bigint AS indexes
        FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        GROUP BY 1 ORDER BY sum(pg_total_relation_size(oid)) DESC LIMIT 6
    """)
    for row in tables:
        timings.note(f"{row['name']}: table, MB", round(row["heap"] / 1e6))
        timings.note(f"{row['name']}: indexes, MB", round(row["indexes"] / 1e6))


def vacuum(store: Store, *tables: str) -> None:
    """What autovacuum does sooner or later."""
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in tables:
            connection.execute(text(f"VACUUM (ANALYZE) {table}"))


def real_files(folder: Path, count: int, timings: Timings) -> None:
    """Walk a tree of empty files and look at each."""
    test = round(count * TEST_CLIPS / (DEV_CLIPS + TEST_CLIPS))
    for file in make_catalogue(count - test, test).files():
        path = folder / file.path
        if file.clip == "00001":
            path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with timings.timed(f"walk {count:,} real files"):
        files = list(walk(folder))
    with timings.timed(f"look at {count:,} real files"):
        assert all(look_at(folder, file) for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=DEV_CLIPS + TEST_CLIPS)
    parser.add_argument("--meta-dir", type=Path, help="folder of vox2_meta.csv and vox2_person_videos.json.gz")
    parser.add_argument("--files", type=int, default=0, help="real empty files to walk over")
    parser.add_argument("--home", type=Path, help="folder to work in; removed afterwards")
    parser.add_argument("--explain", type=Path, help="file for the plans of the statements")
    parser.add_argument(
        "--full-only", action="store_true", help="stop before the queue is emptied: saves most of the time"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    home = (given.home or Path(tempfile.mkdtemp(prefix="slf-catalogue-"))).absolute()
    home.mkdir(parents=True, exist_ok=True)
    if (home / "store").exists():
        parser.error(f"{home / 'store'} is there already, perhaps from a run that was killed: remove it")
    home.chmod(0o755)
    timings = Timings(given.json)
    timings.note("cores", len(os.sched_getaffinity(0)))
    start = time.perf_counter()
    settings = Settings(home=home / "store")
    try:
        with Store.create(settings=settings, tethered=True) as store:
            run(store, given.clips, given.meta_dir, timings, given.explain, full_only=given.full_only)
        if given.files:
            real_files(home / "tree", given.files, timings)
    finally:
        EmbeddedServer(settings.home, settings.pg_bin).stop()
        shutil.rmtree(home, ignore_errors=True)
    timings.note("everything, s", time.perf_counter() - start)
    if given.json:
        print(json.dumps(timings.figures, indent=1))


if __name__ == "__main__":
    main()
