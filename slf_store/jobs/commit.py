"""Sealing and committing a chunk: its files and its rows become visible together, or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from slf_store.constituents.extractor import AttributeValue, Value
from slf_store.constituents.spec import ConstituentSpec
from slf_store.db.locks import HOLD_SEAL_LOCK as HOLD_SEAL_LOCK
from slf_store.db.locks import SEAL_LOCK as SEAL_LOCK
from slf_store.db.staging import copy_rows
from slf_store.db.transaction import bounded
from slf_store.errors import ClipError, LeaseLost
from slf_store.faults import fault_point
from slf_store.jobs import value_statistics
from slf_store.media.face import DetectedFace
from slf_store.shards.writer import seal_shard
from slf_store.store import Store

NEW_SHARD = text("""
    INSERT INTO shard (constituent_id, path, rows, bytes, checksum)
    VALUES (:constituent, :path, :rows, :bytes, :checksum) RETURNING id
""")

HELD = text("SELECT count(*) FROM extraction WHERE lease_owner = :owner AND state = 'leased'")

FINISH = text("""
    -- Only what is still leased to this worker: a chunk taken over by another is not overwritten.
    UPDATE extraction
    SET state = finished.state, shard_id = finished.shard_id, shard_row = finished.shard_row,
        error_code = finished.error_code, error_message = finished.error_message, seconds = finished.seconds,
        value_hash = finished.value_hash, value_min = finished.value_min, value_mean = finished.value_mean,
        value_max = finished.value_max, value_rms = finished.value_rms, value_rows = finished.value_rows,
        zero_rows = finished.zero_rows, lease_owner = NULL, lease_expires_at = NULL, finished_at = now()
    FROM finished
    WHERE extraction.constituent_id = finished.constituent_id AND extraction.clip_id = finished.clip_id
      AND extraction.state = 'leased' AND extraction.lease_owner = :owner
""")

NEW_FACES = text("""
    INSERT INTO face (constituent_id, clip_id, frame, x, y, width, height, confidence, faces_in_frame, detector,
                      chosen_by)
    SELECT constituent_id, clip_id, frame, x, y, width, height, confidence, faces_in_frame, detector, chosen_by
    FROM found_face
    ON CONFLICT (constituent_id, clip_id) DO NOTHING
""")

NEW_ATTRIBUTES = text("""
    INSERT INTO attribute (clip_id, name, source, constituent_id, value_text, value_number, score)
    SELECT clip_id, name, source, constituent_id, value_text, value_number, score FROM found_attribute
    ON CONFLICT (clip_id, name, source, constituent_id) DO UPDATE
    SET value_text = excluded.value_text, value_number = excluded.value_number, score = excluded.score
""")

NEW_EMBEDDINGS = text("""
    INSERT INTO face_embedding (constituent_id, clip_id, face_id, vector)
    SELECT found.constituent_id, found.clip_id, max(face.id), (array_agg(found.vector))[1]
    FROM found_embedding found
    JOIN constituent ON constituent.id = found.constituent_id
    LEFT JOIN constituent boxes  -- the boxes chosen in the same way
        ON boxes.name = 'face' AND boxes.spec -> 'parameters' -> 'face' = constituent.spec -> 'parameters' -> 'face'
    LEFT JOIN face ON face.clip_id = found.clip_id AND face.constituent_id = boxes.id
    GROUP BY found.constituent_id, found.clip_id
    ON CONFLICT DO NOTHING
