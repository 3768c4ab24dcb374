"""The attributes kept for each clip are those that `preferred_attribute` chooses, whatever is stated or withdrawn."""

from __future__ import annotations

import random
import threading

import pytest

from slf_store.store import Store

pytestmark = pytest.mark.integration

CLIPS = """
    INSERT INTO source (name, root, layout) VALUES ('made up', '/nowhere', 'folder');
    INSERT INTO identity (source_id, name) SELECT id, 'nobody' FROM source;
    INSERT INTO video (identity_id, split, name) SELECT id, 'dev', 'video' FROM identity;
    INSERT INTO clip (video_id, name, path, state, file_bytes, file_mtime_ns)
    SELECT video.id, number, number, 'ok', 0, 0 FROM video, generate_series(1, 6) AS number;
    INSERT INTO constituent (name, version, kind, shape, spec)
    SELECT name, version, 'attribute', '{}', '{}'
    FROM unnest(ARRAY['age_gender', 'deepface_attributes', 'another']) AS name, unnest(ARRAY['v1', 'v2']) AS version;
"""
DIFFERENCE = """
    -- What is kept and what would be chosen, where they differ.
    WITH chosen AS (
        SELECT clip_id, name, coalesce(value_text, value_number::text) AS value, source, score FROM preferred_attribute
    ), kept AS (
        SELECT clip_id, a.* FROM clips, LATERAL (VALUES
            ('age', age::text, age_source, age_score), ('gender', gender, gender_source, gender_score),
            ('ethnicity', ethnicity, ethnicity_source, ethnicity_score),
            ('language', language, language_source, language_score)) a (name, value, source, score)
        WHERE a.value IS NOT NULL
    )
    (SELECT * FROM chosen EXCEPT SELECT * FROM kept) UNION ALL (SELECT * FROM kept EXCEPT SELECT * FROM chosen)
"""
STATE = """
    INSERT INTO attribute (clip_id, name, source, constituent_id, value_text, value_number, score)
    SELECT clip.id, '{name}', coalesce(constituent.name, 'metadata'), constituent.id,
           CASE WHEN '{name}' <> 'age' THEN '{value}' END, CASE WHEN '{name}' = 'age' THEN {number} END, {score}
    FROM clip LEFT JOIN constituent ON constituent.id = {constituent}
    WHERE clip.name::int BETWEEN {first} AND {last}
    ON CONFLICT (clip_id, name, source, constituent_id) DO UPDATE
    SET value_text = excluded.value_text, value_number = excluded.value_number, score = excluded.score
"""


def run(store: Store, statement: str) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def test_kept_attributes_are_the_chosen_ones_after_everything_that_changes_them(store: Store) -> None:
    run(store, CLIPS)
    choice = random.Random(5)
    versions = [row["id"] for row in store.query("SELECT id FROM constituent ORDER BY id")]
    some = "WHERE constituent_id = {0} OR mod(clip_id, 3) = 1"
    for _ in range(60):
        first = choice.randint(1, 6)
        step = choice.choice([
            STATE.format(
                name=choice.choice(["age", "gender", "ethnicity", "language"]), value=choice.choice("abc"),
                number=choice.randint(1, 90), score=choice.choice(["NULL", "0.25", "0.5"]), first=first,
                last=choice.randint(first, 6), constituent=choice.choice([*versions, "NULL"]),
            ),
            "UPDATE constituent SET status = CASE status WHEN 'active' THEN 'retired' ELSE 'active' END, "
            f"created_at = clock_timestamp() WHERE id = {choice.choice(versions)}",
            "DELETE FROM attribute " + some.format(choice.choice(versions)),
        ])  # fmt: skip
        run(store, step)
        assert store.query(DIFFERENCE) == [], step
    run(store, "DELETE FROM clip WHERE name = '2'")
    run(store, "DELETE FROM attribute")
    assert store.query(DIFFERENCE) == []
    assert store.query("SELECT count(*) AS clips, count(age) AS ages FROM clips") == [{"clips": 5, "ages": 0}]


def test_of_two_that_state_something_of_one_clip_at_once_neither_is_lost(store: Store) -> None:
    run(store, CLIPS)
    metadata = {"constituent": "NULL", "score": "NULL", "first": 1, "last": 6, "number": 30, "value": "f"}
    second = threading.Thread(target=run, args=(store, STATE.format(name="gender", **metadata)))
    with store.engine.begin() as connection:
        connection.exec_driver_sql(STATE.format(name="age", **metadata))
        second.start()  # waits for the first to end
        second.join(0.3)
        assert second.is_alive()
    second.join(10)
    assert store.query("SELECT DISTINCT age, gender FROM clips") == [{"age": 30, "gender": "f"}]
