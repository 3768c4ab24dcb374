"""FID: Inception features as pytorch-fid computes them, with RANDOM weights, and what evaluations keep of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import torch
from evaluation_world import World, new_world
from hub_files import cut, noisy_pictures, write_inception

from slf_store.constituents.inception import WEIGHTS, InceptionFeatures
from slf_store.constituents.models import list_models, model_users
from slf_store.errors import ModelUnavailable, NotFoundInStore
from slf_store.evaluation import evaluate
from slf_store.evaluation.frechet import frechet_distance, frechet_estimate
from slf_store.evaluation.picture import read_picture
from slf_store.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]

RECORDED = np.load(Path(__file__).parents[1] / "fixtures" / "fid.npz")
"""What pytorch-fid says of the same weights, pictures and vectors: `make_fid.py`."""
GALLERY = [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 24]
"""Twelve clips of seven people."""
FEW = [0, 1, 4, 8]
UNDETECTED, WITHOUT_TARGET = GALLERY[2], GALLERY[5]
CHEAP = np.random.default_rng(8).normal(size=(128, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("models") / WEIGHTS.folder / WEIGHTS.files[0]
    write_inception(file)
    return file


@pytest.fixture(scope="module")
def network(weights: Path) -> InceptionFeatures:
    torch.set_num_threads(1)
    made = InceptionFeatures(Settings(models_dir=weights.parents[1], device="cpu"))
    made.load()
    return made


@pytest.fixture(scope="module")
def world(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Twelve faces at two scales, one of them without a detected face, one without a real target."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("CREATE DATABASE fid")
    with new_world(server_url.rpartition("/")[0] + "/fid", tmp_path_factory.mktemp("fid")) as made:
        made.add_snapshot("test", GALLERY)
        made.add_snapshot("few", FEW)
        for scale in (1.0, 2.0):
            for i in GALLERY:
                made.add_generation(i, None if i == UNDETECTED else made.vectors[i], scale=scale)
        made.rows("DELETE FROM extraction WHERE clip_id = :clip", clip=int(made.clips[WITHOUT_TARGET]))
        yield made


@pytest.fixture
def fetched(world: World, weights: Path) -> Iterator[Path]:
    """The weights in the store's models folder."""
    file = world.store.settings.models / WEIGHTS.folder / WEIGHTS.files[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, file)
    yield file
    file.unlink()


def means(pictures: np.ndarray) -> np.ndarray:
    """Features that cost nothing."""
    return np.stack([picture.mean(axis=(0, 2), dtype=np.float32) @ CHEAP for picture in pictures])


