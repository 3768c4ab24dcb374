"""Selecting, freezing, comparing, exporting and importing snapshots; systems of one's own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from slf_store.cli.main import app
from slf_store.db.tables import SystemRow
from slf_store.errors import ConfigError, NotFoundInStore, SelectionError, ShardError, SlfError
from slf_store.jobs import sql_ingest
from slf_store.jobs.import_snapshot import import_snapshot
from slf_store.jobs.ingest import register_source
from slf_store.jobs.register import register_rows
from slf_store.jobs.training import create_run, run_row, train
from slf_store.jobs.verify import verify
from slf_store.privacy.blocklist import allow, block
from slf_store.privacy.plan import plan
from slf_store.privacy.target import Target
from slf_store.query.about import diff
from slf_store.query.clips import clips, matching
from slf_store.query.drift import changes
from slf_store.query.export import export_snapshot
from slf_store.query.exported import open_export
from slf_store.query.loader import Loader
from slf_store.query.manifest import Manifest, open_snapshot
from slf_store.query.snapshot import freeze
from slf_store.query.systems import add_system, find_system, remove_system, system
from slf_store.query.values import active_constituent
from slf_store.shards.checksum import file_checksum
from slf_store.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def frozen(extracted: Store) -> str:
    freeze(extracted, extracted.select("split = 'dev'"), "shared", validation=0.34, seed=1)
    return "shared"


@pytest.fixture(scope="module")
def export(extracted: Store, frozen: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "shared"
    export_snapshot(extracted, frozen, folder)
    return folder


def slf(store: Store, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setenv("SLF_DATABASE_URL", store.settings.database_url.get_secret_value())  # type: ignore[union-attr]
    return CliRunner().invoke(app, ["--json", "--home", str(store.settings.home), *words])


def once(manifest: Manifest, name: str = "full-input") -> list[Any]:
    return list(Loader(manifest, system(name), batch_size=5).once())


def assert_same_batches(one: Manifest, other: Manifest) -> None:
    for a, b in zip(once(one), once(other), strict=True):
        for field in ("conditioning", "mask", "guide", "target"):
            assert getattr(a, field).equal(getattr(b, field)), field


# Selection


def test_the_table_object_has_the_columns_of_the_view(extracted: Store) -> None:
    found = extracted.query("""
        SELECT attname AS name FROM pg_attribute WHERE attrelid = 'clips'::regclass AND attnum > 0 ORDER BY attnum
    """)
    assert [column.name for column in clips.c] == [row["name"] for row in found]


@pytest.mark.parametrize(
    "predicate",
    [
        "'mel' = ANY(constituents) AND NOT 'ecapa' = ANY(constituents)",
        "clip_id IN (SELECT clip_id FROM values_of('mel') WHERE value_rms > 0)",
        "face_width > 20 AND faces_in_frame = 1 AND face_confidence IS NOT NULL",
        clips.c.constituents.any("mel") & (clips.c.duration_s > 1),  # type: ignore[arg-type]
        clips.c.identity.in_(["it's nobody", "50 %"]) | clips.c.synthetic,
    ],
)
def test_a_predicate_asks_for_coverage_quality_and_faces(extracted: Store, predicate: Any) -> None:
    assert len(extracted.select(predicate, missing="skip")) == 18


def test_draws_are_the_same_whatever_else_is_there_and_groups_are_equal(extracted: Store) -> None:
    everything = extracted.select("split = 'dev'", sample=5, seed=3)
    again = extracted.select("split = 'dev' AND duration_s > 1", sample=5, seed=3)
    assert everything.clip_ids.tolist() == again.clip_ids.tolist()
    assert extracted.select("split = 'dev'", sample=5, seed=4).clip_ids.tolist() != again.clip_ids.tolist()
    # Drawn by hash: each clip of the sample is drawn from fewer clips, too.
    named = ", ".join(map(str, everything.clip_ids.tolist()))
    fewer = extracted.select(f"clip_id IN ({named})", sample=4, seed=3)
    assert set(fewer.clip_ids.tolist()) < set(everything.clip_ids.tolist())
    even = extracted.select("true", balance=["split", "gender"])
    groups = [tuple(pair) for pair in zip(even.columns["split"], even.columns["gender"], strict=True)]
    sizes = {group: groups.count(group) for group in groups}
    assert len(set(sizes.values())) == 1
    assert even.left_out["unknown"] + even.left_out["balance"] + len(even) == 18
    few = extracted.select("true", balance=["split"], sample=5)
    assert sorted(few.columns["split"].tolist()) == ["dev", "dev", "test", "test"]
    with pytest.raises(SelectionError, match="cannot balance by shoe_size"):
        extracted.select(balance=["shoe_size"])
    assert len(extracted.select("split = 'dev'", limit=2)) == 2


def test_the_report_says_what_each_policy_would_do(extracted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done = slf(extracted, monkeypatch, "select", "split = 'test'", "--sample", "3", "--seed", "2")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["clips"], report["left_out"]) == (3, {"sample": 3})
    assert report["policies"] == {
        "error": {"refused": False, "clips": 6},
        "skip": {"clips": 6, "left_out": 0},
        "zero": {"clips": 6, "left_out": 0, "masked": {}},
    }
    assert {"identities", "hours", "gender", "age_group", "ethnicity", "language"} <= report.keys()


# Snapshots


def test_an_export_gives_the_same_batches_without_a_database(extracted: Store, frozen: str, export: Path) -> None:
    assert sorted(path.name for path in export.iterdir()) == ["NOTICE.txt", "clips.parquet", "shards", "snapshot.json"]
    for part in ("all", "train", "validation"):
        assert_same_batches(open_export(export, part), open_snapshot(extracted, frozen, part))  # type: ignore[arg-type]
    (row,) = extracted.query("SELECT detail FROM audit_log WHERE action = 'export'")
    assert row["detail"]["folder"] == str(export)
    with pytest.raises(ConfigError, match="is there already"):
        export_snapshot(extracted, frozen, export)


def test_an_import_has_the_same_hash_batches_and_loss_and_refuses_the_blocked(
    extracted: Store, frozen: str, export: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = json.loads((export / "snapshot.json").read_text("utf-8"))
    somebody = extracted.select("split = 'dev'").columns["identity"][0]
    with store.engine.begin() as connection:
        block(connection, store.settings.home, "identity", [(somebody,)])
    with pytest.raises(SelectionError, match="2 of its clips are of people who were erased"):
        import_snapshot(store, export)
    assert store.query("SELECT count(*) AS n FROM source") == [{"n": 0}]
    assert [path for path in store.shards.rglob("*") if path.is_file()] == []
    with store.engine.begin() as connection:
        allow(connection, store.settings.home, (somebody,))
        connection.exec_driver_sql("""
            INSERT INTO constituent (name, version, kind, shape, dtype, spec, created_at)
            VALUES ('mel', 'of its own', 'array', '{111,128}', 'float16', '{}', '2020-01-01')
        """)
    imported = import_snapshot(store, export)
    with store.engine.begin() as connection:
        assert active_constituent(connection, "mel")["version"] == "of its own"
        connection.exec_driver_sql("DELETE FROM constituent WHERE version = 'of its own'")
    assert (imported.hash, imported.clips, imported.new) == (about["hash"], 12, True)
    assert not import_snapshot(store, export).new
    assert verify(store).findings == []
    manifest = open_snapshot(store, frozen)
    assert_same_batches(manifest, open_snapshot(extracted, frozen))
    again = freeze(store, store.select("split = 'dev'"), "again", validation=0.34, seed=1)
    assert again.hash == about["hash"]
    from slf_store.jobs.queue import add_missing

    keys = [row["id"] for row in store.query("SELECT id FROM constituent")]
    add_missing(store.engine, keys)
    assert store.query("SELECT count(*) AS n FROM extraction WHERE state <> 'done'") == [{"n": 0}]
    losses = []
    for where in (extracted, store):
        monkeypatch.setenv("SLF_HOME", str(where.settings.home))
        create_run(where, "one step", snapshot=frozen, system_name="full-input", preset="tiny", seed=0)
        losses.append(train(where, "one step", 1, samples=16).loss)
    assert losses[0] is not None
    assert losses[0] == losses[1]


@pytest.mark.parametrize("file", ["clips.parquet", "snapshot.json", "shard"])
def test_a_damaged_export_is_refused_and_leaves_nothing(
    extracted: Store, export: Path, tmp_path: Path, file: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    path = sorted(copy.rglob("*.h5"))[0] if file == "shard" else copy / file
    if file == "snapshot.json":
        about = json.loads(path.read_text("utf-8"))
        about["normalisation"]["mel"]["mean"][0] += 1e-9
        about["hash"], about["name"] = about["hash"][::-1], "another"
        path.write_text(json.dumps(about))
    else:
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(bytes(damaged))
    before = extracted.query("SELECT count(*) AS n FROM source"), sorted(extracted.shards.rglob("*.h5"))
    if file == "shard":
        json_file = copy / "snapshot.json"
        json_file.write_text(json_file.read_text("utf-8").replace('"hash": "', '"hash": "0'))
    with pytest.raises(ShardError, match=r"was exported|have hash"):
        import_snapshot(extracted, copy, name="damaged")
    assert before == (extracted.query("SELECT count(*) AS n FROM source"), sorted(extracted.shards.rglob("*.h5")))


HOSTILE: dict[str, Callable[[Any], Any]] = {
    "no constituents": lambda about: about.pop("constituents"),
    "another format": lambda about: about.update(format=99),
    "a negative count": lambda about: about.update(clips=-1),
    "a path upwards": lambda about: about["constituents"][0]["files"][0].update(path="../../etc/passwd"),
    "an absolute path": lambda about: about["manifest"].update(path="/etc/passwd"),
    "Python objects": lambda about: about["constituents"][0].update(dtype="O"),
    "rows that no file has": lambda about: about["constituents"][0]["files"][0].update(rows=1),
    "blocks that are none": lambda about: about["layout"].update(blocks=[{"first": "x"}]),
    "statistics that are none": lambda about: about["normalisation"].update(mel={"mean": "much"}),
}


@pytest.mark.parametrize("what", [*HOSTILE, "no JSON", "no Parquet", "no columns", "nothing", "a folder"])
def test_a_hostile_export_is_one_clear_error(export: Path, tmp_path: Path, what: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    copy = tmp_path / "copy"
    shutil.copytree(export, copy, copy_function=os.link)
    path, clips = copy / "snapshot.json", copy / "clips.parquet"
    about = json.loads(path.read_text("utf-8"))
    path.unlink()
    if what in HOSTILE:
        HOSTILE[what](about)
    elif what in ("no Parquet", "no columns"):
        clips.unlink()
        if what == "no Parquet":
            clips.write_bytes(b"PAR1 no table PAR1")
        else:
            pq.write_table(pa.table({"position": [0]}), clips)
        about["manifest"]["checksum"] = file_checksum(clips)
    if what == "a folder":
        path.mkdir()
    elif what != "nothing":
        path.write_text("{" * 100_000 if what == "no JSON" else json.dumps(about))
    with pytest.raises(SlfError) as error:
        open_export(copy)
    assert str(copy) in str(error.value) or "clips.parquet" in str(error.value)


def test_a_name_may_hold_any_character(store: Store) -> None:
    with store.engine.begin() as connection:
        source = register_source(connection, Path("/made/up"), "made up", "folder")["id"]
        connection.execute(sql_ingest.NEW_PLACES, {"source_id": source, "splits": ["dev"]})
    facts = ("ok", None, None, 1.0, 25.0, 25, 64, 64, True, 16000, 1, 10, 20, "sum", None, None, None, None)
    names = ["a\x1eb", "\x1f", 'c"d\\', "line\nbreak", "%s", "é"]
    register_rows(store.engine, source, [(name, "dev", "v", "c", "p", *facts) for name in names])
    found = matching(store, "true")
    assert sorted(found["identity"].tolist()) == sorted(names)
    assert set(found["gender"].tolist()) == {None}
    assert len(store.clips().to_arrow()) == len(names)


def test_an_import_writes_nowhere_else(store: Store, export: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    about = json.loads((copy / "snapshot.json").read_text("utf-8"))
    entry = about["constituents"][0]
    entry["name"] = entry["spec"]["name"] = "../../elsewhere"
    (copy / "snapshot.json").write_text(json.dumps(about))
    with pytest.raises(ShardError, match="elsewhere"):
        import_snapshot(store, copy)


def test_an_erasure_names_the_copies_it_cannot_reach(extracted: Store, frozen: str, export: Path) -> None:
    somebody = str(extracted.select("split = 'dev'").columns["identity"][0])
    assert str(export) in plan(extracted, Target(somebody)).exports


def test_a_snapshot_that_no_longer_matches_says_what_changed(extracted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(extracted, extracted.select("split = 'test'", missing="zero"), "watched")
    assert changes(extracted, "watched") == []
    clip = int(open_snapshot(extracted, "watched").clip_ids[2])
    change = "UPDATE extraction SET value_hash = value_hash {} 1 WHERE clip_id = %s AND constituent_id = %s"
    (row,) = extracted.query("SELECT id, version FROM constituent WHERE name = 'mel' AND status = 'active'")
    with extracted.engine.begin() as connection:
        connection.exec_driver_sql(change.format("+"), (clip, row["id"]))
    try:
        with pytest.raises(ShardError, match=r"watched no longer matches the store: mel@\w+: 1 clips changed \(.*/"):
            open_snapshot(extracted, "watched")
        shown = slf(extracted, monkeypatch, "snapshot", "show", "watched")
        assert shown.exit_code == 1
        (said,) = json.loads(shown.stdout)["changes"]
        assert (said["constituent"], said["what"], said["clips"]) == (f"mel@{row['version']}", "changed", 1)
    finally:
        with extracted.engine.begin() as connection:
            connection.exec_driver_sql(change.format("-"), (clip, row["id"]))
    shown = slf(extracted, monkeypatch, "snapshot", "show", "watched")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["clips"] == 6


def test_two_snapshots_are_compared(extracted: Store, frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(extracted, extracted.select("split = 'dev'", per_identity=1), "fewer", validation=0.34, seed=1)
    found = diff(extracted, frozen, "fewer")
    assert (found["same"], found["clips_removed"], found["clips_added"]) == (False, 6, 0)
    assert found["constituents"] == []  # of the clips both have every value is the same
    assert found["normalisation"] == "differs"
    assert diff(extracted, frozen, frozen)["same"]
    for words in (("list",), ("diff", frozen, "fewer")):
        done = slf(extracted, monkeypatch, "snapshot", *words)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)
    assert slf(extracted, monkeypatch, "snapshot", "diff", frozen, "nobody").exit_code == 1


# Systems


def test_a_system_of_ones_own_is_trained_and_its_runs_stay_as_they_were(
    extracted: Store, frozen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ninclude = ["classical", "camp*"]\nexclude = ["pyaudioanalysis"]\nguide = false\n')
    assert slf(extracted, monkeypatch, "system", "add", str(file)).exit_code == 0
    with pytest.raises(SelectionError, match="already"):
        add_system(extracted, file)
    assert not extracted.system("mine").guide
    shown = json.loads(slf(extracted, monkeypatch, "system", "show", "mine").stdout)
    assert shown["inputs"] == ["camplusplus", "mel"]
    chosen = extracted.select("split = 'dev'", system="mine")
    assert chosen.constituents == ("target", "image_guide", "camplusplus", "mel")
    create_run(extracted, "run of mine", snapshot=frozen, system_name="mine", preset="tiny", seed=0)
    assert train(extracted, "run of mine", 1, samples=8).samples_seen >= 8
    assert remove_system(extracted, "mine") == ["run of mine"]
    with pytest.raises(SelectionError, match="no system 'mine'"):
        find_system(extracted, "mine")
    row = run_row(extracted, "run of mine")
    assert (row["inputs"], row["guide"]) == (["camplusplus", "mel"], False)
    assert train(extracted, "run of mine", 1, samples=16).samples_seen >= 16  # goes on without it
    with pytest.raises(NotFoundInStore):
        remove_system(extracted, "mine")
    file.write_text('name = "mine"\ninclude = ["mel"]\nguide = false\n')
    add_system(extracted, file)
    with pytest.raises(ConfigError, match="'mine' is another one"):
        create_run(extracted, "run of mine", snapshot=frozen, system_name="mine", preset="tiny", seed=0)
    remove_system(extracted, "mine")
    assert extracted.query(f"SELECT count(*) AS n FROM {SystemRow.__tablename__}") == [{"n": 0}]
    with pytest.raises(ConfigError, match="needs no training"):
        create_run(extracted, "guess", snapshot=frozen, system_name="random", preset="tiny", seed=0)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ('name = "x"\ninclude = ["melody"]\nguide = true', "no input fits 'melody'"),
        ('name = "x"\ninclude = "mel"\nguide = true', "lists of names"),
        ('name = "x"\nguide = true', "include missing"),
        ('name = "full-input"\ninclude = []\nguide = true', "built-in"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_wrong_system_is_refused_with_file_and_reason(
    extracted: Store, tmp_path: Path, said: str, match: str
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(said)
    with pytest.raises(SelectionError, match=f"{file.name}.*{match}"):
        add_system(extracted, file)


def test_blocks_of_any_size_give_the_same_statistics() -> None:
    from slf_store.query.statistics import column_statistics

    for columns in (1, 5):
        values = np.random.default_rng(columns).normal(size=(97, 3, columns)).astype(np.float16)
        whole = column_statistics(lambda v=values: [v], columns)  # type: ignore[misc]
        for size in (1, 10, 96):
            cut = [values[i : i + size] for i in range(0, len(values), size)]
            assert column_statistics(lambda c=cut: c, columns) == whole  # type: ignore[misc]
    flat = values.reshape(-1, columns)
    assert whole["mean"] == flat.mean(axis=0, dtype=np.float64).tolist()
    assert whole["std"] == flat.std(axis=0, dtype=np.float64).tolist()
