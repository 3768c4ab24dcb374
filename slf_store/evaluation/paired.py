"""Two systems on the same clips: the difference, its interval, and how likely chance alone makes one as large."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from slf_store.errors import ConfigError, NotFoundInStore
from slf_store.evaluation.embedding import constituent_name
from slf_store.evaluation.interval import Estimate, bootstrap_mean
from slf_store.evaluation.measure import KS
from slf_store.evaluation.scores import COUNTED, METRICS, Scores, in_common, paired_values

if TYPE_CHECKING:
    from slf_store.store import Store

FLIPS = 10_000
"""Random sign flips where the exact distribution cannot be had: p is right to about 0.005."""
BLOCK = 1_000
"""Flips in memory at once."""
MOST = 1_000_000
"""Largest sum of differences whose exact distribution is computed: an array of twice as many numbers."""

FOUND = text("""
    -- Evaluations that a name may mean, by scale, seed and steps.
    SELECT evaluation.id, evaluation.scale, evaluation.seed, evaluation.steps
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    WHERE run.name = :run AND evaluation.system = coalesce(:baseline, run.system)
      AND gallery.name = :gallery AND evaluation.part = :part
      AND constituent.name = :embedding AND constituent.status = 'active' AND evaluation.distance = :distance
      AND (CAST(:scale AS double precision) IS NULL OR evaluation.scale = :scale)
      AND (CAST(:seed AS bigint) IS NULL OR evaluation.seed = :seed OR evaluation.system <> run.system)
      AND (CAST(:steps AS integer) IS NULL OR evaluation.steps = :steps OR evaluation.system <> run.system)
    ORDER BY evaluation.scale, evaluation.seed, evaluation.steps
""")

NAME = re.compile(r"(?P<run>[^@:]+)(:(?P<baseline>[^@:]+))?(@(?P<scale>\d+(\.\d+)?))?")


@dataclass(frozen=True)
class Difference:
    """One metric of two systems on the clips both have.

    Attributes:
        metric: `recall@1` …, `mean recall` (over every k), `psnr` (dB), `ssim`.
        a, b: means of the two.
        difference: a - b.
        low, high: its 95 % interval, bootstrap over people.
        p: two-sided, of a difference as large if it were chance which of the two a person's faces are from.
        test: `exact` sign flips of all people, or `random`: 10,000 of them.
        clips, identities: that both have.
        better, worse: people for whom a is better or worse.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    test: str
    clips: int
    identities: int
    better: int
    worse: int


def compare(
    store: Store,
    a: str,
    b: str,
    gallery: str,
    *,
    part: str = "all",
    seed: int | None = None,
    steps: int | None = None,
    embedding: str | None = None,
    distance: str = "euclidean",
) -> list[dict[str, Any]]:
    """Paired tests between two evaluated systems on the same clips.

    Seeds that both have (all, where they have none in common, or one is a baseline) are averaged by clip. p-values are
    not corrected for their number: name the metric that decides before you look.

    Args:
        store: open store.
        a, b: `RUN`, `RUN@SCALE` where several scales were evaluated, or `RUN:BASELINE` (`bicubic-8x8`, `real-vs-real`).
        gallery: snapshot both were evaluated on.
        part: of it.
        seed: of the generations; all when left out.
        steps: solver steps; needed where several were evaluated.
        embedding: face embedding constituent; that of the settings when left out.
        distance: `euclidean` or `cosine`.

    Returns:
        :class:`Difference` of each metric as dictionaries.

    Raises:
        NotFoundInStore: one was not evaluated there, or they have no clip in common.
        ConfigError: a name is none, or means several evaluations.
    """
    where = {
        "gallery": gallery, "part": part, "seed": seed, "steps": steps, "distance": distance,
        "embedding": constituent_name(store, embedding),
    }  # fmt: skip
    found = [find_evaluations(store, name, where) for name in (a, b)]
    common, either = found[0].keys() & found[1].keys(), found[0].keys() | found[1].keys()
    if not common or ":" in a + b:  # a baseline has no seed
        common = either
    read = (Scores.read(store, *(key for at, key in each.items() if at in common)) for each in found)
    one, two = in_common(*read)
    if not len(one.clips):
        raise NotFoundInStore(f"{a!r} and {b!r} have no clip of {gallery!r} in common", hint="generate for the same")
    whole = len(KS) * int(np.lcm.reduce(np.concatenate([one.seeds, two.seeds])))
    tested = []
    for metric in METRICS:
        x, y, identities = paired_values(one, two, metric)
        if len(x):
            counted = whole if metric in COUNTED else 0
            tested.append(asdict(_difference(metric, x, y, identities, counted, store.settings.seed)))
    return tested