@pytest.fixture
def cheap(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Another network in the place of Inception: how many pictures it was given each time."""
    given: list[int] = []

    def features(_: InceptionFeatures, pictures: np.ndarray) -> np.ndarray:
        given.append(len(pictures))
        return means(pictures)

    monkeypatch.setattr(InceptionFeatures, "load", lambda _: None)
    monkeypatch.setattr(InceptionFeatures, "features", features)
    return given


def pictures(world: World, method: str, scale: float) -> np.ndarray:
    rows = world.rows(
        "SELECT path FROM generation WHERE method = :method AND scale = :scale ORDER BY clip_id",
        method=method, scale=scale,
    )  # fmt: skip
    return np.stack([read_picture(world.store.settings.home / path) for (path,) in rows])


def kept(world: World) -> dict[tuple[str, float], dict[str, Any]]:
    rows = world.store.query("SELECT * FROM fidelity WHERE metric = 'fid' AND gallery = 'test'")
    return {(row["system"], row["scale"]): row for row in rows}


def test_features_are_those_of_pytorch_fid(network: InceptionFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = noisy_pictures(5, 4)
    monkeypatch.setattr(InceptionFeatures, "batch", {"cpu": 3})
    found = network.features(seen)
    assert (found.shape, found.dtype.name) == ((4, 2048), "float32")
    np.testing.assert_allclose(found[:, ::8], RECORDED["features"], rtol=1e-4, atol=1e-4)
    assert network.features(seen[:0]).shape == (0, 2048)


def test_the_distance_is_that_of_pytorch_fid() -> None:
    random = np.random.default_rng(6)
    one, two = random.normal(size=(400, 48)), random.normal(size=(300, 48)) * 1.5 + 0.2
    assert frechet_distance(one, two) == pytest.approx(RECORDED["distance"], rel=1e-9)


def test_the_weights_are_a_model_that_the_hub_profile_fetches(tmp_path: Path) -> None:
    hub = Settings(home=tmp_path, profile="hub")
    assert model_users(hub)[-1].name == "fid"
    assert [user.name for user in model_users(hub, ["fid", "ecapa"])] == ["ecapa", "fid"]
    assert [user.name for user in model_users(hub, ["fid"])] == ["fid"]
    assert "fid" not in [user.name for user in model_users(Settings(home=tmp_path))]
    with pytest.raises(NotFoundInStore, match="no constituent 'nothing'"):
        model_users(hub, ["fid", "nothing"])
    (row,) = [row for row in list_models(hub) if row.needed_by == ["fid"]]
    assert row.found == "no"
    assert "`slf models fid --download`" in row.next_step
    assert WEIGHTS.source_of(WEIGHTS.files[0]) == (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
    )


def test_without_weights_nothing_is_said_of_fid_and_nothing_else_changes(world: World, cheap: list[int]) -> None:
    file = world.store.settings.models / WEIGHTS.folder / WEIGHTS.files[0]
    there = file.rename(file.with_suffix(".elsewhere"))
    without = evaluate(world.store, "r", "test")
    assert kept(world) == {}
    assert cheap == []
    there.rename(file)
    filled_in = evaluate(world.store, "r", "test")
    assert [{k: v for k, v in row.items() if k != "fid"} for row in filled_in] == without
    assert [row["system"] for row in filled_in if "fid" not in row] == ["random"]
    assert set(kept(world)) == {("full-input", 1.0), ("full-input", 2.0), ("bicubic-8x8", 0.0), ("real-vs-real", 0.0)}
    again = evaluate(world.store, "r", "test", fid=False)
    assert again == without
    assert kept(world) == {}


def test_fid_compares_all_faces_with_the_gallerys_real_ones(world: World, cheap: list[int]) -> None:
    evaluate(world.store, "r", "test")
    assert cheap == [11, 12, 12, 11, 7]  # the real ones once; two scales; enlarged guides; other real faces
    clips = [i for i in GALLERY if i != WITHOUT_TARGET]
    real = means(world.targets[clips])
    rows = kept(world)
    for scale in (1.0, 2.0):
        row = rows["full-input", scale]
        made = means(pictures(world, "diffusion", scale))
        assert row["value"] == pytest.approx(frechet_distance(made, real))
        found = frechet_estimate(made, world.identities[GALLERY], real, seed=world.store.settings.seed)
        assert found is not None
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((found.low, found.high))
        assert (row["n"], row["embedding"]) == (12, "face_dlib")  # also the one without a detected face
    enlarged = rows["bicubic-8x8", 0.0]
    assert enlarged["value"] == pytest.approx(frechet_distance(means(pictures(world, "bicubic", 0.0)), real))
    assert enlarged["n"] == 11
    others = means(world.targets[[4 * person + 2 for person in range(7)]])  # the first clip of the other video
    assert rows["real-vs-real", 0.0]["value"] == pytest.approx(frechet_distance(others, real))
    assert rows["real-vs-real", 0.0]["n"] == 7


@pytest.mark.usefixtures("fetched")
def test_random_weights_fid_of_an_evaluation(world: World, network: InceptionFeatures) -> None:
    (row,) = evaluate(world.store, "r", "few", scales=[1.0], baselines=False)
    made = pictures(world, "diffusion", 1.0)[[GALLERY.index(i) for i in FEW]]
    one, two = network.features(made), network.features(world.targets[FEW])
    assert row["fid"] == pytest.approx(frechet_distance(one, two), rel=1e-4)


def test_random_weights_cut_short_are_one_clear_error(world: World, fetched: Path) -> None:
    cut(fetched)
    with pytest.raises(ModelUnavailable, match="cannot be used") as caught:
        evaluate(world.store, "r", "test", baselines=False)
    said = str(caught.value)
    assert len(said.splitlines()) == 2
    for words in (WEIGHTS.model, str(fetched.parent), fetched.name, "slf models fid --download", "--no-fid"):
        assert words in said
    assert "fid" not in evaluate(world.store, "r", "test", fid=False, baselines=False)[0]
    fetched.write_bytes(b"")
    assert not InceptionFeatures(world.store.settings).is_here
