"""Source trees and metadata files."""

from __future__ import annotations

from pathlib import Path

import pytest

from slf_store.dataset.metadata import Statement, read_metadata
from slf_store.dataset.voxceleb2 import find_layout, walk
from slf_store.errors import DatasetError


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_the_official_tree(tmp_path: Path) -> None:
    make(tmp_path, "dev/mp4/id00012/-_b/00001.mp4", "test/mp4/id00017/x/00002.mp4", "dev/mp4/id00012/-_b/notes.txt")
    assert find_layout(tmp_path) == "voxceleb2"
    found = [(f.split, f.identity, f.video, f.clip, f.path) for f in walk(tmp_path)]
    assert found == [
        ("dev", "id00012", "-_b", "00001", "dev/mp4/id00012/-_b/00001.mp4"),
        ("test", "id00017", "x", "00002", "test/mp4/id00017/x/00002.mp4"),
    ]


@pytest.mark.parametrize(("root", "split"), [("test", "test"), ("dev", "dev"), ("elsewhere", "dev")])
def test_one_split_of_it(tmp_path: Path, root: str, split: str) -> None:
    make(tmp_path, f"{root}/mp4/id1/v/1.mp4")
    assert [f.split for f in walk(tmp_path / root)] == [split]


def test_a_plain_folder(tmp_path: Path) -> None:
    make(tmp_path, "ada/a.mp4", "ada/talks/2020/b.MKV", "loose.avi", "ada/readme.md")
    found = {(f.identity, f.video, f.clip) for f in walk(tmp_path, split="test")}
    assert found == {
        ("ada", "a.mp4", "a.mp4"),
        ("ada", "talks/2020", "b.MKV"),
        (tmp_path.name, "loose.avi", "loose.avi"),
    }


def test_an_unknown_split_or_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown split"):
        list(walk(tmp_path, split="train"))
    with pytest.raises(DatasetError, match="not a folder"):
        list(walk(tmp_path / "nowhere"))


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("comma", [b",", b" ,", b"\t"])
def test_metadata_in_its_published_forms(tmp_path: Path, bom: bytes, end: bytes, comma: bytes) -> None:
    lines = [[b"VoxCeleb2 ID", b"VGGFace2 ID", b"Gender", b"Set"], [b"id00012", b"n000012", b"m ", b"dev "]]
    lines += [[b"id00017", b"n000017", b"", b"test"]]
    path = tmp_path / "meta.csv"
    path.write_bytes(bom + end.join(comma.join(line) for line in lines) + end + end)
    found = read_metadata(path)
    assert {name: meta.gender for name, meta in found.items()} == {"id00012": "m", "id00017": None}
    assert found["id00012"].row["Set"] == "dev"


def test_metadata_may_state_ages_and_languages_by_video(tmp_path: Path) -> None:
    path = tmp_path / "ages.csv"
    path.write_text(
        "Name,VoxCeleb2 ID,video_id,speaker_age,Language\nAda,id1,v1,31.5,\nAda,id1,v2,,Welsh\nBob,id2,v3,40,\n"
    )
    found = read_metadata(path)
    assert found["id1"].statements == (Statement("v1", "age", number=31.5), Statement("v2", "language", text="Welsh"))
    assert found["id2"].statements == (Statement("v3", "age", number=40.0),)
    assert found["id1"].row == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no identity column"),
        ("", "no identity column"),
        ("id,gender\nid1\n", "line 2: 1 columns, 2 in the header"),
        ("id,gender\nid1,f\nid2,9\n", "line 3, column gender: '9'"),
        ("id,age\nid1,31\nid2,old\n", "line 3, column age: 'old'"),
        ("id,age\nid1,-3\n", "line 2, column age: '-3'"),
        ("id,age\nid1,nan\n", "line 2, column age: 'nan'"),
        ("id,language\nid1,We\0lsh\n", "NUL"),
        ("id,language\nid1," + "x" * 200_000 + "\n", "field larger than"),
    ],
)
def test_metadata_that_cannot_be_understood_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "meta.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=says):
        read_metadata(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_metadata(tmp_path / "none.csv")
