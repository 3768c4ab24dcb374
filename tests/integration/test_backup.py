"""A store is backed up, restored elsewhere, and is the same; damaged and incomplete backups are refused."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fault_stores import resize, small_disk

from slf_store.db.embedded import EmbeddedServer
from slf_store.db.engine import open_engine
from slf_store.db.pgdump import find_program
from slf_store.db.readonly import run_text
from slf_store.errors import ConfigError, DatabaseError, SelectionError, ShardError
from slf_store.jobs.backup import backup, missing_objects
from slf_store.jobs.backup_folder import object_path, read_manifest
from slf_store.jobs.compact import compact
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.restore import restore
from slf_store.jobs.verify import verify
from slf_store.privacy.blocklist import read_blocklist
from slf_store.privacy.forget import forget
from slf_store.privacy.target import Target
from slf_store.query.loader import Loader
from slf_store.query.manifest import open_snapshot
from slf_store.query.systems import system
from slf_store.settings import Settings
from slf_store.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture
def elsewhere(tmp_path: Path, server_url: str) -> Iterator[Settings]:
    """An empty home and an empty database."""
    name = f"restored_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        url = server_url.rpartition("/")[0] + "/" + name
        yield Settings(home=tmp_path / "elsewhere", database_url=url, workers=2)  # type: ignore[arg-type]
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def first_batch(store: Store) -> list[bytes]:
    """What training would see first."""
    loader = Loader(open_snapshot(store, "kept", "train"), system("full-input"), batch_size=2)
    batch = next(loader.batches(position=0))
    return [tensor.numpy().tobytes() for tensor in (batch.conditioning, batch.mask, batch.guide, batch.target)]


def everything(store: Store) -> dict[str, list[str]]:
    """All rows of all tables."""
    tables = store.query("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {
        table["name"]: [row["row"] for row in store.query(f"SELECT t::text AS row FROM {table['name']} t ORDER BY 1")]
        for table in tables
    }


def test_a_restored_store_is_the_same_on_another_server(kept: Store, tmp_path: Path, open_folder: Path) -> None:
    report = backup(kept, tmp_path / "backup")
    assert (report.files, report.copied_files) == (10, 10)
    home = open_folder / f"restored-{uuid.uuid4().hex[:8]}"
    other = Settings(home=home, database_url=None, workers=2)
    command = [sys.executable, "-m", "slf_store.cli.main", "--json", "--home", str(home), "restore"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    try:
        done = subprocess.run(
            [*command, str(tmp_path / "backup")], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["values"] == 9
        assert "erased" in done.stderr
        with Store.open(settings=other) as restored:
            assert everything(restored) == everything(kept)
            assert first_batch(restored) == first_batch(kept)
            assert run_text(restored.engine, "SELECT count(*) AS n FROM recall_at_k", role="analyst") == [{"n": 0}]
            with pytest.raises(SelectionError, match="permission denied"):
                run_text(restored.engine, "SELECT * FROM face_embedding", role="analyst")
    finally:
        EmbeddedServer(home).stop()
        shutil.rmtree(home, ignore_errors=True)


def test_a_store_of_an_older_schema_is_backed_up_as_it_is_and_migrated_where_it_is_restored(
    old_store: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    with Store(old_store, open_engine(old_store)) as store:
        assert backup(store, tmp_path / "backup").schema == "0002"
        frozen = store.query("SELECT hash FROM snapshot")
    report = restore(elsewhere, tmp_path / "backup")
    assert (report.schema_from, report.values) == ("0002", 9)
    with Store.open(settings=elsewhere) as restored:
        assert restored.query("SELECT hash FROM snapshot") == frozen


def test_who_was_erased_stays_so_where_the_store_is_restored(kept: Store, elsewhere: Settings, tmp_path: Path) -> None:
    person = kept.query("SELECT name FROM identity ORDER BY name LIMIT 1")[0]["name"]
    forget(kept, Target(person))
    backup(kept, tmp_path / "backup")
    restore(elsewhere, tmp_path / "backup")
    assert sorted(path.name for path in (elsewhere.home / "receipts").iterdir()) == ["1.json"]
    assert (elsewhere.home / "blocklist.key").stat().st_mode & 0o777 == 0o600
    with Store.open(settings=elsewhere) as restored, restored.engine.connect() as connection:
        assert read_blocklist(connection, elsewhere.home).has(person)


def test_the_next_backup_copies_only_what_is_new_and_keeps_only_what_is_needed(kept: Store, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    backup(kept, folder)
    again = backup(kept, folder)
    assert again.copied_files == again.removed <= 1  # the dump; within the same second it is the same
    compact(kept)
    kept.settings.shard_grace_hours = 0
    collect_garbage(kept, remove=True)
    third = backup(kept, folder)
    assert (third.copied_files, third.removed, third.files) == (4, 7, 7)
    objects = {path.name for path in (folder / "objects").rglob("*") if path.is_file()}
    assert objects == set(read_manifest(folder).objects)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "objects"]
    assert list(kept.settings.home.glob(".backup-*")) == []


def test_an_incomplete_or_damaged_backup_is_refused_and_leaves_nothing(
    kept: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    backup(kept, folder)
    manifest = read_manifest(folder)
    chance = random.Random(0)
    for checksum in manifest.objects:
        path = object_path(folder, checksum)
        whole = path.read_bytes()
        spoilt = bytearray(whole)
        spoilt[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(spoilt)
        with pytest.raises(ShardError, match="the backup is damaged"):
            restore(elsewhere, folder)
        path.write_bytes(whole)
    path.unlink()
    with pytest.raises(ShardError, match="incomplete"):
        restore(elsewhere, folder)
    path.write_bytes(whole)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("shards/mel", "shards/mal", 1))
    with pytest.raises(ShardError, match="damaged"):
        restore(elsewhere, folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ShardError, match="no complete backup"):
        restore(elsewhere, folder)
    (folder / "manifest.json").write_text(text)
    restore(elsewhere, folder)
    with pytest.raises(ConfigError, match="not empty"):
        restore(elsewhere, folder)


def test_a_backup_on_a_disk_that_is_full_keeps_the_one_before(kept: Store, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    backup(kept, folder)
    before, written = read_manifest(folder), (folder / "manifest.json").stat().st_mtime_ns
    with small_disk(folder, "10m"):
        resize(folder, str(shutil.disk_usage(folder).used))
        with pytest.raises(ShardError, match="No space left on device"):
            backup(kept, folder)
        assert read_manifest(folder) == before
        resize(folder, "10m")
        backup(kept, folder)
        assert (folder / "manifest.json").stat().st_mtime_ns > written
        assert missing_objects(folder, read_manifest(folder)) == []


def test_a_backup_names_missing_and_damaged_files_and_keeps_the_one_before(kept: Store, tmp_path: Path) -> None:
    backup(kept, tmp_path / "backup")
    before = (tmp_path / "backup" / "manifest.json").read_text()
    picture = next(kept.runs.rglob("*.png"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[:-1])
    with pytest.raises(ShardError, match=picture.name):
        backup(kept, tmp_path / "backup")
    assert (tmp_path / "backup" / "manifest.json").read_text() == before
    picture.write_bytes(whole)
    shard = next(kept.shards.rglob("*.h5"))
    shard.unlink()
    with pytest.raises(ShardError, match=r"missing[\s\S]*slf verify"):
        backup(kept, tmp_path / "new")
    backup(kept, tmp_path / "backup")  # it has that shard already
    with pytest.raises(ConfigError, match="lies in the store"):
        backup(kept, kept.settings.home / "backup")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not empty"):
        backup(kept, tmp_path / "mine")


def test_a_backup_made_while_shards_are_merged_and_removed_is_whole(
    kept: Store, elsewhere: Settings, tmp_path: Path
) -> None:
    kept.settings.shard_grace_hours = 0
    errors: list[BaseException] = []

    def disturb() -> None:
        try:
            compact(kept)
            collect_garbage(kept, remove=True)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=disturb)
    thread.start()
    backup(kept, tmp_path / "backup")
    thread.join()
    assert errors == []
    assert restore(elsewhere, tmp_path / "backup").values == 9
    with Store.open(settings=elsewhere) as restored:
        assert first_batch(restored) == first_batch(kept)
        assert verify(restored).findings == []


def killed(settings: Settings, point: str, *words: str) -> bool:
    """Whether the command was killed at its fault point."""
    assert settings.database_url is not None
    environment = {
        **os.environ,
        "SLF_FAULT": point,
        "SLF_DATABASE_URL": settings.database_url.get_secret_value(),
        "SLF_HOME": str(settings.home),
    }
    done = subprocess.run([sys.executable, "-m", "slf_store.cli.main", *words], env=environment, check=False)
    return done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["backup.linked", "backup.copied"])
def test_a_killed_backup_leaves_the_one_before_and_nothing_for_long(
    kept: Store, elsewhere: Settings, tmp_path: Path, point: str
) -> None:
    folder = tmp_path / "backup"
    backup(kept, folder)
    before = (folder / "manifest.json").read_text()
    with kept.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE source SET name = 'renamed'")
    assert killed(kept.settings, point, "backup", str(folder))
    assert (folder / "manifest.json").read_text() == before
    assert all(name.startswith(".backup-") for name in collect_garbage(kept, remove=True).files)
    assert list(kept.settings.home.glob(".backup-*")) == []
    restore(elsewhere, folder)
    backup(kept, folder)
    objects = {path.name for path in (folder / "objects").rglob("*") if path.is_file()}
    assert objects == set(read_manifest(folder).objects)


def test_a_killed_restore_goes_on(kept: Store, elsewhere: Settings, tmp_path: Path) -> None:
    backup(kept, tmp_path / "backup")
    for point in ("restore.copied", "restore.loaded"):
        assert killed(elsewhere, point, "restore", str(tmp_path / "backup"))
    assert restore(elsewhere, tmp_path / "backup").values == 9
    with Store.open(settings=elsewhere) as restored:
        assert everything(restored) == everything(kept)
    assert sorted(path.name for path in elsewhere.home.iterdir()) == ["runs", "shards"]


def test_a_program_older_than_the_server_is_not_used() -> None:
    assert find_program("pg_dump", 15).name == "pg_dump"
    with pytest.raises(DatabaseError, match="PostgreSQL 99, and no pg_dump is as new"):
        find_program("pg_dump", 99)
