"""Clips: a filter by SQL predicate, and one clip."""

from __future__ import annotations

from typing import Any

from psycopg import sql
from starlette.requests import Request
from starlette.responses import Response

from slf_store.errors import NotFoundInStore, SelectionError
from slf_store.explorer.explorer import PAGE, Explorer, number
from slf_store.query.clips import checked

COUNTED = 10_000
"""Clips that fit are counted up to here: a page must not wait for a million."""

COLUMNS = sql.SQL("""clip_id, source, split, identity, video, clip, state, reason, duration_s, age, age_source, gender,
    gender_source, ethnicity, ethnicity_source, language, language_source, synthetic""")
"""What every role may see of a clip in the list."""
FIT = sql.SQL(
    "SELECT {columns} FROM clips WHERE clip_id > %(after)s AND ({predicate}\n) ORDER BY clip_id LIMIT %(limit)s"
)
COUNT = sql.SQL("SELECT count(*) AS n FROM (SELECT FROM clips WHERE ({predicate}\n) LIMIT %(limit)s) AS fit")

ONE = """
    SELECT clip_id, source, split, identity, video, clip, state, reason, duration_s, fps, frames, width, height,
           has_audio, audio_rate, audio_channels, age, age_source, age_score, gender, gender_source, gender_score,
           ethnicity, ethnicity_source, ethnicity_score, language, language_source, language_score, synthetic,
           file_bytes, vanished_at, constituents, face_confidence, face_width, faces_in_frame
    FROM clips WHERE clip_id = :clip
"""
COVERAGE = """
    SELECT constituent, version, state, reason, seconds FROM coverage WHERE clip_id = :clip
    ORDER BY constituent, version
"""
MESSAGES = """
    SELECT string_agg(constituent, ', ' ORDER BY constituent) AS constituents, message FROM coverage
    WHERE clip_id = :clip AND message IS NOT NULL GROUP BY message ORDER BY message
"""
OTHERS = """
    SELECT other.clip_id, other.video, other.clip, other.split, other.duration_s
    FROM clips JOIN clips other ON other.source = clips.source AND other.identity = clips.identity
    WHERE clips.clip_id = :clip AND other.clip_id <> :clip ORDER BY other.clip_id LIMIT :limit
"""
GENERATED = """
    SELECT generation.id AS generation, run.id AS run_id, run.name AS run, generation.method, generation.scale,
           generation.seed, generation.steps, generation.psnr, generation.ssim
    FROM generation JOIN run ON run.id = generation.run_id
    WHERE generation.clip_id = :clip
    ORDER BY run.name, generation.method, generation.scale, generation.seed, generation.steps
    LIMIT :limit OFFSET :offset
"""


def clips(explorer: Explorer, request: Request) -> Response:
    """A page of the clips that fit a predicate; what is wrong with the predicate is said above the form."""
    predicate = request.query_params.get("where", "").strip()
    after = number(request, "after", 0, 2**62)
    found: list[dict[str, Any]] = []
    count, wrong = 0, None
    try:
        found, count = _fitting(explorer, predicate or "true", after)
    except SelectionError as error:
        wrong = error
    return explorer.page(
        request, "clips", 400 if wrong else 200, where=predicate, clips=found[:PAGE], count=count, counted=COUNTED,
        after=after, more=found[PAGE - 1]["clip_id"] if len(found) > PAGE else None, wrong=wrong,
    )  # fmt: skip


def _fitting(explorer: Explorer, predicate: str, after: int) -> tuple[list[dict[str, Any]], int]:
    """Up to one clip more than a page, and how many fit in all, up to :data:`COUNTED` + 1."""
    parts = {"columns": COLUMNS, "predicate": sql.SQL(predicate.replace("%", "%%"))}
    with checked(explorer.owner, predicate, explorer.role) as cursor:
        counted = cursor.execute(COUNT.format(**parts), {"limit": COUNTED + 1}).fetchone()
        found = cursor.execute(FIT.format(**parts), {"after": after, "limit": PAGE + 1}).fetchall()
    assert counted is not None
    return found, counted["n"]


def clip(explorer: Explorer, request: Request) -> Response:
    """One clip: play it, see what was made of it."""
    key = request.path_params["clip"]
    one = known_clip(explorer, key)
    skip = number(request, "skip", 0, 10**6)
    shown: dict[str, Any] = {"generated": (), "messages": (), "skip": skip, "step": PAGE}
    if explorer.role == "researcher":
        shown["generated"] = explorer.rows(GENERATED, clip=key, limit=PAGE, offset=skip)
        shown["messages"] = explorer.rows(MESSAGES, clip=key)  # they name files
    return explorer.page(
        request, "clip", one=one, coverage=explorer.rows(COVERAGE, clip=key),
        others=explorer.rows(OTHERS, clip=key, limit=PAGE), **shown,
    )  # fmt: skip


def known_clip(explorer: Explorer, key: int) -> dict[str, Any]:
    """A clip's row.

    Raises:
        NotFoundInStore: there is none; an erased one is gone like one that never was.
    """
    rows = explorer.rows(ONE, clip=key)
    if not rows:
        raise NotFoundInStore(f"The store has no clip {key}.", hint="it may have been erased; search at /clips")
    return rows[0]
