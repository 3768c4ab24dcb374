"""`slf verify` finds one flipped byte anywhere and names it; `slf gc` removes what nothing needs, and nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from slf_store.cli.main import app
from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.jobs.compact import compact
from slf_store.jobs.gc import collect_garbage
from slf_store.jobs.verify import verify
from slf_store.jobs.verify_shard import Finding
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

pytestmark = pytest.mark.integration

CHECKPOINT = text("""
    INSERT INTO checkpoint (run_id, unet, samples_seen, path, checksum, seconds)
    SELECT id, 1, 10, 'runs/old/unet1.safetensors', :checksum, 1 FROM run WHERE name = 'old'
""")


@pytest.fixture
def full(kept: Store) -> Store:
    """The small store with a checkpoint, and checksums of two of its three pictures."""
    path = checkpoint(kept, samples_seen=10)
    with kept.engine.begin() as connection:
        connection.execute(CHECKPOINT, {"checksum": file_checksum(path)})
        for picture in sorted(kept.runs.rglob("*.png"))[:2]:
            values = {"path": picture.relative_to(kept.settings.home).as_posix(), "checksum": file_checksum(picture)}
            connection.execute(text("UPDATE generation SET checksum = :checksum WHERE path = :path"), values)
    return kept


def checkpoint(store: Store, samples_seen: int) -> Path:
    from safetensors.numpy import save_file

    path = store.runs / "old" / "unet1.safetensors"
    save_file({"ema/w": np.arange(500, dtype=np.float32)}, path, {"samples_seen": str(samples_seen)})
    return path


@contextmanager
def flipped(path: Path, offset: int, bit: int = 0) -> Iterator[None]:
    """One bit of a file turned, as a disk does it: its times stay."""
    whole, stat = path.read_bytes(), path.stat()
    spoilt = bytearray(whole)
    spoilt[offset] ^= 1 << bit
    for data in (bytes(spoilt), whole):
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        if data != whole:
            yield


def execute(store: Store, sql: str) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql(sql)


def kinds(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def test_one_flipped_bit_anywhere_in_any_file_is_found_and_the_file_named(full: Store) -> None:
    report = verify(full)
    assert report.findings == []
    assert (report.shards, report.checkpoints, report.pictures, report.values) == (6, 1, 3, 9)
    files = sorted(path for path in full.settings.home.rglob("*") if path.suffix in (".h5", ".png", ".safetensors"))
    assert len(files) == 10
    chance = random.Random(7)
    for path in files:
        size = path.stat().st_size
        for offset in (0, size - 1, chance.randrange(size), chance.randrange(size)):
            with flipped(path, offset, chance.randrange(8)):
                name = path.relative_to(full.settings.home).as_posix()
                assert name in {finding.file for finding in verify(full).findings}, (name, offset)
    assert verify(full).findings == []


def test_a_flipped_bit_in_a_value_names_its_clip(full: Store) -> None:
    rows = full.query("""
        SELECT shard.path, extraction.shard_row AS row, constituent.name,
               clips.identity || '/' || clips.video || '/' || clips.clip AS clip
        FROM extraction JOIN shard ON shard.id = extraction.shard_id
        JOIN constituent ON constituent.id = extraction.constituent_id
        JOIN clips ON clips.clip_id = extraction.clip_id
    """)
    assert len(rows) == 9
    for row in rows:
        with h5py.File(full.shards / row["path"]) as file:
            values = file["values"]
            offset, size = values.id.get_offset(), values[0].nbytes
        with flipped(full.shards / row["path"], offset + row["row"] * size + size // 2):
            findings = verify(full, [row["name"]]).findings
        assert kinds(findings) == {"checksum", "value"}
        assert [finding.clip for finding in findings if finding.kind == "value"] == [row["clip"]]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("UPDATE face_embedding SET vector = (vector::real[] || 1::real)::vector(129)", "constraint"),
        ("UPDATE face_embedding SET vector = vector + array_fill(0.0001::real, ARRAY[128])::vector", "embedding"),
        ("DELETE FROM face_embedding", "no_value"),
        ("DELETE FROM face", "no_value"),
        ("DELETE FROM attribute WHERE name = 'age'", "no_value"),
        ("UPDATE extraction SET shard_id = NULL WHERE shard_row = 1", "no_value"),
        ("UPDATE extraction SET value_hash = value_hash + 1 WHERE shard_id IS NOT NULL", "value"),
        ("UPDATE extraction SET shard_row = 1 - shard_row FROM shard WHERE shard_id = shard.id AND rows = 2", "row"),
        ("UPDATE extraction SET shard_row = 77 WHERE shard_row = 1", "row"),
        ("UPDATE shard SET rows = rows + 1", "rows"),
        ("UPDATE shard SET bytes = bytes + 1", "size"),
        ("UPDATE constituent SET version = 'another' WHERE name = 'mel'", "attributes"),
        ("UPDATE constituent SET spec = spec || '{\"code_version\": 99}' WHERE name = 'mel'", "attributes"),
        ("UPDATE checkpoint SET checksum = 'other'", "checksum"),
        ("UPDATE generation SET path = path || '.gone'", "missing"),
    ],
)  # fmt: skip
def test_rows_that_are_not_what_was_stored_are_found(full: Store, damage: str, kind: str) -> None:
    if kind == "constraint":
        with pytest.raises(Exception, match="dimension"):
            execute(full, damage)
        return
    execute(full, damage)
    findings = verify(full).findings
    assert kinds(findings) == {kind}
    assert all(finding.clip or finding.file for finding in findings)


@pytest.mark.parametrize(("parent", "name"), [("face_embedding", "face_dlib"), ("extraction", "mel")])
def test_a_flipped_bit_in_a_table_is_found_by_postgresql_and_named(
    full: Store, pg_home: Path, parent: str, name: str
) -> None:
    (row,) = full.query("SELECT id FROM constituent WHERE name = :name", name=name)
    table = f"{parent}_{row['id']}"
    with full.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in ("CREATE EXTENSION pg_buffercache", "CHECKPOINT"):
            connection.exec_driver_sql(statement)
        (file,) = connection.exec_driver_sql(f"SELECT pg_relation_filepath('{table}')").one()
        connection.exec_driver_sql(f"SELECT pg_buffercache_evict_relation('{table}')")
        with flipped(pg_home / "pg" / file, 8192 - 100):
            findings = verify(full).findings
        connection.exec_driver_sql(f"SELECT pg_buffercache_evict_relation('{table}')")
    assert {(f.kind, (f.constituent or "").partition("@")[0]) for f in findings} == {("database", name)}
    assert verify(full).findings == []


def test_a_missing_shard_is_damage_and_an_unknown_one_is_not(full: Store) -> None:
    shard = next(full.shards.rglob("*.h5"))
    shutil.copy(shard, shard.with_name("copy.h5"))
    report = verify(full)
    assert (report.findings, report.unknown) == ([], 1)
    shard.unlink()
    assert kinds(verify(full).findings) == {"missing"}


def test_what_goes_while_it_is_verified_is_no_damage(full: Store) -> None:
    full.settings.shard_grace_hours = 0
    full.settings.workers = 1
    turns = iter(range(1000))

    def tidy(done: int, total: int) -> None:
        if next(turns) == 0:
            compact(full)
            assert len(collect_garbage(full, remove=True).files) == 6

    assert verify(full, progress=tidy).findings == []
    assert verify(full).shards == 3


def test_a_training_that_goes_on_is_a_note_and_no_damage(full: Store) -> None:
    execute(full, "UPDATE checkpoint SET created_at = created_at - interval '1 minute'")
    checkpoint(full, samples_seen=20)
    report = verify(full)
    assert report.findings == []
    assert ["training goes on" in note for note in report.notes] == [True]
    checkpoint(full, samples_seen=5)
    assert kinds(verify(full).findings) == {"checksum"}


def test_the_command_ends_with_1_and_names_file_and_clip(full: Store) -> None:
    def slf(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    sound = slf("--json", "verify")
    assert sound.exit_code == 0, sound.output
    assert json.loads(sound.stdout)["sound"] is True
    execute(full, "DELETE FROM face WHERE id = 1")
    damaged = slf("verify", "--since", "2020-01-01")
    assert damaged.exit_code == 1
    assert "id5000" in damaged.stdout
    assert "no_value" in damaged.stdout
    assert isinstance(slf("verify", "--since", "soon").exception, ConfigError)
    for verb in ("verify", "compact"):
        assert isinstance(slf(verb, "--constituent", "mal").exception, NotFoundInStore)


def test_pictures_made_now_have_a_checksum(full: Store) -> None:
    from slf_store.evaluation.bicubic import bicubic_probes
    from slf_store.evaluation.probes import find_run
    from slf_store.jobs.generation import _write

    lost = sorted(full.runs.rglob("*.png"))[2]
    assert full.query("SELECT count(*) AS n FROM generation WHERE checksum IS NULL") == [{"n": 1}]
    lost.unlink()
    run = find_run(full, "old")
    bicubic_probes(full, run, np.arange(1, 4), np.zeros(3, np.int64))
    values = {"run": run.id, "seed": 0, "steps": 4, "samples_seen": 10}
    _write(full, "old", values, np.array([1, 2]), {1.0: np.full((2, 128, 128, 3), 99, np.uint8)})
    assert full.query("SELECT count(*) AS n FROM generation WHERE checksum IS NOT NULL") == [{"n": 5}]
    report = verify(full)
    assert (report.findings, report.pictures) == ([], 5)
    assert collect_garbage(full).files == []


def test_gc_removes_what_nothing_needs_and_nothing_else(full: Store) -> None:
    home = full.settings.home
    run = full.runs / "old"
    partial = run / ".unet2.safetensors.partial" / "unet2.safetensors"
    garbage = [
        full.shards / "mel" / ".writing-1.h5",
        full.shards / "mel" / "lost.h5",
        run / "generated" / "7.png",
        run / "generated" / ".8.png.123",
        full.runs / "gone" / "unet1.safetensors",
        home / ".backup-1" / "shards" / "lost.h5",
    ]
    kept = [run / "unet2.safetensors", partial]
    for path in (*garbage, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    found = collect_garbage(full)
    names = {path.relative_to(home).as_posix() for path in garbage}
    assert (set(found.files), found.bytes, found.removed) == (names, 30, False)
    assert all(path.exists() for path in (*garbage, *kept))
    os.utime(partial, (1, 1))
    assert set(collect_garbage(full, remove=True).files) == {*names, partial.relative_to(home).as_posix()}
    assert [path for path in (*garbage, partial) if path.exists()] == []
    assert not (home / ".backup-1").exists()
    assert kept[0].exists()
    report: Any = verify(full)
    assert (report.findings, report.unknown) == ([], 0)
    assert collect_garbage(full).files == []
