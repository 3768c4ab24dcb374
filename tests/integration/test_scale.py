"""What a large catalogue relies on: counts that equal the rows, whatever happened to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slf_store.constituents.spec import ConstituentSpec
from slf_store.dataset.synthetic.catalogue import make_catalogue
from slf_store.jobs import counts, queue
from slf_store.jobs import sql_ingest as statements
from slf_store.jobs.constituents import register
from slf_store.jobs.ingest import register_source
from slf_store.jobs.register import register_rows
from slf_store.jobs.retire import retire
from slf_store.store import Store

pytestmark = pytest.mark.integration

DIFFERENCE = """
    WITH live AS (
        SELECT constituent_id, place_id, state, error_code, count(*) AS clips, count(seconds) AS timed
        FROM extraction GROUP BY constituent_id, place_id, state, error_code
    ), kept AS (
        SELECT constituent_id, place_id, state, error_code, sum(clips)::bigint AS clips, sum(timed)::bigint AS timed
        FROM extraction_count GROUP BY constituent_id, place_id, state, error_code HAVING sum(clips) <> 0
    )
    (SELECT * FROM live EXCEPT SELECT * FROM kept) UNION ALL (SELECT * FROM kept EXCEPT SELECT * FROM live)
"""


def test_counts_equal_the_rows_after_everything_that_changes_them(store: Store) -> None:
    catalogue = make_catalogue(90, 10)
    files = list(catalogue.files())
    with store.engine.begin() as connection:
        source = register_source(connection, Path("/nowhere"), "made up", "voxceleb2")["id"]
        connection.execute(statements.NEW_PLACES, {"source_id": source, "splits": ["dev", "test"]})
        specs = [ConstituentSpec(name, "array", (1, 2), "float16", "", "", 1) for name in ("one", "two")]
        keys = list(register(connection, specs).values())
    rows = [
        (f.identity, f.split, f.video, f.clip, f.path, "ok", None, None, *fact, *[None] * 4)
        for f, fact in zip(files, catalogue.facts(100), strict=True)
    ]
    assert register_rows(store.engine, source, rows) == 0

    def check(step: str) -> None:
        assert store.query(DIFFERENCE) == [], step

    assert queue.enqueue(store.engine, keys) == 100
    assert store.query("SELECT sum(clips)::int AS n FROM extraction_state") == [{"n": 200}]
    check("queued")
    claimed = queue.claim(store.engine, keys, clips=30, owner="me", lease_s=60)
    assert len(claimed) == 30
    check("claimed")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("""
            UPDATE extraction SET state = CASE WHEN mod(clip_id, 3) = 0 THEN 'failed' ELSE 'done' END, seconds = 0.5,
                error_code = CASE WHEN mod(clip_id, 3) = 0 THEN 'no_face' END, lease_owner = NULL
            WHERE state = 'leased'
        """)
    check("finished")
    queue.enqueue(store.engine, keys, retry_failed=True)
    check("tried again")
    changed = [(*row[:18], "other", *row[19:]) for row in rows[:5]]
    assert register_rows(store.engine, source, changed) == 5
    check("files changed")
    counts.fold(store.engine)
    check("folded")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM identity WHERE id = (SELECT min(id) FROM identity)")
    check("an identity gone")
    retire(store, f"one@{specs[0].version}")
    check("a version retired")
