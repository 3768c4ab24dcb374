"""The measures, checked against their definitions."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slf_store.evaluation.candidates import propose
from slf_store.evaluation.chance import chance_identity_recall, chance_recall, hit_probability, hits_distribution
from slf_store.evaluation.fidelity import K1, K2, PEAK, SIGMA, psnr, ssim
from slf_store.evaluation.frechet import frechet_distance, frechet_estimate
from slf_store.evaluation.html import Html, facts, tag
from slf_store.evaluation.interval import bootstrap_mean, bootstrap_means
from slf_store.evaluation.paired import sign_flip_p


def noise(seed: int, size: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((128, 128, 3), np.uint8)
    assert psnr(black + np.uint8(255), black) == pytest.approx(0.0)
    assert psnr(black + np.uint8(1), black) == pytest.approx(48.1308, abs=1e-4)


def test_psnr_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    assert psnr(noise(1), noise(2)) == pytest.approx(cv2.PSNR(noise(1), noise(2)), abs=1e-9)
    assert psnr(noise(1), noise(1)) == pytest.approx(cv2.PSNR(noise(1), noise(1)))


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    a, b = 100.0, 120.0
    c1 = (K1 * PEAK) ** 2
    flat = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 120, np.uint8)
    assert ssim(*flat) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_ssim_is_the_mean_over_windows_of_equation_13() -> None:
    x, y = noise(3, 13).astype(float), (noise(3, 13) // 2 + noise(4, 13) // 2).astype(float)
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    values = []
    for top, left, channel in product(range(3), range(3), range(3)):
        a, b = (image[top : top + 11, left : left + 11, channel] for image in (x, y))
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        cov = (weights * (a - mean_a) * (b - mean_b)).sum()
        values.append(
            (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    assert ssim(x.astype(np.uint8), y.astype(np.uint8)) == pytest.approx(np.mean(values))


def test_ssim_is_that_of_scipys_gaussian() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x, y = noise(5, 128).astype(float), noise(6, 128).astype(float)

    def smooth(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, (SIGMA, SIGMA, 0), truncate=3.5)

    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    mx, my = smooth(x), smooth(y)
    vx, vy, cov = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    full = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(x.astype(np.uint8), y.astype(np.uint8)) == pytest.approx(full[5:-5, 5:-5].mean(), rel=1e-12)


def test_images_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr(noise(1, 12), noise(1, 13))


@pytest.mark.parametrize(("gallery", "same", "k"), [(7, 2, 3), (7, 0, 3), (5, 1, 5), (4, 3, 2), (3, 1, 10)])
def test_chance_is_what_enumerating_every_draw_gives(gallery: int, same: int, k: int) -> None:
    draws = list(combinations(range(gallery), min(k, gallery)))
    expected = sum(any(face < same for face in draw) for draw in draws) / len(draws)
    assert hit_probability(np.array([same]), gallery, k)[0] == pytest.approx(expected)


def test_chance_with_unequal_identities_is_what_simulation_gives() -> None:
    gallery = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
    probes = np.array([0, 1, 2, 3, 9, 0, 1])  # nobody of identity 9 is in the gallery
    same = (gallery[None] == probes[:, None]).sum(axis=1)
    generator = np.random.default_rng(0)
    runs = np.array(
        [[(gallery[generator.permutation(10)[:3]] == probe).any() for probe in probes] for _ in range(4000)]
    ).mean(axis=1)
    chance = chance_recall(same, len(gallery), 3)
    assert chance.value == pytest.approx(runs.mean(), abs=0.01)
    inside = ((runs >= chance.low) & (runs <= chance.high)).mean()
    assert inside >= 0.945
    assert chance.n == 7


def test_chance_of_the_papers_gallery() -> None:
    one_each = np.ones(118, np.int64)
    found = [round(100 * chance_recall(one_each, 118, k).value, 3) for k in (1, 3, 5, 10)]
    assert found == [0.847, 2.542, 4.237, 8.475]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.35, 0.9, 1.0]), min_size=1, max_size=12))
def test_hits_are_distributed_as_convolution_says(probability: list[float]) -> None:
    expected = np.ones(1)
    for p in probability:
        expected = np.convolve(expected, [1 - p, p])
    np.testing.assert_allclose(hits_distribution(np.array(probability)), expected, atol=1e-12)


def test_chance_interval_stays_exact_for_a_hundred_thousand_probes() -> None:
    chance = chance_recall(np.ones(100_000, np.int64), 1000, 10)
    spread = 1.96 * np.sqrt(0.01 * 0.99 / 100_000)
    assert chance.low == pytest.approx(0.01 - spread, abs=3e-5)
    assert chance.high == pytest.approx(0.01 + spread, abs=3e-5)


def test_bootstrap_of_single_faces_is_close_to_the_normal_interval() -> None:
    values = np.random.default_rng(0).random(400) < 0.3
    found = bootstrap_mean(values, np.arange(400), seed=1)
    spread = 1.96 * np.sqrt(found.value * (1 - found.value) / 400)
    assert found.low == pytest.approx(found.value - spread, abs=0.01)
    assert found.high == pytest.approx(found.value + spread, abs=0.01)


def test_bootstrap_draws_whole_identities() -> None:
    hits = np.repeat(np.random.default_rng(0).random(40) < 0.5, 25)  # a person's 25 faces fail or succeed together
    clustered = bootstrap_mean(hits, np.repeat(np.arange(40), 25), seed=1)
    single = bootstrap_mean(hits, np.arange(1000), seed=1)
    assert clustered.value == single.value
    assert clustered.high - clustered.low > 3 * (single.high - single.low)


def test_bootstrap_is_the_same_again_and_another_with_another_seed() -> None:
    values, people = np.arange(30.0), np.arange(30) // 2
    assert bootstrap_mean(values, people, seed=3) == bootstrap_mean(values, people, seed=3)
    assert bootstrap_mean(values, people, seed=3) != bootstrap_mean(values, people, seed=4)


def test_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 values"):
        bootstrap_mean(np.zeros(0), np.zeros(0), seed=0)


def test_bootstrap_of_many_columns_is_that_of_each() -> None:
    values, people = np.random.default_rng(2).random((30, 3)), np.arange(30) // 2
    for found, column in zip(bootstrap_means(values, people, seed=3), values.T, strict=True):
        assert asdict(found) == pytest.approx(asdict(bootstrap_mean(column, people, seed=3)), rel=1e-12)


def test_chance_by_identity_is_what_simulation_gives() -> None:
    gallery = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
    probes = np.array([0, 0, 0, 1, 2, 2])
    generator = np.random.default_rng(0)
    drawn = gallery[generator.permuted(np.tile(np.arange(10), (20_000, len(probes), 1)), axis=2)[:, :, :3]]
    hits = (drawn == probes[:, None]).any(axis=2)
    by_person = np.mean([hits[:, probes == person].mean(axis=1) for person in (0, 1, 2)], axis=0)
    chance = chance_identity_recall((gallery == probes[:, None]).sum(axis=1), probes, 10, 3)
    assert chance.value == pytest.approx(by_person.mean(), abs=0.005)
    assert (chance.high - chance.low) / 2 / 1.96 == pytest.approx(by_person.std(), rel=0.03)
    assert chance.n == 3


@pytest.mark.parametrize("faces", [5, 40])
def test_the_frechet_distance_is_that_of_its_definition(faces: int) -> None:
    """Also with fewer faces than dimensions, where the covariances are singular."""
    linalg = pytest.importorskip("scipy.linalg")
    generator = np.random.default_rng(faces)
    one, two = generator.normal(size=(faces, 12)), generator.normal(size=(30, 12)) * 2 + 0.3
    a, b = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    root = linalg.sqrtm(a @ b + 1e-12 * np.eye(12)).real
    expected = ((one.mean(axis=0) - two.mean(axis=0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(two, two) == pytest.approx(0, abs=1e-9)


def test_the_frechet_interval_holds_what_other_people_give() -> None:
    generator = np.random.default_rng(0)
    gallery = generator.normal(size=(300, 6))
    estimates = [
        frechet_estimate(generator.normal(size=(80, 6)) + 0.5, np.arange(80), gallery, seed=0) for _ in range(40)
    ]
    values = np.array([found.value for found in estimates if found is not None])
    inside = np.mean([found.low <= values.mean() <= found.high for found in estimates if found is not None])
    assert inside >= 0.85
    assert frechet_estimate(gallery[:2], np.arange(2), gallery, seed=0) is None


@pytest.mark.parametrize("differences", [[2, -1, 3, 0, -2, 1], [1, 1, 1, 1, 1], [0, 0], [4, -4, 1]])
def test_p_is_the_share_of_sign_flips_that_are_as_extreme(differences: list[int]) -> None:
    d = np.array(differences, float) / 4
    sums = np.array([np.dot(signs, d) for signs in product((1, -1), repeat=len(d))])
    exact = np.mean(np.abs(sums) >= abs(d.sum()) - 1e-12)
    assert sign_flip_p(d, whole=4) == (pytest.approx(exact), "exact")
    p, test = sign_flip_p(d)
    assert test == "random"
    assert p == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_no_face_that_is_not_proposed_is_nearer_than_the_floor(distance: str) -> None:
    generator = np.random.default_rng(7)
    gallery = generator.normal(size=(400, 96)).astype(np.float32)
    gallery[10:20] = gallery[0]  # equal faces
    probes = (gallery[:50] + generator.normal(size=(50, 96)) * 0.7).astype(np.float32)
    found, floor = propose(probes, gallery, 12, distance)
    wide, real = probes.astype(np.float64), gallery.astype(np.float64)
    if distance == "euclidean":
        far = np.sqrt(((wide[:, None] - real) ** 2).sum(axis=2))
    else:
        far = 1 - wide @ real.T / np.outer(np.linalg.norm(wide, axis=1), np.linalg.norm(real, axis=1))
    rest = far.copy()
    np.put_along_axis(rest, found, np.inf, axis=1)
    assert (floor <= rest.min(axis=1)).all()
    assert (rest.min(axis=1) - floor < 1e-3 * far.max()).all()  # and not far below it
    assert (np.take_along_axis(far, found, axis=1).max(axis=1) <= rest.min(axis=1) + 1e-6).all()


def test_text_in_html_is_escaped_everywhere() -> None:
    evil = '<script>"&'
    for made in (tag("p", evil, title=evil), facts([(evil, evil)])):
        assert isinstance(made, Html)
        assert "<script>" not in made
        assert "&lt;script&gt;" in made
