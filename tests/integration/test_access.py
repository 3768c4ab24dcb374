"""Breaking out of `slf sql` and of selections: every attempt, its answer. SLF_BREAKOUT_TABLE=FILE writes the table."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from slf_store.db.readers import connect_reader, ensure_readers
from slf_store.db.readonly import read_only, run_text
from slf_store.errors import DatabaseError, SelectionError
from slf_store.query.selection import select
from slf_store.settings import load_settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

DENIED = "permission denied"
ATTEMPTS = [
    # (what is tried, statement, what the answer holds)
    ("a second statement", "SELECT 1; DELETE FROM clip", "cannot insert multiple commands"),
    ("ending the transaction first", "COMMIT; DELETE FROM clip", "cannot insert multiple commands"),
    ("writing", "DELETE FROM clip", "read-only transaction"),
    ("writing inside a query", "WITH x AS (DELETE FROM clip RETURNING 1) SELECT * FROM x", "read-only transaction"),
    ("writing the audit log", "INSERT INTO audit_log (action, detail) VALUES ('x', '{}')", "read-only transaction"),
    ("writing under EXPLAIN", "EXPLAIN ANALYZE DELETE FROM clip", "read-only transaction"),
    ("locking rows", "SELECT id FROM clip FOR UPDATE", "read-only transaction"),
    ("a table", "CREATE TABLE mine (a int)", "read-only transaction|permission denied"),
    ("a temporary table", "CREATE TEMP TABLE mine (a int)", "read-only transaction|permission denied"),
    ("a temporary function", "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "read-only|denied"),
    ("a code block", "DO $$ BEGIN DELETE FROM clip; END $$", "read-only transaction"),
    ("becoming the owner by RESET ROLE", "RESET ROLE", "didn't produce"),
    ("becoming the owner by SET ROLE", "SET ROLE slf", DENIED),
    ("becoming the owner by SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION slf", DENIED),
    ("becoming a writer by SET ROLE", "SET ROLE slf_ingest", DENIED),
    ("role none inside a query", "SELECT set_config('role', 'none', false), pg_read_file('/etc/passwd')", DENIED),
    ("lifting read-only", "SELECT set_config('transaction_read_only', 'off', false)", DENIED),
    ("lifting the time limit", "SELECT set_config('statement_timeout', '0', false), pg_sleep(5)", DENIED),
    ("lifting the time limit by SET", "SET statement_timeout = 0", "didn't produce"),
    ("sleeping", "SELECT pg_sleep(5)", "stopped after"),
    ("an endless query", "SELECT count(*) FROM generate_series(1, 1000000000000)", "stopped after"),
    ("an endless recursion", "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT * FROM r", "more than"),
    ("reading a file", "SELECT pg_read_file('/etc/passwd')", DENIED),
    ("reading a binary file", "SELECT pg_read_binary_file('PG_VERSION')", DENIED),
    ("listing a folder", "SELECT pg_ls_dir('/')", DENIED),
    ("importing a large object", "SELECT lo_import('/etc/passwd')", DENIED),
    ("exporting a large object", "SELECT lo_export(1, '/tmp/x')", DENIED),
    ("making a large object", "SELECT lo_create(0)", DENIED),
    ("a program through COPY", "COPY (SELECT 1) TO PROGRAM 'id'", DENIED),
    ("a file through COPY", "COPY (SELECT 1) TO '/tmp/slf-breakout'", DENIED),
    ("a table out of a program", "COPY clip FROM PROGRAM 'id'", DENIED),
    ("the client's stdout", "COPY identity TO STDOUT", "COPY|denied"),
    ("ending others' sessions", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity", DENIED),
    ("cancelling others' work", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity", DENIED),
    ("reloading the server", "SELECT pg_reload_conf()", DENIED),
    ("holding the store's locks", "SELECT pg_advisory_lock(1374552066)", DENIED),
    ("shared locks", "SELECT pg_try_advisory_xact_lock_shared(1374552066)", DENIED),
    ("a sequence", "SELECT nextval('clip_id_seq')", DENIED),
    ("resetting a sequence", "SELECT setval('clip_id_seq', 1)", DENIED),
    ("notifying", "SELECT pg_notify('x', 'y')", DENIED),
    ("notifying by command", "NOTIFY x", "didn't produce|read-only"),
    ("listening", "LISTEN x", "didn't produce|read-only"),
    ("writing to the log of changes", "SELECT pg_logical_emit_message(false, 'a', 'b')", DENIED),
    ("another database", "SELECT * FROM dblink('dbname=postgres', 'SELECT 1') AS t (a int)", "does not exist"),
    ("an extension", "CREATE EXTENSION dblink", "read-only transaction|permission denied|not available"),
    (
        "a query in XML",
        "SELECT query_to_xml('DELETE FROM clip RETURNING 1', true, true, '')",
        "not allowed|denied|read-only|not sup",
    ),
    ("passwords", "SELECT rolpassword FROM pg_authid", DENIED),
    ("raw statistics", "SELECT * FROM pg_statistic", DENIED),
    ("settings of the server", "ALTER SYSTEM SET log_statement = 'all'", "denied|cannot"),
    ("a setting for others", "ALTER DATABASE postgres SET search_path = x", "read-only|owner|denied"),
    ("a password for oneself", "ALTER ROLE slf_reader_analyst PASSWORD 'x'", "read-only"),
    ("open erasures", "SELECT work FROM erasure", DENIED),
    ("the block list", "SELECT * FROM blocked", DENIED),
]
ANALYST = [
    ("paths of clips", "SELECT path FROM clips"),
    ("paths through the whole row", "SELECT to_jsonb(clips) FROM clips"),
    ("paths through the row's text", "SELECT clips::text FROM clips"),
    ("paths in messages", "SELECT message FROM coverage"),
    ("paths by a condition", "SELECT clip_id FROM clips WHERE path LIKE '%1%'"),
    ("paths by an order", "SELECT clip_id FROM clips ORDER BY path"),
    ("roots of sources", "SELECT root FROM source"),
    ("paths of shards", "SELECT path FROM shard"),
    ("embeddings", "SELECT vector FROM face_embedding"),
    ("embeddings by distance", "SELECT clip_id FROM face_embedding ORDER BY vector <-> vector LIMIT 1"),
    ("counting embeddings", "SELECT count(*) FROM face_embedding"),
    ("embeddings of generated faces", "SELECT vector FROM generation_embedding"),
    ("faces", "SELECT * FROM face"),
    ("pictures of generated faces", "SELECT path FROM generation"),
    ("who was matched with whom", "SELECT * FROM match"),
    ("what was frozen", "SELECT * FROM snapshot_clip"),
    ("who did what", "SELECT * FROM audit_log"),
    ("a table in XML", "SELECT table_to_xml('face_embedding', true, true, '')"),
    ("a query in XML", "SELECT query_to_xml('SELECT path FROM clips', true, true, '')"),
]
LIMIT_S = 0.4


@pytest.fixture(scope="module")
def answers() -> dict[str, list[tuple[str, str, str]]]:
    return {"researcher": [], "analyst": []}


@pytest.fixture(scope="module", autouse=True)
def table(answers: dict[str, list[tuple[str, str, str]]]) -> object:
    """The table of attempts, where the environment names a file for it."""
    yield
    if name := os.environ.get("SLF_BREAKOUT_TABLE"):
        lines = []
        for role, tried in answers.items():
            lines += [f"As {role}:", "", "| attempt | statement | answer |", "|---|---|---|"]
            lines += [f"| {what} | `{_cell(text)}` | {_cell(answer)} |" for what, text, answer in tried] + [""]
        Path(name).write_text("\n".join(lines))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


@pytest.mark.parametrize("role", ["researcher", "analyst"])
@pytest.mark.parametrize(("what", "statement", "answer"), ATTEMPTS, ids=[attempt[0] for attempt in ATTEMPTS])
def test_breaking_out(
    extracted: Store,
    answers: dict[str, list[tuple[str, str, str]]],
    role: str,
    what: str,
    statement: str,
    answer: str,
) -> None:
    start = time.monotonic()
    with pytest.raises(SelectionError, match=answer) as caught:
        run_text(extracted.engine, statement, role=role, timeout_s=LIMIT_S, max_rows=1000)  # type: ignore[arg-type]
    assert time.monotonic() - start < 3
    answers[role].append((what, statement, caught.value.what))


@pytest.mark.parametrize(("what", "statement"), ANALYST, ids=[attempt[0] for attempt in ANALYST])
def test_what_an_analyst_may_not_see(
    extracted: Store, answers: dict[str, list[tuple[str, str, str]]], what: str, statement: str
) -> None:
    with pytest.raises(SelectionError, match=DENIED + "|unsupported XML") as caught:
        run_text(extracted.engine, statement, role="analyst")
    answers["analyst"].append((what, statement, caught.value.what))


def test_nothing_came_of_it(extracted: Store) -> None:
    assert extracted.query("SELECT count(*) AS n FROM clip") == [{"n": 18}]
    assert not Path("/tmp/slf-breakout").exists()
    locks = extracted.query("SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory'")
    assert locks == [{"n": 0}]


@pytest.mark.parametrize(
    "predicate",
    [
        "true); DELETE FROM clip; --",
        "set_config('role', 'none', false) IS NULL",
        "pg_read_file('/etc/passwd') IS NULL",
        "(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity) > 0",
        "clip_id IN (SELECT lo_create(0))",
        "clip_id IN (SELECT 1 FROM pg_authid)",
    ],
)
def test_a_predicate_cannot_break_out(extracted: Store, predicate: str) -> None:
    with pytest.raises(SelectionError, match="predicate"):
        select(extracted, predicate)


def test_statistics_show_an_analyst_nothing_of_hidden_columns(extracted: Store) -> None:
    with extracted.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE clip, identity, face")
    seen = run_text(
        extracted.engine, "SELECT tablename FROM pg_stats WHERE schemaname = 'public'", role="analyst", timeout_s=10
    )
    assert seen == []


def test_the_client_stops_what_the_server_does_not(extracted: Store) -> None:
    start = time.monotonic()
    with read_only(extracted.engine, "researcher", 0.5) as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        with pytest.raises(psycopg.errors.QueryCanceled):
            cursor.execute("SELECT pg_sleep(20)")
    assert time.monotonic() - start < 5


def test_a_person_given_the_role_of_an_analyst(extracted: Store, server_url: str) -> None:
    """What docs/access.md says: a login of one's own, in role slf_analyst."""
    with extracted.engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE ada_of_tests LOGIN PASSWORD 'lovelace' IN ROLE slf_analyst")
    try:
        url = extracted.engine.url.set(drivername="postgresql", username="ada_of_tests", password="lovelace")
        with psycopg.connect(url.render_as_string(hide_password=False)) as ada:
            (there,) = extracted.query("SELECT count(*) AS n FROM recall_at_k")
            assert ada.execute("SELECT count(*) FROM recall_at_k").fetchone() == (there["n"],)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ada.execute("SELECT path FROM clips")
    finally:
        with extracted.engine.begin() as connection:
            connection.exec_driver_sql("DROP ROLE ada_of_tests")


