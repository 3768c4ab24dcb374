"""Order, layout, systems, encoding: pure functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slf_store.errors import SelectionError
from slf_store.query.encode import ENCODERS, encode_values
from slf_store.query.layout import LAYOUTS, Block, Layout, layout
from slf_store.query.order import order, samples_at
from slf_store.query.selection import refuse_twins
from slf_store.query.snapshot import split_identities
from slf_store.query.systems import SYSTEMS, system


@given(seed=st.integers(0, 2**32), epoch=st.integers(0, 50), n=st.integers(1, 60))
def test_an_epoch_is_a_permutation(seed: int, epoch: int, n: int) -> None:
    assert sorted(order(seed, epoch, n).tolist()) == list(range(n))
    assert order(seed, epoch, n).tolist() == order(seed, epoch, n).tolist()


@given(n=st.integers(1, 40), start=st.integers(0, 200), first=st.integers(0, 60), second=st.integers(0, 60))
def test_positions_continue_wherever_they_are_cut(n: int, start: int, first: int, second: int) -> None:
    whole = samples_at(start, first + second, seed=3, n=n)
    parts = [samples_at(start, first, seed=3, n=n), samples_at(start + first, second, seed=3, n=n)]
    assert whole.tolist() == np.concatenate(parts).tolist()


def test_the_layout_is_the_design() -> None:
    chosen = layout("slf-256x768")
    used = {row for block in chosen.blocks for row in range(block.first, block.first + block.rows)}
    assert used == set(range(256)) - {60, 61, *range(252, 256)}
    assert (chosen.block("pyannote").first, chosen.block("pyannote").rows) == (19, 37)
    assert SYSTEMS["full-input"].sees(chosen) == [block.name for block in chosen.blocks]


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ((Block("a", 0, 2, 5, "unit"), Block("b", 1, 1, 5, "unit")), "a and b both take row 1"),
        ((Block("a", 255, 2, 5, "unit"),), "does not fit"),
        ((Block("a", 0, 1, 769, "unit"),), "does not fit"),
    ],
)
def test_overlap_and_overflow_are_refused(blocks: tuple[Block, ...], says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        Layout("mine", blocks)


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(SelectionError, match="full-input"):
        system("everything")
    with pytest.raises(SelectionError, match="slf-256x768"):
        layout("square")
    with pytest.raises(SelectionError, match="no rows for 'pitch'"):
        LAYOUTS["slf-256x768"].block("pitch")


def test_systems_see_what_the_paper_gave_them() -> None:
    assert not system("audio-only").guide
    assert "mel" not in system("speaker-embeddings-only").inputs
    assert system("pure-super-resolution").sees(layout("slf-256x768")) == []
    assert "camplusplus" not in system("no-speaker-embeddings").inputs
    assert system("no-audio").sees(layout("slf-256x768")) == ["age", "gender", "ethnicity"]
    assert not system("random").trained


def test_unknown_attributes_are_masked_and_age_says_so() -> None:
    rows = [{"age": 40, "gender": "f", "ethnicity": "white", "language": "English"}, dict.fromkeys(ENCODERS)]
    encoded = {name: encode_values(name, [row[name] for row in rows]) for name in ENCODERS}
    np.testing.assert_allclose(encoded["age"][0], [[0.4, 0], [0, 1]], rtol=1e-6)
    assert encoded["gender"][0].tolist() == [[1, 0], [0, 0]]
    assert {name: visible.tolist() for name, (_, visible) in encoded.items()} == {
        "age": [True, True],
        "gender": [True, False],
        "ethnicity": [True, False],
        "language": [True, False],
    }


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30), st.floats(0, 0.9), st.integers(0, 5))
def test_an_identity_is_in_one_part_only(names: list[str], share: float, seed: int) -> None:
    parts = split_identities(names, share, seed)
    for name in set(names):
        assert len({part for part, other in zip(parts, names, strict=True) if other == name}) == 1


def test_a_clip_that_two_sources_have_is_refused() -> None:
    columns = {name: np.array(["dev", "dev"], object) for name in ("split", "identity", "video", "clip")}
    with pytest.raises(
        SelectionError, match="1 clips are there twice, the first: dev/dev/dev/dev in sources 'a' and 'b'"
    ):
        refuse_twins({**columns, "source": np.array(["a", "b"], object)})


def test_a_split_share_out_of_range_is_refused() -> None:
    with pytest.raises(SelectionError, match="share"):
        split_identities([], 1.0, 0)
