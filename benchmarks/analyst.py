"""How long an analyst waits: questions on the public views of a store of VoxCeleb2's size with a hundred runs.

    python benchmarks/analyst.py [--clips N] [--runs N] [--home DIR] [--explain FILE] [--out FILE]

1.1 million clips of 6,112 people; 100 runs, each with faces of 118 test clips at 21 conditional scales, evaluated with
baselines: 247,800 generations and their outcomes, 2.5 million matches, metrics by group. There is no media and no
vector: rows are made by `generate_series`, in a store of its own on an embedded PostgreSQL with its usual settings.
Questions are asked as `slf sql --role analyst` asks them; the median of five is what counts (goal: a second each).
Then the pages of `slf explore` are opened, in process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text
from starlette.testclient import TestClient

from slf_store.constituents.spec import ConstituentSpec
from slf_store.db.embedded import EmbeddedServer
from slf_store.db.readonly import run_text
from slf_store.evaluation.paired import compare
from slf_store.explorer.app import create_app
from slf_store.explorer.explorer import Explorer
from slf_store.jobs.constituents import register
from slf_store.settings import Settings
from slf_store.store import Store

PEOPLE = 6_112
TEST = 118
SCALES = 21
REPEATS = 5

FILL = {
    "catalogue": """
        -- Seven clips a video, 26 videos a person on average; the first 118 people are the test split.
        INSERT INTO source (name, root, layout) VALUES ('made', '/made', 'voxceleb2');
        INSERT INTO place (source_id, split) SELECT id, unnest(ARRAY['dev', 'test']) FROM source;
        INSERT INTO identity (source_id, name)
        SELECT source.id, 'id' || lpad(n::text, 5, '0') FROM source, generate_series(1, {people}) n;
        INSERT INTO video (identity_id, split, name)
        SELECT identity.id, CASE WHEN identity.id <= {test} THEN 'test' ELSE 'dev' END, 'v' || v
        FROM identity, generate_series(1, {videos}) v ORDER BY identity.id, v;
        INSERT INTO clip (video_id, name, path, state, duration_s, fps, frames, width, height, has_audio, file_bytes,
                          file_mtime_ns, place_id)
        SELECT video.id, lpad(c::text, 5, '0'), 'x', 'ok', 4 + mod(video.id * 7 + c, 60) / 4.0, 25, 200, 224, 224, true,
               100000, 1, place.id
        FROM video JOIN place ON place.split = video.split, generate_series(1, 7) c ORDER BY video.id, c
        LIMIT {clips};
        INSERT INTO clip_attribute (clip_id, age, age_source, gender, gender_source, ethnicity, ethnicity_source,
                                    language, language_source)
        SELECT clip.id, 18 + mod(identity_id * 13, 60), 'age_gender',
               CASE WHEN mod(identity_id, 5) < 2 THEN 'f' ELSE 'm' END, 'metadata',
               (ARRAY['asian', 'black', 'indian', 'latino hispanic', 'middle eastern', 'white', 'white', 'white'])
                   [1 + mod(identity_id * 31, 8)], 'deepface_attributes',
               (ARRAY['English', 'English', 'English', 'German', 'Spanish', 'French', 'Arabic', 'Hindi'])
                   [1 + mod(video.id, 8)], 'language_commonlanguage'
        FROM clip JOIN video ON video.id = clip.video_id;
    """,
    "runs": """
        INSERT INTO snapshot (name, hash, predicate, layout, blocks, missing, seed, clips, normalisation)
        VALUES ('train', 'a', 'true', 'none', '[]', 'skip', 0, 0, '{{}}'),
               ('test', 'b', 'true', 'none', '[]', 'skip', 0, {test}, '{{}}');
        INSERT INTO snapshot_clip (snapshot_id, position, clip_id, part)
        SELECT snapshot.id, row_number() OVER (ORDER BY first.id) - 1, first.id, 'train'
        FROM (SELECT min(clip.id) AS id FROM clip JOIN video ON video.id = video_id
              WHERE split = 'test' GROUP BY identity_id) first, snapshot
        WHERE snapshot.name = 'test';
        INSERT INTO run (name, snapshot_id, system, preset, config, seed, inputs, guide)
        SELECT 'run-' || n, snapshot.id,
               (ARRAY['full-input', 'no-audio', 'no-image-guide', 'audio-only'])[1 + mod(n, 4)],
               'paper', '{{}}', n, '{{}}', true
        FROM snapshot, generate_series(1, {runs}) n WHERE snapshot.name = 'train';
        INSERT INTO generation (run_id, clip_id, method, scale, seed, steps, samples_seen, path)
        SELECT run.id, member.clip_id, 'diffusion', s / 2.0, 0, 0, 1000000, 'x'
        FROM run, generate_series(0, {scales} - 1) s, snapshot_clip member;
    """,
    "evaluations": """
        INSERT INTO evaluation (run_id, gallery_id, system, scale, seed, constituent_id, checkpoint_samples, probes,
                                gallery_faces, undetected)
        SELECT run.id, snapshot.id, run.system, s / 2.0, 0, {embedding}, 1000000, {test}, {test}, 3
        FROM run, snapshot, generate_series(0, {scales} - 1) s WHERE snapshot.name = 'test';
        INSERT INTO evaluation (run_id, gallery_id, system, scale, seed, constituent_id, checkpoint_samples, probes,
                                gallery_faces, undetected)
        SELECT run.id, snapshot.id, baseline, 0, 0, {embedding}, 0, {test}, {test}, 0
        FROM run, snapshot, unnest(ARRAY['random', 'bicubic-8x8', 'real-vs-real']) AS baseline
        WHERE snapshot.name = 'test';
        INSERT INTO probe (evaluation_id, clip_id, detected, rank, psnr, ssim)
        SELECT evaluation.id, member.clip_id, draw.a > 0.03,
               CASE WHEN draw.a > 0.03 AND draw.b < 0.6 THEN 1 + floor(draw.c * 10)::int END, 15 + 5 * draw.b, draw.c
        FROM evaluation JOIN snapshot_clip member ON member.snapshot_id = evaluation.gallery_id
        CROSS JOIN LATERAL (SELECT random() + 0 * evaluation.id AS a, random() AS b, random() + 0 * member.clip_id AS c)
            draw
        WHERE evaluation.system <> 'random';
        INSERT INTO match (evaluation_id, probe_clip_id, rank, gallery_clip_id, distance, hit)
        SELECT probe.evaluation_id, probe.clip_id, k, other.clip_id, k / 10.0, probe.rank IS NOT DISTINCT FROM k
        FROM probe JOIN evaluation ON evaluation.id = probe.evaluation_id, generate_series(1, 10) k
        JOIN snapshot_clip other ON other.position = k
        WHERE probe.detected;
        INSERT INTO metric (evaluation_id, name, k, value, ci_low, ci_high, n)
        SELECT evaluation.id, name, k, random(), 0, 1, {test}
        FROM evaluation, (VALUES ('recall', 1), ('recall', 3), ('recall', 5), ('recall', 10), ('identity_recall', 1),
                                 ('identity_recall', 3), ('identity_recall', 5), ('identity_recall', 10), ('psnr', 0),
                                 ('ssim', 0), ('frechet', 0)) AS kind (name, k);
        INSERT INTO group_metric (evaluation_id, attribute, label, name, k, truth, estimator, value, ci_low, ci_high, n,
                                  identities, source)
        SELECT evaluation.id, attribute, label, name, k, 'none', 'none', random(), 0, 1, 20, 20, 'made'
        FROM evaluation,
             (VALUES ('gender', ARRAY['f', 'm']), ('age_group', ARRAY['10s', '20s', '30s', '40s', '50s', '60s', '70s']),
                     ('ethnicity', ARRAY['asian', 'black', 'indian', 'latino hispanic', 'middle eastern', 'white']),
                     ('language', ARRAY['English', 'German', 'Spanish', 'French', 'Arabic', 'Hindi']))
                 AS had (attribute, labels)
             CROSS JOIN LATERAL unnest(had.labels) AS label,
             (VALUES ('recall', 1), ('recall', 3), ('recall', 5), ('recall', 10), ('detected', 0), ('psnr', 0),
                     ('ssim', 0)) AS kind (name, k);
        INSERT INTO attribute_metric (evaluation_id, attribute, truth, estimator, value, ci_low, ci_high, n, missed)
        SELECT evaluation.id, attribute, truth, 'deepface_attributes', random(), 0, 1, {test}, 3
        FROM evaluation, unnest(ARRAY['gender', 'ethnicity', 'age_group', 'age']) AS attribute,
             unnest(ARRAY['metadata', 'deepface_attributes']) AS truth;
    """,
}

QUESTIONS = {
    "recall@1 of every run at every scale": """
        SELECT run, system, scale, recall, ci_low, ci_high FROM recall_at_k WHERE k = 1 ORDER BY run, scale""",
    "the best scale of every run": """
        SELECT DISTINCT ON (run) run, system, scale, recall FROM recall_at_k
        WHERE k = 1 AND system NOT IN ('random', 'bicubic-8x8', 'real-vs-real') ORDER BY run, recall DESC, scale""",
    "one run over its scales, all k": """
        SELECT scale, k, recall, ci_low, ci_high FROM recall_at_k WHERE run = 'run-2' ORDER BY scale, k""",
    "mean recall of each system over runs": """
        SELECT system, scale, k, count(*), avg(recall), stddev(recall) FROM recall_at_k GROUP BY system, scale, k""",
    "recall and PSNR side by side": """
        SELECT r.run, r.scale, r.recall, f.value AS psnr
        FROM recall_at_k r JOIN fidelity f USING (run, system, scale, seed, steps, gallery, part, embedding, distance)
        WHERE r.k = 1 AND f.metric = 'psnr'""",
    "recall by gender, all runs at scale 3": """
        SELECT run, label, recall, ci_low, ci_high, n FROM recall_by_group
        WHERE attribute = 'gender' AND k = 10 AND scale = 3""",
    "widest gap between ethnicities": """
        SELECT run, scale, max(recall) - min(recall) AS gap FROM recall_by_group
        WHERE attribute = 'ethnicity' AND k = 10 AND NOT small GROUP BY run, scale ORDER BY gap DESC LIMIT 10""",
    "recall of attributes, all runs": """
        SELECT run, scale, attribute, truth, value FROM attribute_recall WHERE scale = 3 ORDER BY 1, 2, 3""",
    "people found least over all runs": """
        SELECT identity, avg((rank <= 10 AND rank IS NOT NULL)::int) AS recall, count(*) FROM probes
        WHERE system <> 'real-vs-real' GROUP BY identity ORDER BY recall LIMIT 10""",
    "faces without a detected face, by system and scale": """
        SELECT system, scale, avg((NOT detected)::int) FROM probes GROUP BY system, scale ORDER BY 1, 2""",
    "recall by gender and language, counted from probes": """
        SELECT gender, language, count(*), avg((rank <= 10 AND rank IS NOT NULL)::int) AS recall
        FROM probes WHERE scale = 3 GROUP BY 1, 2 ORDER BY 1, 2""",
    "clips by gender and ethnicity, whole catalogue": """
        SELECT gender, ethnicity, count(*) FROM clips GROUP BY 1, 2 ORDER BY 1, 2""",
}
"""What is asked; the goal is a second each."""

PAGES = {
    "overview": "/",
    "quality": "/quality",
    "clips, the first page": "/clips",
    "clips by a predicate on attributes": "/clips?where=gender = 'f' AND age > 60 AND language = 'French'",
    "clips by a predicate that fits none": "/clips?where=gender = 'x'",
    "one clip": "/clips/5000",
    "snapshots": "/snapshots",
    "runs": "/runs",
    "one run": "/runs/2",
    "evaluations": "/evaluations",
    "curves of a run": "/evaluations/curves?run=run-2&gallery=test&part=all&embedding=face_made&distance=euclidean",
}
"""Pages of the explorer that need no media."""


def make(store: Store, given: argparse.Namespace, told: dict[str, Any]) -> None:
    """Fill the store; no trigger and no foreign key is asked, all rows being consistent by construction."""
    spec = ConstituentSpec("face_made", "embedding", (512,), "float32", "embedding", "section 4", 1)
    with store.engine.begin() as connection:
        embedding = register(connection, [spec])["face_made"]
    numbers = {
        "people": PEOPLE, "test": TEST, "clips": given.clips, "videos": -(-given.clips // (PEOPLE * 7)),
        "runs": given.runs, "scales": SCALES, "embedding": embedding,
    }  # fmt: skip
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET session_replication_role = replica")
        for name, statements in FILL.items():
            began = time.perf_counter()
            connection.exec_driver_sql(statements.format(**numbers))
            told[f"made {name}, s"] = round(time.perf_counter() - began, 1)
        connection.exec_driver_sql("VACUUM ANALYZE")
    for table in ("clip", "run", "generation", "evaluation", "probe", "match", "metric", "group_metric"):
        told[table] = store.query(f"SELECT count(*) AS n FROM {table}")[0]["n"]
    told["database, MB"] = store.query("SELECT pg_database_size(current_database()) / 1000000 AS n")[0]["n"]


def ask(store: Store, told: dict[str, Any]) -> None:
    """Every question as an analyst, then a paired test as `slf compare` does it."""
    for question, statement in QUESTIONS.items():
        times = []
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            rows = run_text(store.engine, statement, role="analyst", timeout_s=120)
            times.append(time.perf_counter() - began)
        note(told, question, times, len(rows))
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        rows = compare(store, "run-2@3", "run-1@3", "test", embedding="face_made")
        times.append(time.perf_counter() - began)
    note(told, "paired test of two runs (slf compare)", times, len(rows))


def explore(store: Store, told: dict[str, Any]) -> None:
    """Every page as a researcher, who may open all of them."""
    explorer = Explorer(store, "researcher")
    client = TestClient(create_app(explorer))
    try:
        for page, path in PAGES.items():
            times = []
            for _ in range(REPEATS + 1):
                began = time.perf_counter()
                answer = client.get(path)
                times.append(time.perf_counter() - began)
            assert answer.status_code == 200, (page, answer.status_code)
            note(told, f"explorer: {page}", times, answer.text.count("<tr"))
    finally:
        explorer.close()


def note(told: dict[str, Any], question: str, times: list[float], rows: int) -> None:
    told.setdefault("questions", {})[question] = {
        "median s": round(statistics.median(times[1:]), 3), "first s": round(times[0], 3), "rows": rows,
    }  # fmt: skip
    print(f"{question:<56}{statistics.median(times[1:]):>8.3f} s  ({times[0]:.3f} s first), {rows} rows", flush=True)


def explain(store: Store, path: Path) -> None:
    """Plans of every question."""
    with store.engine.connect() as connection, path.open("w") as file:
        for question, statement in QUESTIONS.items():
            plan = connection.execute(text("EXPLAIN (ANALYZE, COSTS OFF) " + statement.replace(":", "\\:"))).scalars()
            file.write(f"## {question}\n\n" + "\n".join(plan) + "\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=1_128_246)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--home", type=Path, help="where to make the store [default: a temporary folder]")
    parser.add_argument("--explain", type=Path, help="file to write the plans to")
    parser.add_argument("--out", type=Path, help="JSON to write")
    given = parser.parse_args()
    home = given.home or Path(tempfile.mkdtemp(prefix="slf-analyst-"))
    told: dict[str, Any] = {"load": os.getloadavg()[0]}
    try:
        with Store.create(settings=Settings(home=home.absolute()), tethered=True) as store:
            make(store, given, told)
            print(json.dumps(told), flush=True)
            ask(store, told)
            explore(store, told)
            if given.explain:
                explain(store, given.explain)
    finally:
        EmbeddedServer(home.absolute()).stop()
        shutil.rmtree(home)
    told["load after"] = os.getloadavg()[0]
    if given.out:
        given.out.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
