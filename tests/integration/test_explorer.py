"""The explorer's pages on a store with two evaluated runs, in process, as each role."""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from evaluated_store import TEST, evaluations
from PIL import Image
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from slf_store.db.readers import Role
from slf_store.explorer import clips as clip_pages
from slf_store.explorer.app import create_app
from slf_store.explorer.explorer import Explorer
from slf_store.explorer.guard import Guard
from slf_store.privacy.forget import forget
from slf_store.privacy.target import Target
from slf_store.query.selection import select
from slf_store.query.values import read_constituent
from slf_store.store import Store

pytestmark = pytest.mark.integration

MEDIA = ("video", "sound", "waveform.svg", "face.png", "guide.png", "matrix.png")


@pytest.fixture(scope="module")
def evaluated(extracted: Store) -> Iterator[Store]:
    with evaluations(extracted) as store:
        yield store


def opened(store: Store, role: Role) -> Generator[TestClient, None, None]:
    """A client of the explorer as a role; closes it when it is closed itself."""
    explorer = Explorer(store, role)
    try:
        yield TestClient(Guard(create_app(explorer)), base_url="http://127.0.0.1", raise_server_exceptions=False)
    finally:
        explorer.close()


@pytest.fixture(scope="module")
def researcher(evaluated: Store) -> Iterator[TestClient]:
    yield from opened(evaluated, "researcher")


@pytest.fixture(scope="module")
def analyst(evaluated: Store) -> Iterator[TestClient]:
    yield from opened(evaluated, "analyst")


@pytest.fixture(scope="module")
def keys(evaluated: Store) -> SimpleNamespace:
    """Numbers of a test clip, and of what was made of it."""
    (found,) = evaluated.query(
        """SELECT generation.clip_id AS clip, generation.id AS generation, run.id AS run, evaluation.id AS evaluation,
                  snapshot.id AS snapshot
           FROM generation JOIN run ON run.id = run_id JOIN evaluation ON evaluation.run_id = run.id
           JOIN snapshot ON snapshot.id = gallery_id AND snapshot.name = :test
           JOIN snapshot_clip ON snapshot_clip.snapshot_id = snapshot.id AND snapshot_clip.clip_id = generation.clip_id
           WHERE run.name = 'explored-full' AND generation.scale = 1 AND method = 'diffusion' AND evaluation.scale = 1
             AND evaluation.distance = 'euclidean'
           ORDER BY generation.id LIMIT 1""",
        test=TEST,
    )
    return SimpleNamespace(**found)


def curves(keys: SimpleNamespace) -> str:
    return f"/evaluations/curves?run=explored-full&gallery={TEST}&part=all&embedding=face_dlib&distance=euclidean"


def test_every_page_opens_and_asks_nobody_else(researcher: TestClient, keys: SimpleNamespace) -> None:
    pages = {
        "/": "pyaudioanalysis",
        "/quality": "attribute_quality",
        "/clips": "18 clips fit",
        f"/clips/{keys.clip}": "Conditioning matrix",
        f"/clips/{keys.clip}/nearest": "same person",
        f"/generations/{keys.generation}": "Exact Euclidean distance",
        "/snapshots": TEST,
        f"/snapshots/{keys.snapshot}": "Clips in order",
        "/runs": "explored-no-audio",
        f"/runs/{keys.run}": "polyline",
        "/evaluations": "explored-full",
        curves(keys): "Fréchet distance of embeddings",
        f"/evaluations/{keys.evaluation}": "Generated, real, nearest",
        f"/evaluations/{keys.evaluation}?sort=best": "Right at once",
        f"/evaluations/{keys.evaluation}?sort=undetected": "A face was detected in every picture",
    }
    linked: set[str] = set()
    for page, holds in pages.items():
        answer = researcher.get(page)
        assert answer.status_code == 200, (page, answer.text)
        assert holds in answer.text, page
        assert not re.search(r"<script|style=|https?://|\son\w+=", answer.text), page
        linked |= set(re.findall(r'(?:src|href)="(/[^"]*)"', answer.text))
    for address in sorted(linked):
        assert researcher.get(address.replace("&amp;", "&")).status_code == 200, address
    assert f"/runs/{keys.run}/grids/unet1-480.png" in linked
    assert {address.rpartition("=")[2] for address in linked if "explored-full" in address} == {"euclidean", "cosine"}
    assert researcher.head("/").status_code == 200


