"""Metadata files as they are published and as people make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slf_store.dataset.metadata import read_metadata
from slf_store.errors import DatasetError


def written(folder: Path, text: str) -> Path:
    path = folder / "meta.csv"
    path.write_bytes(text.encode())
    return path


def test_vox1_meta_has_tabs_nationalities_and_names(tmp_path: Path) -> None:
    text = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tNobody_At_All\tm\tIreland\tdev\n"
    found = read_metadata(written(tmp_path, text))["id10001"]
    assert (found.gender, found.split) == ("m", "dev")
    assert found.row["VGGFace1 ID"] == "Nobody_At_All"
    assert found.row["Nationality"] == "Ireland"


@pytest.mark.parametrize(
    "header",
    [
        "Set,Gender,VoxCeleb2 ID,VGGFace2 ID",
        "set , SEX, voxceleb2_id , VGGFace2 ID ",
        "Split,gender,Speaker-ID,x",
        "subset,Gender,identity,id",
    ],
)
def test_columns_may_be_reordered_and_renamed(tmp_path: Path, header: str) -> None:
    found = read_metadata(written(tmp_path, f"{header}\r\ntest ,f , id00017 ,n1\r\n"))
    assert {name: (said.gender, said.split) for name, said in found.items()} == {"id00017": ("f", "test")}


def test_a_column_of_another_name_is_mapped(tmp_path: Path) -> None:
    path = written(tmp_path, "Who,Geschlecht,Colour\nada,f,blue\n")
    with pytest.raises(DatasetError, match=r"line 1: no identity column.*Who"):
        read_metadata(path)
    found = read_metadata(path, {"identity": "who", "gender": "Geschlecht"})
    assert (found["ada"].gender, found["ada"].row["Colour"]) == ("f", "blue")
    with pytest.raises(DatasetError, match=r"line 1: no column 'Name' for identity"):
        read_metadata(path, {"identity": "Name"})
    with pytest.raises(DatasetError, match="no column can mean 'face'"):
        read_metadata(path, {"face": "Who"})


def test_blank_lines_and_separators_at_the_end_do_not_matter(tmp_path: Path) -> None:
    found = read_metadata(written(tmp_path, "\r\n\r\nid,gender,\r\nid1,,\r\n\r\nid2,m\r\n , ,\r\n"))
    assert {name: said.gender for name, said in found.items()} == {"id1": None, "id2": "m"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n\nid,gender\n\nid1,f\nid2,9\n", "line 6, column gender: '9'"),
        ("id,gender\n,f\n", "line 2, column id: is empty"),
        ("id,gender\nid1,f\nid1,m\n", "line 3, column id: has 'id1' a second time, and otherwise than line 2"),
        ("id,gender,Gender\nid1,f,m\n", "line 1: two columns 'gender'"),
        ('id,note\nid1,"two\nlines"\nid2\n', r"line 4: 1 columns, 2 in the header \(no 'note'\)"),
    ],
)
def test_what_cannot_be_mapped_names_file_line_and_column(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DatasetError, match=r"meta\.csv.*" + says):
        read_metadata(written(tmp_path, text))


def test_the_same_row_twice_is_no_mistake(tmp_path: Path) -> None:
    assert len(read_metadata(written(tmp_path, "id,gender\nid1,f\nid1,f\n"))) == 1
