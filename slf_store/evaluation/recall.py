"""Reading recall: the table, and the conditional scale it recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.evaluation.embedding import constituent_name

if TYPE_CHECKING:
    from slf_store.store import Store

RECALL = """
    SELECT run, system, scale, seed, steps, gallery, part, k, recall, ci_low, ci_high, n, undetected, gallery_faces,
           embedding, distance, identity_recall, identity_ci_low, identity_ci_high, identities, checkpoint_samples,
           snapshot_hash, created_at
    FROM recall_at_k
    WHERE (CAST(:run AS text) IS NULL OR run = :run)
      AND (CAST(:k AS integer) IS NULL OR k = :k)
    ORDER BY run, gallery, part, embedding, distance DESC, system IN ('random', 'bicubic-8x8', 'real-vs-real'), system,
             scale, seed, steps, k
"""

BY_GROUP = """
    SELECT run, system, scale, seed, steps, gallery, part, embedding, distance, label, k, recall, ci_low, ci_high, n,
           identities, small, source
    FROM recall_by_group
    WHERE attribute = :attribute
      AND (CAST(:run AS text) IS NULL OR run = :run) AND (CAST(:k AS integer) IS NULL OR k = :k)
    ORDER BY run, gallery, part, embedding, distance DESC, system, scale, seed, steps, label, k
"""

ATTRIBUTES = """
    SELECT run, system, scale, seed, steps, gallery, part, attribute, truth, estimator, value, ci_low, ci_high, n,
           missed
    FROM attribute_recall
    WHERE CAST(:run AS text) IS NULL OR run = :run
    ORDER BY run, gallery, part, system, scale, seed, steps, attribute, truth, estimator
"""

TEST_CLIPS = text("""
    -- Clips of the test split among those that would choose the scale.
    SELECT count(*)
    FROM snapshot_clip member
    JOIN snapshot ON snapshot.id = member.snapshot_id
    JOIN clip ON clip.id = member.clip_id
    JOIN video ON video.id = clip.video_id
    WHERE snapshot.name = :gallery AND video.split = 'test' AND (CAST(:part AS text) = 'all' OR member.part = :part)
""")

BEST_SCALE = text("""
    -- Scales of a run, best first: mean recall over every k, seed and number of solver steps, then the smallest scale.
    SELECT evaluation.scale
    FROM evaluation
    JOIN metric ON metric.evaluation_id = evaluation.id AND metric.name = 'recall'
    JOIN run ON run.id = evaluation.run_id
    JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    WHERE run.name = :run
      AND gallery.name = :gallery
      AND evaluation.part = :part
      AND evaluation.system = run.system
      AND constituent.status = 'active'
      AND constituent.name = :embedding
      AND evaluation.distance = 'euclidean'
    GROUP BY evaluation.scale
    ORDER BY avg(metric.value) DESC, evaluation.scale
    LIMIT 1
""")


def recall_rows(store: Store, run: str | None = None, k: int | None = None) -> list[dict[str, Any]]:
    """Rows of the view `recall_at_k`, baselines after the system they stand beside.

    Args:
        store: open store.
        run: only this run.
        k: only this k.

    Raises:
        NotFoundInStore: nothing has been evaluated.
    """
    rows = list(store.query(RECALL, run=run, k=k))
    if not rows:
        what = f"run {run!r} has" if run else "the store has"
        raise NotFoundInStore(
            f"{what} no recall{'' if k is None else f'@{k}'} yet", hint="run `slf evaluate RUN --on SNAPSHOT` first"
        )
    return rows


def group_rows(store: Store, attribute: str, run: str | None = None, k: int | None = None) -> list[dict[str, Any]]:
    """Rows of the view `recall_by_group` about one attribute: gender, age_group, ethnicity or language.

    Raises:
        NotFoundInStore: nothing has been evaluated.
    """
    recall_rows(store, run, k)
    return list(store.query(BY_GROUP, attribute=attribute, run=run, k=k))


def attribute_rows(store: Store, run: str | None = None) -> list[dict[str, Any]]:
    """Rows of the view `attribute_recall`; none where no attribute constituent looked at the faces.

    Raises:
        NotFoundInStore: nothing has been evaluated.
    """
    recall_rows(store, run)
    return list(store.query(ATTRIBUTES, run=run))


def one_line_each(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows as people read them: one line per evaluation, a column per k, percent with interval.

    >>> row = {"run": "a", "system": "random", "scale": 0.0, "seed": 0, "steps": 0, "gallery": "test", "part": "all",
    ...        "n": 9, "undetected": 0, "embedding": "face_dlib", "distance": "cosine", "k": 1, "recall": 0.25,
    ...        "ci_low": 0.1, "ci_high": 0.4}
    >>> one_line_each([row])[0]["recall@1"]
    '25.0 % (10.0–40.0)'
    """
    same = ("run", "system", "scale", "seed", "steps", "gallery", "part", "embedding", "distance", "n", "undetected")
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        values = tuple(row[name] for name in same)
        line = lines.setdefault(values, dict(zip(same, values, strict=True)))
        low, high = 100 * row["ci_low"], 100 * row["ci_high"]
        line[f"recall@{row['k']}"] = f"{100 * row['recall']:.1f} % ({low:.1f}–{high:.1f})"
    return list(lines.values())


def best_scale(store: Store, run: str, gallery: str, part: str = "validation") -> float:
    """The conditional scale with the highest mean of recall@1, 3, 5 and 10 on validation identities.

    By the settings' face embedding and Euclidean distance, whatever else was evaluated beside. One k alone hangs on one
    or two of a few validation identities. Seeds are averaged; the smallest of equals wins. The
    scale is a hyperparameter: choosing it on the faces that are reported would flatter the report, so clips of the
    test split are refused.

    Args:
        store: open store.
        run: evaluated run.
        gallery: snapshot it was evaluated on.
        part: of that snapshot.

    Raises:
        SelectionError: the gallery holds clips of the test split.
        NotFoundInStore: the run has not been evaluated there.
    """
    with store.engine.connect() as connection:
        test_clips = connection.execute(TEST_CLIPS, {"gallery": gallery, "part": part}).scalar_one()
        if test_clips:
            raise SelectionError(
                f"snapshot {gallery!r} (part {part}) holds {test_clips} clips of the test split",
                hint="choose the scale on validation identities: evaluate with --part validation on the training "
                "snapshot",
            )
        values = {"run": run, "gallery": gallery, "part": part, "embedding": constituent_name(store)}
        found = connection.execute(BEST_SCALE, values).first()
    if found is None:
        raise NotFoundInStore(
            f"run {run!r} has not been evaluated on snapshot {gallery!r} (part {part})",
            hint=f"run `slf evaluate {run} --on {gallery} --part {part}` first",
        )
    return float(found.scale)