def paired_difference(pairs: Sequence[tuple[Scores, Scores]], metric: str = "mean recall") -> Estimate | None:
    """Mean difference over the clips both have, with its 95 % interval over identities.

    Args:
        pairs: two evaluations each, one pair for each training seed.
        metric: one of :data:`slf_store.evaluation.scores.METRICS`.

    Returns:
        None where no clip is in both.
    """
    found = [paired_values(one, two, metric) for one, two in pairs]
    if not sum(len(identities) for _, _, identities in found):
        return None
    differences = np.concatenate([x - y for x, y, _ in found])
    return bootstrap_mean(differences, np.concatenate([identities for _, _, identities in found]), seed=0)


def sign_flip_p(differences: NDArray[np.float64], *, whole: int = 0, seed: int = 0) -> tuple[float, str]:
    """Two-sided p of a sum of differences if every sign were a fair coin's: Fisher's paired randomisation test.

    With one difference of -1, 0 or 1 for each person it is the exact McNemar test.

    Args:
        differences: (m,) one for each person.
        whole: a factor that makes them integers: then the distribution of all 2^m flips is computed exactly by
            convolution; 0 where there is none.
        seed: of the flips where it is not exact.

    Returns:
        p, and `exact` or `random`.

    >>> sign_flip_p(np.array([1.0, 1.0, 1.0, 0.0]), whole=1)
    (0.25, 'exact')
    """
    if whole:
        integers = np.abs(np.rint(differences * whole)).astype(np.int64)
        reach = int(integers.sum())
        if reach <= MOST:
            observed = abs(int(np.rint(differences * whole).sum()))
            sums = np.arange(-reach, reach + 1)
            p = float(_flips(integers[integers > 0])[np.abs(sums) >= observed].sum())
            return p, "exact"
    generator, observed_sum, extreme = np.random.default_rng(seed), abs(differences.sum()), 0
    tolerance = 1e-12 * np.abs(differences).sum()
    for _ in range(FLIPS // BLOCK):
        signs = generator.integers(0, 2, (BLOCK, len(differences))) * 2.0 - 1.0
        extreme += int((np.abs(signs @ differences) >= observed_sum - tolerance).sum())
    return (extreme + 1) / (FLIPS + 1), "random"


def _flips(steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distribution of a sum of integers with random signs, from the least to the greatest sum."""
    distribution = np.ones(1)
    for step in steps.tolist():
        wider = np.zeros(len(distribution) + 2 * step)
        wider[: len(distribution)] += distribution / 2
        wider[2 * step :] += distribution / 2
        distribution = wider
    return distribution


def _difference(
    metric: str, a: NDArray[np.float64], b: NDArray[np.float64], identities: NDArray[np.int64], whole: int, seed: int
) -> Difference:
    people, identity = np.unique(identities, return_inverse=True)
    by_person: NDArray[np.float64] = np.bincount(identity, weights=a - b).astype(np.float64)
    p, test = sign_flip_p(by_person, whole=whole, seed=seed)
    found = bootstrap_mean(a - b, identities, seed=seed)
    return Difference(
        metric, float(a.mean()), float(b.mean()), found.value, found.low, found.high, min(1.0, p), test, len(a),
        len(people), int((by_person > 0).sum()), int((by_person < 0).sum()),
    )  # fmt: skip


def find_evaluations(store: Store, name: str, where: dict[str, Any]) -> dict[int, int]:
    """{seed: evaluation} of a name.

    Raises:
        ConfigError, NotFoundInStore: as :func:`compare`.
    """
    said = NAME.fullmatch(name)
    if said is None:
        raise ConfigError(f"{name!r} names no system", hint="write RUN, RUN@SCALE or RUN:bicubic-8x8")
    if said["baseline"] == "random":
        raise ConfigError(
            "random selection has no faces to pair with",
            hint="its exact expectation and interval stand in `slf recall`: a recall above the interval beats it",
        )
    scale = None if said["scale"] is None else float(said["scale"])
    with store.engine.connect() as connection:
        values = {**where, "run": said["run"], "baseline": said["baseline"], "scale": scale}
        rows = connection.execute(FOUND, values).all()
    if not rows:
        raise NotFoundInStore(
            f"{name!r} has not been evaluated on {where['gallery']!r} (part {where['part']}, {where['embedding']}, "
            f"{where['distance']})",
            hint="see `slf recall` for what has, or run `slf evaluate`",
        )
    for what in ("scale", "steps"):
        several = sorted({getattr(row, what) for row in rows})
        if len(several) > 1:
            choice = f"{said['run']}@{several[0]:g}" if what == "scale" else f"--steps {several[0]}"
            raise ConfigError(
                f"{name!r} was evaluated with {what} {', '.join(f'{one:g}' for one in several)}",
                hint=f"choose one, e.g. {choice}",
            )
    return {row.seed: row.id for row in rows}
