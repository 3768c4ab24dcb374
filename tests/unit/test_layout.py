"""Layouts: the published code's, one's own from a file, and every way to get that wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from slf_store.cli.main import app
from slf_store.constituents.registry import known_extractors
from slf_store.errors import SelectionError
from slf_store.query.encode import encode_values
from slf_store.query.layout import LAYOUTS, Block, layout
from slf_store.query.layout_picture import draw_layout
from slf_store.settings import Settings

MEL = '[[block]]\nname = "mel"\nfirst = 10\nscaling = "standard"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_the_published_layout_has_the_rows_of_the_published_code() -> None:
    rows = {block.name: (block.first, block.first + block.rows - 1) for block in layout("published-code").blocks}
    assert rows == {
        "age": (0, 0),
        "ethnicity": (1, 1),
        "gender": (2, 2),
        "language": (3, 3),
        "ecapa": (4, 4),
        "pyannote": (5, 30),
        "titanet": (31, 31),
        "speakernet": (32, 32),
        "pyaudioanalysis": (33, 111),
        "mel": (112, 222),
    }


def test_the_published_attributes_fill_the_row_as_the_published_code_did() -> None:
    rows = [{"age": 40.0, "gender": "f", "ethnicity": "asian"}, dict.fromkeys(("age", "gender", "ethnicity"))]
    age, gender, ethnicity = (
        encode_values(name, [row[name] for row in rows], "published") for name in ("age", "gender", "ethnicity")
    )
    np.testing.assert_allclose(age[0][0], [0.4] * 767 + [0], rtol=1e-6)
    assert age[0][1].tolist() == [0.0] * 767 + [1.0]
    assert (gender[0][0] == -1).all()
    assert np.flatnonzero(ethnicity[0][0]).tolist() == [16]
    assert [shown.tolist() for _, shown in (age, gender, ethnicity)] == [[True, True], [True, False], [True, False]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_built_in_layouts_fit_what_is_extracted(name: str, tmp_path: Path) -> None:
    known = known_extractors(Settings(home=tmp_path))
    for block in layout(name).blocks:
        if block.name in known and not known[block.name].weights:
            rows, columns = known[block.name].spec.shape
            assert (block.skip + block.rows, block.columns) == (rows, columns)


def test_a_layout_of_ones_own_takes_what_is_left_out_from_the_constituent(tmp_path: Path) -> None:
    text = MEL + '[[block]]\nname = "pyaudioanalysis"\nfirst = 200\nskip = 70\ncolumns = 34\nscaling = "factor"\n'
    text += 'factor = 0.5\ncolumn = 7\n[[block]]\nname = "age"\nfirst = 0\nscaling = "published"\n'
    read = layout(write(tmp_path, text))
    assert read.name == "mine"
    assert read.blocks == (
        Block("mel", 10, 111, 128, "standard"),
        Block("pyaudioanalysis", 200, 9, 34, "factor", column=7, skip=70, factor=0.5),
        Block("age", 0, 1, 768, "published"),
    )
    assert [Block(**block.as_json()) for block in read.blocks] == list(read.blocks)


def test_a_built_in_layout_written_to_a_file_reads_back_the_same(tmp_path: Path) -> None:
    blocks = LAYOUTS["published-code"].blocks
    tables = ["\n".join(f"{key} = {json.dumps(value)}" for key, value in block.as_json().items()) for block in blocks]
    text = 'name = "again"\n' + "".join(f"\n[[block]]\n{table}\n" for table in tables)
    text = text.replace("column = 128\n", "column = 128\nfactor = 1.0\n")  # a factor is always said
    assert layout(write(tmp_path, text)).blocks == blocks


BAD = {
    "overlap": (MEL + MEL.replace("mel", "pyaudioanalysis"), "mel and pyaudioanalysis both take row 10"),
    "overflow of rows": (MEL.replace("10", "146"), "mel .rows 146 to 256.* does not fit into 256×768"),
    "overflow of columns": (MEL + "column = 641\n", "columns 641 to 768.* does not fit"),
    "negative row": (MEL.replace("10", "-1"), "does not fit"),
    "twice": (MEL + MEL.replace("10", "121"), "mel is there twice"),
    "unknown name": (MEL.replace("mel", "pitchfork"), "block pitchfork: there is no array constituent"),
    "no array": (MEL.replace("mel", "age_gender"), "block age_gender: there is no array constituent"),
    "image": (MEL.replace("mel", "target"), "block target: it is an image"),
    "wrong type": (MEL.replace("10", '"10"'), "block 1, first: .*valid integer"),
    "wrong type of the whole": ("block = 3\n", "block: .*valid list"),
    "unknown field": (MEL + "colour = 1\n", "block 1, colour: "),
    "missing field": ('[[block]]\nname = "mel"\nfirst = 1\n', "block 1, scaling: Field required"),
    "unknown scaling": (MEL.replace("standard", "log"), "block 1, scaling: "),
    "no block": ('name = "x"\n', "block: Field required"),
    "too wide": (MEL + "columns = 129\n", "block mel: 129 columns, where mel has 128"),
    "other rows": (MEL + "rows = 110\n", "block mel: 110 rows, where mel has 111"),
    "other rows after skipping": (MEL + "rows = 110\nskip = 2\n", "110 rows after 2 skipped, where mel has 111"),
    "half an attribute": (
        '[[block]]\nname = "age"\nfirst = 0\ncolumns = 1\nscaling = "attribute"\n',
        "block age: 1 columns, where age needs 2",
    ),
    "scaling of an attribute": (MEL.replace("standard", "attribute"), "block mel: 'attribute' is for attributes"),
    "scaling of a constituent": (MEL.replace("mel", "age"), "block age: 'standard' is no scaling of an attribute"),
    "factor without its scaling": (MEL + "factor = 2.0\n", "block mel: factor goes with scaling 'factor'"),
    "scaling without its factor": (MEL.replace("standard", "factor"), "block mel: factor goes with"),
    "factor that is no number": (MEL.replace("standard", "factor") + "factor = inf\n", "block 1, factor: .*finite"),
    "size not known": (MEL.replace("mel", "pyannote"), "block pyannote: its size is not known here"),
    "a name that is taken": ('name = "slf-256x768"\n' + MEL, "'slf-256x768' is a built-in layout's"),
    "no TOML": ("[[block\n", "is no TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_layout_is_refused_with_file_block_and_reason(case: str, tmp_path: Path) -> None:
    text, says = BAD[case]
    with pytest.raises(SelectionError, match=says) as caught:
        layout(write(tmp_path, text))
    assert "mine.toml" in caught.value.what
    assert caught.value.hint


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"none\.toml cannot be read: No such file"):
        layout(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SelectionError, match=r"bytes\.toml is no TOML"):
        layout(tmp_path / "bytes.toml")


def test_the_command_lists_and_shows(tmp_path: Path) -> None:
    def slf(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["--home", str(tmp_path / "none"), *words])
        assert done.exit_code == code, done.output
        return done.output

    assert [row["name"] for row in json.loads(slf("--json", "layout", "list"))] == list(LAYOUTS)
    rows = json.loads(slf("--json", "layout", "show", "published-code"))
    assert sum(row["rows"] for row in rows) == 256
    assert rows[-1] == {"first": 223, "last": 255, "rows": 33} | dict.fromkeys(
        ("input", "columns", "column", "skip", "scaling", "factor")
    )
    assert "pyaudioanalysis" in slf("layout", "show", str(write(tmp_path, MEL.replace("mel", "pyaudioanalysis"))))
    assert "--picture" in slf("layout", "show", "slf-256x768", "--picture", "x.gif", code=2)
    assert "--picture" in slf("layout", "show", "slf-256x768", "--clip", "1", code=2)
    assert "--clip" in slf("layout", "show", "slf-256x768", "--snapshot", "x", code=2)


def test_a_picture_shows_every_block_in_a_colour_of_its_own(tmp_path: Path) -> None:
    path, chosen = tmp_path / "layout.svg", LAYOUTS["published-code"]
    draw_layout(chosen, path)
    assert path.read_bytes().startswith(b"<?xml")
    draw_layout(chosen, path.with_suffix(".png"))
    picture = np.asarray(Image.open(path.with_suffix(".png")).convert("RGB")).reshape(-1, 3).astype(int)
    colourful = picture[np.ptp(picture, axis=1) > 20]
    _, counts = np.unique(colourful, axis=0, return_counts=True)
    assert (counts > 500).sum() >= len(chosen.blocks)
    with pytest.raises(SelectionError, match="cannot be written"):
        draw_layout(chosen, tmp_path / "no folder" / "x.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layout.png", "layout.svg"]