""")

FINISHED_COLUMNS = [
    ("constituent_id", "int8"),
    ("clip_id", "int8"),
    ("state", "text"),
    ("shard_id", "int8"),
    ("shard_row", "int4"),
    ("error_code", "text"),
    ("error_message", "text"),
    ("seconds", "float8"),
    *value_statistics.COLUMNS,
]
FACE_COLUMNS = [
    ("constituent_id", "int8"),
    ("clip_id", "int8"),
    ("frame", "int4"),
    ("x", "int4"),
    ("y", "int4"),
    ("width", "int4"),
    ("height", "int4"),
    ("confidence", "float8"),
    ("faces_in_frame", "int4"),
    ("detector", "text"),
    ("chosen_by", "text"),
]
ATTRIBUTE_COLUMNS = [
    ("clip_id", "int8"),
    ("name", "text"),
    ("source", "text"),
    ("constituent_id", "int8"),
    ("value_text", "text"),
    ("value_number", "float8"),
    ("score", "float8"),
]
EMBEDDING_COLUMNS = [("constituent_id", "int8"), ("clip_id", "int8"), ("vector", "vector")]


@dataclass(frozen=True)
class Outcome:
    """What an extractor gave for one clip: a value or the error that stands for it, and the time it took (s)."""

    clip_id: int
    value: Value | Exception
    seconds: float


def commit_chunk(
    store: Store,
    owner: str,
    results: Mapping[int, tuple[ConstituentSpec, Sequence[Outcome]]],
) -> None:
    """Seal the shards of a chunk and commit all its rows in one transaction.

    Args:
        store: open store.
        owner: holder of the leases.
        results: {constituent key: (spec, outcomes)}.

    Raises:
        LeaseLost: another worker took the chunk over; nothing is written, the sealed files are removed.
        ShardError: a shard cannot be written; nothing is written.
    """
    sealed: list[str] = []
    in_doubt = False
    try:
        with bounded(store.engine, store.settings.lease_minutes * 60) as connection:
            connection.execute(HOLD_SEAL_LOCK, {"key": SEAL_LOCK})
            if connection.execute(HELD, {"owner": owner}).scalar_one() < sum(len(o) for _, o in results.values()):
                raise _lost(owner)  # before a byte is sealed: clips that were erased leave no file behind
            rows: list[tuple[Any, ...]] = []
            for key, (spec, outcomes) in sorted(results.items()):  # in one order, so that no two workers deadlock
                good = [outcome for outcome in outcomes if not isinstance(outcome.value, Exception)]
                shard_id = None
                if spec.kind == "array" and good:
                    shard_id = _seal(connection, store, key, spec, good, sealed)
                row_of = {outcome.clip_id: row for row, outcome in enumerate(good)}
                rows += [
                    (*_finished(key, outcome, shard_id, row_of.get(outcome.clip_id)), *_statistics(spec, outcome))
                    for outcome in outcomes
                ]
                _write_values(connection, key, spec, good)
                fault_point("commit.values")
            copy_rows(connection, "finished", FINISHED_COLUMNS, rows)
            finished = connection.execute(FINISH, {"owner": owner}).rowcount
            fault_point("commit.finished")
            if finished != len(rows):
                raise _lost(owner)
            fault_point("commit.before")
            in_doubt = True
        fault_point("commit.after")
    except BaseException:
        for path in sealed if not in_doubt else ():  # when COMMIT fails nobody knows whether it arrived: gc decides
            (store.shards / path).unlink(missing_ok=True)
        raise


def _lost(owner: str) -> LeaseLost:
    return LeaseLost(
        f"the lease of {owner} expired and its clips were taken over, or they were erased",
        hint="raise SLF_LEASE_MINUTES",
    )


def _seal(
    connection: Connection, store: Store, key: int, spec: ConstituentSpec, good: Sequence[Outcome], sealed: list[str]
) -> int:
    values, lengths = _stack(spec, [np.asarray(outcome.value) for outcome in good])
    shard = seal_shard(
        store.shards,
        constituent=spec.name,
        version=spec.version,
        spec=spec.as_json(),
        clip_ids=np.array([outcome.clip_id for outcome in good], np.int64),
        values=values,
        lengths=lengths,
    )
    sealed.append(shard.path)
    row = {"constituent": key, "path": shard.path, "rows": shard.rows, "bytes": shard.bytes, "checksum": shard.checksum}
    number = int(connection.execute(NEW_SHARD, row).scalar_one())
    fault_point("commit.shard_row")
    return number


def _stack(spec: ConstituentSpec, values: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int32] | None]:
    """Values as (n, *shape); those of variable length are padded with zeros, and their lengths (n,) given beside."""
    if not spec.variable:
        return np.stack(values).astype(spec.dtype), None
    padded = np.zeros((len(values), *spec.shape), spec.dtype)
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value
    return padded, np.array([len(value) for value in values], np.int32)


def _finished(key: int, outcome: Outcome, shard_id: int | None, row: int | None) -> tuple[Any, ...]:
    if isinstance(outcome.value, Exception):
        code = outcome.value.code if isinstance(outcome.value, ClipError) else "unexpected"
        what = str(outcome.value) if isinstance(outcome.value, ClipError) else repr(outcome.value)
        clean = what.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:1000]
        return (key, outcome.clip_id, "failed", None, None, code, clean, outcome.seconds)
    return (key, outcome.clip_id, "done", shard_id, None if shard_id is None else row, None, None, outcome.seconds)


def _statistics(spec: ConstituentSpec, outcome: Outcome) -> tuple[Any, ...]:
    return astuple(value_statistics.measure(spec, outcome.value))


def _write_values(connection: Connection, key: int, spec: ConstituentSpec, good: Sequence[Outcome]) -> None:
    """Rows of constituents whose values live in PostgreSQL."""
    if spec.kind == "face":
        detector = spec.parameters["face"]["detector"]
        faces = [(outcome.clip_id, outcome.value) for outcome in good if isinstance(outcome.value, DetectedFace)]
        rows = [
            (
                key,
                clip,
                f.frame,
                f.x,
                f.y,
                f.width,
                f.height,
                _finite(f.confidence),
                f.faces_in_frame,
                detector,
                f.chosen_by,
            )
            for clip, f in faces
        ]
        copy_rows(connection, "found_face", FACE_COLUMNS, rows)
        connection.execute(NEW_FACES)
    elif spec.kind == "attribute":
        stated: list[tuple[Any, ...]] = []
        for outcome in good:
            values: list[AttributeValue] = outcome.value  # type: ignore[assignment]
            stated += [(outcome.clip_id, v.name, spec.name, key, v.text, v.number, v.score) for v in values]
        copy_rows(connection, "found_attribute", ATTRIBUTE_COLUMNS, stated)
        connection.execute(NEW_ATTRIBUTES)
    elif spec.kind == "embedding":
        vectors = [(key, outcome.clip_id, outcome.value) for outcome in good]
        copy_rows(connection, "found_embedding", EMBEDDING_COLUMNS, vectors)
        connection.execute(NEW_EMBEDDINGS)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