def test_an_analyst_sees_numbers_and_nothing_of_anybody(analyst: TestClient, keys: SimpleNamespace) -> None:
    for page in ("/", "/quality", "/clips", f"/clips/{keys.clip}", "/evaluations", curves(keys)):
        answer = analyst.get(page)
        assert answer.status_code == 200, page
        assert not re.search(r"<img|<video|<audio|\.mp4|/generations/|/snapshots|/runs", answer.text), page
    assert "explored-full" in analyst.get("/evaluations").text
    hidden = [f"/clips/{keys.clip}/{name}" for name in MEDIA]
    hidden += [f"/clips/{keys.clip}/nearest", f"/generations/{keys.generation}", "/snapshots", "/runs"]
    hidden += [f"/generations/{keys.generation}/face.png", f"/runs/{keys.run}/grids/unet1-480.png"]
    hidden += [f"/evaluations/{keys.evaluation}", f"/snapshots/{keys.snapshot}", f"/runs/{keys.run}"]
    for page in hidden:
        answer = analyst.get(page)
        assert answer.status_code == 403, page
        assert "Role analyst: permission denied" in answer.text
    asked = analyst.get("/clips", params={"where": "path LIKE '%1%'"})
    assert (asked.status_code, "permission denied" in asked.text) == (400, True)


def test_a_filter_finds_what_a_selection_does_page_by_page(
    evaluated: Store, researcher: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_pages, "PAGE", 5)
    condition = "gender = 'f' OR clip LIKE '%1' -- both"
    expected = set(select(evaluated, condition, missing="zero").clip_ids.tolist())
    found: list[int] = []
    address, pages = "/clips", 0
    parameters: dict[str, str] | None = {"where": condition}
    while address:
        answer = researcher.get(address, params=parameters)
        found += [int(key) for key in re.findall(r'scope="row"><a href="/clips/(\d+)"', answer.text)]
        onwards = re.search(r'rel="next" href="([^"]*)"', answer.text)
        address, parameters, pages = onwards[1].replace("&amp;", "&") if onwards else "", None, pages + 1
    assert pages > 1
    assert len(found) == len(expected)
    assert set(found) == expected


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("no_such = 1", "no_such"),
        ("true) ; DELETE FROM clip; --", "syntax error"),
        ("<b>", "&lt;b&gt;"),
        ("pg_sleep(9) IS NULL", "stopped after 0.3 s"),
        ("set_config('transaction_read_only', 'off', false) IS NULL", "permission denied"),
        ("clip_id IN (SELECT 1 FROM blocked)", "permission denied"),
    ],
)
def test_a_bad_filter_is_one_sentence(
    evaluated: Store, researcher: TestClient, where: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluated.settings, "statement_timeout_s", 0.3)
    answer = researcher.get("/clips", params={"where": where})
    assert answer.status_code == 400
    assert says in answer.text
    assert "Traceback" not in answer.text