@pytest.mark.parametrize(
    ("role", "statement", "allowed"),
    [
        ("slf_ingest", "DELETE FROM audit_log", False),
        ("slf_ingest", "UPDATE audit_log SET action = 'x'", False),
        ("slf_ingest", "INSERT INTO audit_log (action, detail) VALUES ('x', '{}')", True),
        ("slf_ingest", "SELECT work FROM erasure", False),
        ("slf_ingest", "DELETE FROM clip", True),
        ("slf_researcher", "DELETE FROM audit_log", False),
        ("slf_researcher", "INSERT INTO audit_log (action, detail) VALUES ('x', '{}')", True),
        ("slf_researcher", "DELETE FROM clip", False),
        ("slf_researcher", "UPDATE extraction SET state = 'pending'", False),
        ("slf_researcher", "DELETE FROM run", True),
        ("slf_researcher", "CREATE TEMP TABLE frozen (a int)", True),
        ("slf_analyst", "INSERT INTO audit_log (action, detail) VALUES ('x', '{}')", False),
        ("slf_analyst", "CREATE TEMP TABLE frozen (a int)", False),
        ("slf_analyst", "SELECT * FROM run", False),
        ("slf_analyst", "SELECT * FROM fidelity", True),
    ],
)
def test_roles_may_what_the_design_says(extracted: Store, role: str, statement: str, allowed: bool) -> None:
    with extracted.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        if allowed:
            raw.execute(statement)
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                raw.execute(statement)
        raw.rollback()


