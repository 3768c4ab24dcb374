"""Layouts on a real store: batches under each are the plain assembly's, and a clip can be looked at."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.query.clip_matrix import clip_matrix
from slf_store.query.layout import layout
from slf_store.query.layout_picture import draw_layout
from slf_store.query.loader import Loader
from slf_store.query.manifest import open_snapshot
from slf_store.query.plain import assemble_plain
from slf_store.query.selection import select
from slf_store.query.snapshot import freeze
from slf_store.query.systems import system
from slf_store.store import Store

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "layout.md"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of docs/layout.md."""
    path = tmp_path_factory.mktemp("layout") / "own.toml"
    path.write_text(re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.S)[0])
    return path


@pytest.mark.parametrize("name", ["published-code", "own"])
def test_batches_under_another_layout_are_the_plain_assemblys(extracted: Store, own: Path, name: str) -> None:
    chosen = str(own) if name == "own" else name
    freeze(extracted, select(extracted, "split = 'test'", layout_name=chosen), f"layout {name}")
    manifest = open_snapshot(extracted, f"layout {name}")
    assert manifest.layout == layout(chosen)
    full = system("full-input")
    plain = [assemble_plain(manifest, full, i) for i in range(len(manifest))]
    for batch in islice(Loader(manifest, full, batch_size=1, writable=True).batches(), 24):  # memory is used again
        (i,) = np.flatnonzero(manifest.clip_ids == batch.clip_ids[0])
        assert batch.conditioning[0].numpy().tobytes() == plain[i][0].tobytes()
        batch.conditioning.fill_(7)
        del batch
    (batch,) = Loader(manifest, full, batch_size=6).once()
    for i, (expected, visible) in enumerate(plain):
        assert batch.conditioning[i].numpy().tobytes() == expected.tobytes()
        assert batch.mask[i].tolist() == visible.tolist()
    filled = np.abs(batch.conditioning.numpy()).max(0) > 0
    rows, columns = manifest.layout.block("pyaudioanalysis").area
    assert filled[rows].any(1).all()
    assert np.flatnonzero(filled[rows].any(0)).tolist() == list(range(columns.start, columns.stop))
    stored = extracted.constituent("pyaudioanalysis").read(manifest).values.astype(np.float32)
    block = manifest.layout.block("pyaudioanalysis")
    by_hand = np.clip(stored[:, block.skip :, : block.columns] * np.float32(0.01), -10, 10)
    np.testing.assert_allclose(batch.conditioning.numpy()[:, rows, columns], by_hand, rtol=1e-6)


def test_a_layout_is_part_of_the_hash(extracted: Store, own: Path, tmp_path: Path) -> None:
    hashes = set()
    for text in (own.read_text(), own.read_text().replace("column = 60", "column = 61")):
        path = tmp_path / "own.toml"
        path.write_text(text)
        chosen = select(extracted, "split = 'test'", layout_name=str(path))
        hashes.add(freeze(extracted, chosen, f"hash {len(hashes)}").hash)
    assert len(hashes) == 2


def test_a_layout_has_to_fit_the_stores_constituents(extracted: Store, own: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[[block]]\nname = "mel"\nfirst = 0\nrows = 100\nscaling = "standard"\n')
    with pytest.raises(SelectionError, match=r"mine\.toml, block mel: 100 rows, where mel has 111"):
        select(extracted, layout_name=str(mine))


def test_the_matrix_of_a_clip_is_the_one_it_is_trained_on(extracted: Store, tmp_path: Path) -> None:
    freeze(extracted, select(extracted, "split = 'dev'"), "looked at")
    manifest = open_snapshot(extracted, "looked at")
    clip = int(manifest.clip_ids[3])
    (row,) = extracted.query("SELECT source, identity, video, clip FROM clips WHERE clip_id = :id", id=clip)
    chosen = layout("slf-256x768")
    shown = clip_matrix(extracted, chosen, "/".join(row.values()), "looked at")
    expected, visible = assemble_plain(manifest, system("full-input"), 3)
    assert (shown.values.tobytes(), shown.mask.tolist()) == (expected.tobytes(), visible.tolist())
    assert shown.synthetic
    alone = clip_matrix(extracted, chosen, str(clip))
    rows, columns = chosen.block("mel").area
    np.testing.assert_allclose(alone.values[rows, columns].mean(0), 0, atol=1e-2)
    assert alone.mask.tolist() == visible.tolist()
    draw_layout(chosen, tmp_path / "with.png", alone)
    draw_layout(chosen, tmp_path / "without.png")
    assert Image.open(tmp_path / "with.png").width > Image.open(tmp_path / "without.png").width


def test_clips_that_cannot_be_shown_are_named(extracted: Store) -> None:
    freeze(extracted, select(extracted, "split = 'dev'"), "without the test part")
    chosen = layout("slf-256x768")
    with pytest.raises(NotFoundInStore, match="no clip '123456'"):
        clip_matrix(extracted, chosen, "123456")
    with pytest.raises(NotFoundInStore, match="no clip 'a/b/c/d'"):
        clip_matrix(extracted, chosen, "a/b/c/d")
    with pytest.raises(SelectionError, match="clip 'a/b'"):
        clip_matrix(extracted, chosen, "a/b")
    other = extracted.query("SELECT clip_id FROM clips WHERE split = 'test' LIMIT 1")[0]["clip_id"]
    with pytest.raises(NotFoundInStore, match="does not hold clip"):
        clip_matrix(extracted, chosen, str(other), "without the test part")