def test_media_are_the_stores_own_bytes(evaluated: Store, researcher: TestClient, keys: SimpleNamespace) -> None:
    (row,) = evaluated.query(
        "SELECT root || '/' || path AS file FROM clips JOIN source ON source.name = clips.source WHERE clip_id = :clip",
        clip=keys.clip,
    )
    whole = Path(row["file"]).read_bytes()
    answer = researcher.get(f"/clips/{keys.clip}/video")
    assert (answer.content, answer.headers["content-type"]) == (whole, "video/mp4")
    part = researcher.get(f"/clips/{keys.clip}/video", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    too_far = researcher.get(f"/clips/{keys.clip}/video", headers={"range": f"bytes={len(whole)}-"})
    assert too_far.status_code == 416
    many = np.array([keys.clip] * 20, np.int64)  # too many to be looked up without a temporary table
    for name, constituent in (("face", "target"), ("guide", "image_guide")):
        picture = Image.open(io.BytesIO(researcher.get(f"/clips/{keys.clip}/{name}.png").content))
        assert np.array_equal(np.asarray(picture), read_constituent(evaluated, constituent, many)[0][7])
    generated = evaluated.query("SELECT path FROM generation WHERE id = :id", id=keys.generation)[0]["path"]
    answer = researcher.get(f"/generations/{keys.generation}/face.png")
    assert answer.content == (evaluated.settings.home / generated).read_bytes()
    assert researcher.get(f"/clips/{keys.clip}/waveform.svg").text.count("M") == 640


def test_nearest_faces_are_numpys(evaluated: Store, researcher: TestClient, keys: SimpleNamespace) -> None:
    rows = evaluated.query(
        "SELECT clip_id, vector::text AS vector FROM face_embedding JOIN constituent ON constituent.id = constituent_id"
        " WHERE status = 'active' AND constituent.name = 'face_dlib' ORDER BY clip_id"
    )
    ids = np.array([row["clip_id"] for row in rows])
    vectors = np.array([np.fromstring(row["vector"].strip("[]"), sep=",") for row in rows])
    own = vectors[ids == keys.clip][0]
    ordered = [int(clip) for clip in ids[np.argsort(np.linalg.norm(vectors - own, axis=1), kind="stable")]]
    answer = researcher.get(f"/clips/{keys.clip}/nearest?k=5&model=face_dlib").text
    shown = re.findall(r'<a href="/clips/(\d+)"><img class="face" src="/clips/\1/face.png"', answer)
    assert [int(clip) for clip in shown][-5:] == ordered[1:6]


def test_what_is_not_there_says_so(researcher: TestClient, keys: SimpleNamespace) -> None:
    for page in (
        "/clips/99999", "/clips/99999/video", "/clips/99999/face.png", "/clips/99999/matrix.png", "/generations/99999",
        "/generations/99999/face.png", "/snapshots/99999", "/runs/99999", "/evaluations/99999", "/evaluations/curves",
        f"/runs/{keys.run}/grids/..%2F..%2Fslf.toml", "/clips/99999999999999999999999", "/static/../app.py", "/nowhere",
    ):  # fmt: skip
        answer = researcher.get(page)
        assert answer.status_code == 404, page
        assert "Traceback" not in answer.text
    assert researcher.get("/clips?after=-1&skip=x").status_code == 200
    assert researcher.get("/evaluations/curves?run=%00").status_code == 400


def test_pages_cannot_write(evaluated: Store) -> None:
    explorer = Explorer(evaluated, "researcher")
    for statement in ("DELETE FROM match", "CREATE TEMP TABLE t (a int)", "SELECT id FROM run FOR UPDATE"):
        with pytest.raises(DBAPIError, match="read-only transaction"), explorer.store.engine.begin() as connection:
            connection.execute(text(statement))
    explorer.close()


def test_an_erased_clip_is_gone_from_every_page(kept: Store) -> None:
    (row,) = kept.query("SELECT clip_id, identity FROM clips ORDER BY clip_id LIMIT 1")
    visit = opened(kept, "researcher")
    client = next(visit)
    address = f"/clips/{row['clip_id']}"
    faces = [face["id"] for face in kept.query("SELECT id FROM generation WHERE clip_id = :c", c=row["clip_id"])]
    assert client.get(address).status_code == client.get(f"{address}/face.png").status_code == 200
    assert faces
    assert client.get(f"{address}/video").status_code == 410, "its disk is away"
    forget(kept, Target(row["identity"]))
    for page in (address, f"{address}/nearest", *(f"{address}/{name}" for name in MEDIA)):
        assert client.get(page).status_code == 404, page
    assert [client.get(f"/generations/{face}/face.png").status_code for face in faces] == [404] * len(faces)
    assert row["identity"] not in client.get("/clips").text
    visit.close()