@pytest.mark.parametrize("statement", ["DELETE FROM clip", "SELECT id FROM clip FOR UPDATE", "RESET ROLE"])
def test_readers_may_not_write_even_in_a_writing_transaction(extracted: Store, statement: str) -> None:
    with connect_reader(extracted.engine, "researcher") as connection:
        connection.execute("SET TRANSACTION READ WRITE")
        connection.execute("RESET ROLE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement if statement != "RESET ROLE" else "DELETE FROM snapshot")
        connection.rollback()


def test_readers_are_made_again_when_the_owners_password_changes(extracted: Store) -> None:
    with extracted.engine.begin() as connection:
        connection.exec_driver_sql("ALTER ROLE slf_reader_analyst PASSWORD 'another'")
    assert run_text(extracted.engine, "SELECT current_user AS me", role="analyst") == [{"me": "slf_reader_analyst"}]
    ensure_readers(extracted.engine)
    connect_reader(extracted.engine, "researcher").close()


def test_a_reader_named_in_the_settings(extracted: Store, tmp_path: Path) -> None:
    url = extracted.engine.url.render_as_string(hide_password=False)
    from slf_store.db.engine import open_engine

    wrong = url.replace("slf:", "nobody:", 1)
    engine = open_engine(load_settings(tmp_path, database_url=url, analyst_url=wrong))
    with pytest.raises(DatabaseError, match="analysts' reader cannot connect") as caught:
        run_text(engine, "SELECT 1", role="analyst")
    assert str(extracted.engine.url.password) not in str(caught.value)
    engine.dispose()
