"""The schema: models and migrations agree, it goes up and down, views are documented, roles see what they may."""

from __future__ import annotations

import pytest
from alembic import command
from sqlalchemy import create_engine

from slf_store.db.migrate import alembic_config, check_schema, downgrade, upgrade
from slf_store.db.readonly import run_text
from slf_store.errors import DatabaseError, SelectionError
from slf_store.store import Store

pytestmark = pytest.mark.integration

VIEWS = {"clips", "coverage", "recall_at_k", "fidelity", "preferred_attribute", "scale_sweep", "significance"} | {
    "constituent_quality",
    "attribute_quality",
    "attribute_agreement",
    "quality_outliers",
    "probes",
    "attribute_recall",
    "metric_by_group",
    "recall_by_group",
}


def test_models_and_migrations_agree(store: Store) -> None:
    command.check(alembic_config(store.engine))


def test_models_and_migrations_agree_when_there_are_partitions(extracted: Store) -> None:
    command.check(alembic_config(extracted.engine))


def test_upgrade_downgrade_upgrade(store: Store) -> None:
    downgrade(store.engine)
    left = store.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tablename"] for row in left] == ["alembic_version"]
    with pytest.raises(DatabaseError, match="slf init"):
        check_schema(store.engine)
    upgrade(store.engine)
    check_schema(store.engine)
    assert store.query("SELECT count(*) AS n FROM clips") == [{"n": 0}]


def test_a_schema_newer_than_the_program_is_refused(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer than this program"):
        upgrade(store.engine)


def test_a_user_who_may_not_migrate_is_told_so(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE nobody_much LOGIN PASSWORD 'x'")
    try:
        url = store.engine.url.set(username="nobody_much", password="x")
        downgrade(store.engine)
        with pytest.raises(DatabaseError, match="user nobody_much may not migrate this database: permission denied"):
            upgrade(create_engine(url))
    finally:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("DROP ROLE nobody_much")


def test_every_column_of_every_view_is_documented(store: Store) -> None:
    rows = store.query("""
        SELECT relname AS view, attname AS column, col_description(attrelid, attnum) AS comment,
               obj_description(attrelid) AS view_comment
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace AND attnum > 0
    """)
    assert {row["view"] for row in rows} >= VIEWS
    assert [row for row in rows if not (row["comment"] and row["view_comment"])] == []


def test_an_analyst_sees_results_but_no_path_face_or_embedding(extracted: Store) -> None:
    assert run_text(extracted.engine, "SELECT run FROM recall_at_k WHERE k = 0", role="analyst") == []
    assert run_text(extracted.engine, "SELECT identity, gender, gender_score FROM clips LIMIT 1", role="analyst")
    for asked in (
        "SELECT path FROM clips",
        "SELECT * FROM face_embedding",
        "SELECT * FROM face",
        "SELECT * FROM shard",
    ):
        with pytest.raises(SelectionError, match="permission denied"):
            run_text(extracted.engine, asked, role="analyst")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM clip",
        "SELECT 1; DELETE FROM clip",
        "WITH gone AS (DELETE FROM clip RETURNING id) SELECT * FROM gone",
        "COPY clip TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/hostname')",
        "CREATE TABLE mine (a int)",
        "SELECT * FROM",
        "",
    ],
)
def test_sql_text_cannot_write_or_reach_files(extracted: Store, statement: str) -> None:
    before = extracted.query("SELECT count(*) AS n FROM clip")
    if statement:
        with pytest.raises(SelectionError):
            run_text(extracted.engine, statement)
    else:
        assert run_text(extracted.engine, statement) == []
    assert extracted.query("SELECT count(*) AS n FROM clip") == before


def test_sql_text_is_stopped_by_the_time_limit(extracted: Store) -> None:
    with pytest.raises(SelectionError, match="stopped after"):
        run_text(extracted.engine, "SELECT pg_sleep(5)", timeout_s=0.2)
