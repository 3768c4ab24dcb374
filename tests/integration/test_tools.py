"""Other tools on a store: Arrow, DuckDB, pandas, numpy; docs/tools.md as it is written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from slf_store.db.readonly import run_text
from slf_store.errors import ConfigError, NotFoundInStore, SelectionError
from slf_store.query import arrow
from slf_store.query.selection import select
from slf_store.store import Store

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"
ORDER = 'ORDER BY split COLLATE "C", identity COLLATE "C", video COLLATE "C", clip COLLATE "C", source COLLATE "C"'


def plainly(store: Store, clip_ids: np.ndarray[Any, Any], name: str) -> tuple[np.ndarray[Any, Any], list[bool]]:
    """A constituent's values by SQL and h5py, row by row."""
    (kind,) = store.query("SELECT shape, dtype FROM constituent WHERE name = :name AND status = 'active'", name=name)
    values, present = np.zeros((len(clip_ids), *kind["shape"]), kind["dtype"]), []
    for i, clip in enumerate(clip_ids.tolist()):
        rows = store.query(
            """SELECT path, shard_row FROM extraction JOIN shard ON shard.id = shard_id
               JOIN constituent ON constituent.id = extraction.constituent_id
               WHERE clip_id = :clip AND name = :name AND status = 'active' AND extraction.state = 'done'""",
            clip=clip,
            name=name,
        )
        for row in rows:
            with h5py.File(store.shards / row["path"]) as file:
                values[i] = file["values"][row["shard_row"]]
        present.append(bool(rows))
    return values, present


def test_the_page_runs_as_it_is_written(
    extracted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extracted.settings.database_url is not None
    monkeypatch.setenv("SLF_DATABASE_URL", extracted.settings.database_url.get_secret_value())
    monkeypatch.chdir(tmp_path)
    Path(".slf").symlink_to(extracted.settings.home)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert len(blocks) >= 6
    exec("".join(blocks), names)
    names["store"].close()
    female = extracted.query("SELECT count(*) AS n FROM clips WHERE gender = 'f'")[0]["n"]
    assert (len(names["clips"]), len(names["frame"]), len(names["ids"]), names["rows"]) == (12, female, female, 18)
    by_gender = extracted.query(
        """SELECT gender, count(*) AS clips, avg(duration_s) AS mean FROM clips
           WHERE split = 'dev' GROUP BY gender ORDER BY gender"""
    )
    assert names["by_gender"].fetchall() == [tuple(row.values()) for row in by_gender]
    assert capsys.readouterr().out.split()[0] == names["mel"].version
    assert names["total"] != 0
    assert Path("clips.parquet").read_bytes()[:4] == b"PAR1"


def test_a_table_holds_what_sql_gives(extracted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "ROWS", 5)
    rows = run_text(extracted.engine, f"SELECT * FROM clips {ORDER}")
    table = extracted.clips().to_arrow()
    assert table.column("clip_id").num_chunks == 4
    assert table.column_names == list(rows[0])
    for name in table.column_names:
        if not isinstance(rows[0][name], dict | list):
            assert table.column(name).to_pylist() == [row[name] for row in rows]
    chosen = select(extracted, "split = 'test'")
    backwards = chosen.clip_ids[::-1]
    assert extracted.clips(backwards).to_arrow().column("clip_id").to_pylist() == backwards.tolist()
    assert extracted.clips(chosen).to_arrow().column("clip_id").to_pylist() == chosen.clip_ids.tolist()
    assert extracted.clips(np.array([], np.int64)).to_arrow().num_rows == 0
    assert extracted.clips("false").to_arrow().column_names == table.column_names


def test_nothing_null_empty_and_many_lines_are_kept_apart() -> None:
    import pyarrow as pa

    schema = pa.schema([("a", pa.string()), ("b", pa.list_(pa.string())), ("c", pa.bool_()), ("d", pa.float64())])
    block = b',,,\n"","",t,0.1\n"a\n""b"",","x\x1fy, z",f,NaN\n'
    rows = arrow._parse(block, schema).to_pylist()
    assert rows[:2] == [dict.fromkeys("abcd"), {"a": "", "b": [], "c": True, "d": 0.1}]
    assert (rows[2]["a"], rows[2]["b"], rows[2]["c"]) == ('a\n"b",', ["x", "y, z"], False)
    assert np.isnan(rows[2]["d"])


@pytest.mark.parametrize(
    ("predicate", "says"),
    [
        ("no_such_column = 1", "no_such_column"),
        ("true; DROP TABLE clip", "syntax error"),
        ("true)) TO STDOUT --", "syntax error"),
        ("true) TO PROGRAM 'id' --", "syntax error"),
        ("EXISTS (SELECT FROM blocked)", "permission denied"),
        ("set_config('transaction_read_only', 'off', false) IS NULL", "permission denied"),
        ("pg_sleep(5) IS NULL", "stopped after 0.3 s"),
    ],
)
def test_a_predicate_reads_as_the_researchers_reader_or_not_at_all(
    extracted: Store, predicate: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extracted.settings, "statement_timeout_s", 0.3)
    for read in (lambda clips: clips.to_arrow(), lambda clips: clips.clip_ids):
        with pytest.raises(SelectionError, match=says):
            read(extracted.clips(predicate))


def test_a_missing_package_is_named_with_its_extra(extracted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, read in (("pyarrow", lambda c: c.to_arrow()), ("pandas", lambda c: c.to_pandas())):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=package) as caught:
            read(extracted.clips())
        assert "slf-store[tools]" in caught.value.hint
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["mel", "camplusplus", "target"])
def test_a_constituent_is_what_h5py_gives(extracted: Store, name: str) -> None:
    found = extracted.constituent(name)
    ids = np.random.default_rng(0).permutation(extracted.clips().clip_ids)
    ids = np.concatenate([ids, [10**9], ids[:4]])  # one that is not there, and some twice
    expected, present = plainly(extracted, ids, name)
    read = found.read(ids)
    assert read.values.tobytes() == expected.tobytes()
    assert read.present.tolist() == present
    assert read.present.sum() == 22
    assert (read.values.shape[1:], read.values.dtype) == (found.shape, found.dtype)
    batches = list(found.read_batches(ids, size=5))
    assert [len(batch.clip_ids) for batch in batches] == [5, 5, 5, 5, 3]
    assert b"".join(batch.values.tobytes() for batch in batches) == expected.tobytes()
    assert np.concatenate([batch.clip_ids for batch in batches]).tolist() == ids.tolist()


def test_a_version_is_named_by_its_first_letters(extracted: Store) -> None:
    mel = extracted.constituent("mel")
    assert extracted.constituent(f"mel@{mel.version[:4]}").version == mel.version
    chosen = select(extracted, "split = 'test'")
    assert mel.read(chosen).values.tobytes() == mel.read("split = 'test'").values.tobytes()
    with pytest.raises(NotFoundInStore, match="no constituent mel@zz"):
        extracted.constituent("mel@zz")
    with pytest.raises(NotFoundInStore, match="no constituent 'pitchfork'"):
        extracted.constituent("pitchfork")
    with pytest.raises(SelectionError, match="face_dlib is kept in PostgreSQL"):
        extracted.constituent("face_dlib")
    for wrong in (3, [[1, 2]], ["a"], None):
        with pytest.raises(SelectionError, match="names no clips"):
            mel.read(wrong)
    with pytest.raises(SelectionError, match="batches of 0"):
        next(mel.read_batches(size=0))
