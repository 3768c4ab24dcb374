"""A store of an earlier schema, kept as a fixture, is brought up with everything in it; `slf migrate` from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from slf_store.cli.main import app
from slf_store.db.engine import open_engine
from slf_store.db.migrate import schema_version, upgrade
from slf_store.db.readonly import run_text
from slf_store.errors import DatabaseError
from slf_store.jobs.pool import extract
from slf_store.jobs.verify import verify
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration

SAMPLE = Path(__file__).parents[1] / "fixtures" / "store_0002" / "sample"
CHEAP = ("mel", "face", "age_gender", "face_dlib", "target", "image_guide")
HASH = "SELECT hash FROM snapshot WHERE name = 'kept'"
VALUES = """
    SELECT constituent.name, clips.identity, clips.video, clips.clip, extraction.value_hash
    FROM extraction
    JOIN constituent ON constituent.id = extraction.constituent_id
    JOIN clips ON clips.clip_id = extraction.clip_id
    WHERE extraction.state = 'done' ORDER BY 1, 2, 3, 4
"""


def slf(*words: str) -> Result:
    return CliRunner().invoke(app, ["--json", *words])


def rows(settings: Settings, sql: str) -> list[dict[str, Any]]:
    with Store(settings, open_engine(settings)) as store:
        return list(store.query(sql))


def test_a_store_of_the_first_release_is_migrated_with_all_it_holds(old_store: Settings) -> None:
    values, frozen = rows(old_store, VALUES), rows(old_store, HASH)
    assert len(values) == 3 * len(CHEAP)
    with pytest.raises(DatabaseError, match="slf migrate"):
        Store.open(settings=old_store)
    behind = slf("migrate", "--check")
    assert behind.exit_code == 1
    assert json.loads(behind.stdout)["from"] == "0002"
    migrated = slf("migrate")
    assert migrated.exit_code == 0, migrated.output
    assert slf("migrate", "--check").exit_code == 0
    with Store.open(settings=old_store) as store:
        assert json.loads(migrated.stdout)["to"] == schema_version(store.engine).head
        assert store.query(VALUES) == values
        report = verify(store)
        assert (report.findings, report.shards, report.pictures, report.values) == ([], 6, 3, 9)
        assert store.query(HASH) == frozen
        selection = select(store, "true", missing="skip")
        assert freeze(store, selection, "same", validation=0.34).hash == frozen[0]["hash"]
        assert run_text(store.engine, "SELECT count(*) AS n FROM clips") == [{"n": 4}]
        with store.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE source SET root = %s", (str(SAMPLE),))
        assert extract(store, ["mel", "image_guide", "target"]).done == {"mel": 1, "image_guide": 1, "target": 1}
        assert verify(store).findings == []


def test_two_who_migrate_at_once_wait_for_each_other(old_store: Settings) -> None:
    commands = [[sys.executable, "-m", "slf_store.cli.main", "migrate"] for _ in range(2)]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait() for process in started] == [0, 0]
    with Store.open(settings=old_store) as store:
        assert verify(store).findings == []


def test_migrate_asks_for_init_where_there_is_no_store(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]
    engine = open_engine(settings)
    assert schema_version(engine).current is None
    upgrade(engine)
    assert schema_version(engine).steps == ()
    engine.dispose()
