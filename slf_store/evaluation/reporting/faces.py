"""Figure 6 (guide, generated, real) and figure 7 (one face over the conditional scale)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.errors import NotFoundInStore
from slf_store.evaluation.html import Html, join, png_image, tag
from slf_store.evaluation.picture import encode_png, read_picture
from slf_store.evaluation.reporting.study import Result, Study

if TYPE_CHECKING:
    from slf_store.store import Store

PICTURES = 96
"""In figure 6 at most, and clips: 24 of one system, fewer of more; a picture is some 25 kB of the page."""
MOST_CLIPS = 24
STRIPS, MOST_SCALES = 2, 11
"""Faces in figure 7 of each system, and scales of each face."""
CHOICE_SEED = 0
"""Which clips are shown is drawn with this seed from all of them, never by how well they came out."""

PROBES = """
    -- Generated faces of one evaluation, in an order that is the same in every store.
    SELECT generation.clip_id, generation.path, identity.name AS identity, video.name AS video, clip.name AS clip,
           probe.detected, probe.rank
    FROM evaluation
    JOIN probe ON probe.evaluation_id = evaluation.id
    JOIN generation ON generation.run_id = evaluation.run_id AND generation.clip_id = probe.clip_id
                   AND generation.method = 'diffusion' AND generation.scale = evaluation.scale
                   AND generation.seed = evaluation.seed AND generation.steps = evaluation.steps
    JOIN clip ON clip.id = generation.clip_id
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    WHERE evaluation.id = :evaluation
    ORDER BY identity.name, video.name, clip.name, clip.id
"""


@dataclass(frozen=True)
class Faces:
    """A figure of faces, and whose they are: an erasure of one of them removes the page.

    Attributes:
        html: the figure; empty where there is nothing to show.
        clips: keys of the clips whose faces it shows.
    """

    html: Html
    clips: frozenset[int]


def sample_grid(study: Study) -> Faces:
    """Figure 6: for some clips, the enlarged image guide, what each system made, and the real face."""
    systems = study.one_seed
    found = [_probes(study.store, result) for result in systems]
    common = [clip for clip in found[0] if all(clip in probes for probes in found)] if found else []
    if not common:
        return Faces(Html(), frozenset())
    count = max(4, min(MOST_CLIPS, PICTURES // (len(systems) + 2)))
    drawn = np.random.default_rng(CHOICE_SEED).permutation(len(common))[:count]
    shown = [common[i] for i in sorted(drawn.tolist())]
    guides, targets = _real(study.store, shown)
    cards = []
    for clip in shown:
        name = _name(found[0][clip])
        made = [
            (study.label(result), _generated(study.store, probes[clip]["path"]), _outcome(probes[clip]))
            for result, probes in zip(systems, found, strict=True)
        ]
        row = [("guide 8×8", guides.get(clip), ""), *made, ("real", targets.get(clip), "")]
        cards.append(_card(row, name))
    note = (
        f"{len(shown)} of {len(common)} clips, drawn with a fixed seed and not by how well they came out. Guide: the "
        "8×8 picture that systems with the image guide are given. Rank: where the right person is found among the "
        "gallery."
    )
    width = "18rem" if len(systems) == 1 else f"{min(66, 7 * (len(systems) + 2))}rem"
    grid = tag("div", *cards, class_="grid", style=f"--card: {width}")
    title = tag("p", tag("b", "Figure 6. Guide, generated, real. "), note, class_="note")
    return Faces(join(title, grid), frozenset(shown))


def scale_strips(study: Study) -> Faces:
    """Figure 7: one face over the conditional scale, for each system measured at several."""
    cards: list[Html] = []
    clips: set[int] = set()
    for result in study.one_seed:
        alike = [r for r in study.results if (r.run, r.seed, r.steps) == (result.run, result.seed, result.steps)]
        by_scale = sorted(alike, key=lambda r: r.scale)
        if len(by_scale) < 2:
            continue
        picked = sorted(set(np.linspace(0, len(by_scale) - 1, min(MOST_SCALES, len(by_scale))).round().astype(int)))
        found = [(by_scale[i], _probes(study.store, by_scale[i])) for i in picked]
        common = [clip for clip in found[0][1] if all(clip in probes for _, probes in found)]
        drawn = np.random.default_rng(CHOICE_SEED).permutation(len(common))[:STRIPS]
        shown = [common[i] for i in sorted(drawn.tolist())]
        guides, targets = _real(study.store, shown)
        for clip in shown:
            strip = [
                (f"w = {r.scale:g}", _generated(study.store, probes[clip]["path"]), _outcome(probes[clip]))
                for r, probes in found
            ]
            first = [("guide 8×8", guides.get(clip), "")] if result.guide else []
            cards.append(
                _card(
                    [*first, *strip, ("real", targets.get(clip), "")],
                    f"{study.label(result)}: {_name(found[0][1][clip])}",
                )
            )
        clips.update(shown)
    if not cards:
        return Faces(Html(), frozenset())
    title = tag("b", "Figure 7. One face over the conditional scale w. ")
    note = "At 0 the conditioning is ignored; high scales follow it until the picture breaks."
    grid = tag("div", *cards, class_="grid", style="--card: 66rem")
    return Faces(join(tag("p", title, note, class_="note"), grid), frozenset(clips))


def _probes(store: Store, result: Result) -> dict[int, dict[str, Any]]:
    return {row["clip_id"]: row for row in store.query(PROBES, evaluation=result.id)}


def _real(store: Store, clips: Sequence[int]) -> tuple[dict[int, NDArray[np.uint8]], dict[int, NDArray[np.uint8]]]:
    """{clip: enlarged guide}, {clip: real face}."""
    from slf_store.media.face import TARGET_SIZE, make_guide
    from slf_store.query.values import read_constituent

    values, present = read_constituent(store, "target", np.array(clips, np.int64))
    targets = {clip: target for clip, target, there in zip(clips, values, present, strict=True) if there}
    block = np.ones((TARGET_SIZE // 8, TARGET_SIZE // 8, 1), np.uint8)
    return {clip: np.kron(make_guide(target), block) for clip, target in targets.items()}, targets


def _generated(store: Store, path: str) -> NDArray[np.uint8] | None:
    try:
        return read_picture(store.settings.home / path)
    except NotFoundInStore:
        return None


def _card(pictures: Sequence[tuple[str, NDArray[np.uint8] | None, str]], name: str) -> Html:
    cells = [
        tag(
            "div",
            tag("span", "not there", class_="gone")
            if image is None
            else png_image(encode_png(image), f"{what}: {name}"),
            tag("b", what),
            outcome,
        )
        for what, image, outcome in pictures
    ]
    faces = tag("div", *cells, class_="faces", style=f"--n: {len(cells)}")
    return tag("figure", tag("figcaption", name), faces)


def _name(probe: dict[str, Any]) -> str:
    return f"{probe['identity']}/{probe['video']}/{probe['clip']}"


def _outcome(probe: dict[str, Any]) -> str:
    if not probe["detected"]:
        return "no face detected"
    return "not among the first 10" if probe["rank"] is None else f"found at rank {probe['rank']}"
