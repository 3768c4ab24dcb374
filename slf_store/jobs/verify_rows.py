"""Verifying what lies in PostgreSQL: every finished extraction has its value, every embedding its numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from slf_store.jobs.verify_shard import Finding, value_hash

BLOCK_ROWS = 2000

CONSTITUENTS = text("""
    SELECT id, name, version, kind, shape FROM constituent
    WHERE status = 'active' AND (CAST(:names AS text[]) IS NULL OR name = ANY(:names)) ORDER BY name, id
""")

DONE = text("SELECT count(*) FROM extraction WHERE constituent_id = :constituent AND state = 'done'")

WITHOUT_VALUE = {
    "array": text("""
        SELECT clip_id FROM extraction
        WHERE constituent_id = :constituent AND state = 'done' AND (shard_id IS NULL OR shard_row IS NULL)
    """),
    "face": text("""
        SELECT clip_id FROM extraction
        WHERE constituent_id = :constituent AND state = 'done'
          AND NOT EXISTS (SELECT 1 FROM face WHERE face.constituent_id = :constituent
                                               AND face.clip_id = extraction.clip_id)
    """),
    "embedding": text("""
        SELECT clip_id FROM extraction
        WHERE constituent_id = :constituent AND state = 'done'
          AND NOT EXISTS (SELECT 1 FROM face_embedding WHERE face_embedding.constituent_id = :constituent
                                                         AND face_embedding.clip_id = extraction.clip_id)
    """),
    "attribute": text("""
        -- As many attributes as were stated; at least one where that was not counted yet.
        SELECT extraction.clip_id
        FROM extraction
        LEFT JOIN (SELECT clip_id, count(*) AS rows FROM attribute WHERE constituent_id = :constituent GROUP BY clip_id)
            stated ON stated.clip_id = extraction.clip_id
        WHERE constituent_id = :constituent AND state = 'done'
          AND CASE WHEN value_rows IS NULL THEN stated.rows IS NULL ELSE coalesce(stated.rows, 0) <> value_rows END
    """),
}
"""Clips whose extraction is done but whose value is not there, by kind."""

VECTORS = """
    -- A vector as pgvector sends it: its dimension, two bytes unused, numbers big-endian.
    SELECT face_embedding.clip_id, vector_send(face_embedding.vector), extraction.value_hash
    FROM face_embedding
    LEFT JOIN extraction ON extraction.constituent_id = face_embedding.constituent_id
                        AND extraction.clip_id = face_embedding.clip_id AND extraction.state = 'done'
    WHERE face_embedding.constituent_id = %s
"""

GENERATED_VECTORS = """
    SELECT generation.clip_id, vector_send(generation_embedding.vector), CAST(NULL AS bigint)
    FROM generation_embedding JOIN generation ON generation.id = generation_embedding.generation_id
    WHERE generation_embedding.constituent_id = %s AND generation_embedding.vector IS NOT NULL
"""


def check_values(connection: Connection, only: Collection[str] = ()) -> tuple[list[Finding], int]:
    """Every finished extraction has its value: findings, and the rows looked at."""
    findings: list[Finding] = []
    rows = 0
    for constituent in _constituents(connection, only):
        key = {"constituent": constituent["id"]}
        with _damaged_pages(connection, constituent, findings):
            rows += connection.execute(DONE, key).scalar_one()
            for clip in connection.execute(WITHOUT_VALUE[constituent["kind"]], key).scalars():
                message = f"extracted, but its {constituent['kind']} is not there as it was stored"
                findings.append(Finding("no_value", None, _label(constituent), message, clip))
    return findings, rows


def check_embeddings(connection: Connection, only: Collection[str] = ()) -> tuple[list[Finding], int]:
    """Every embedding is finite, of the right dimension, and the one that was extracted: findings, and the rows."""
    findings: list[Finding] = []
    rows = 0
    for constituent in _constituents(connection, only):
        if constituent["kind"] != "embedding":
            continue
        for sql, whose in ((VECTORS, "face"), (GENERATED_VECTORS, "generated face")):
            driver: Any = connection.connection.driver_connection
            with (
                _damaged_pages(connection, constituent, findings),
                driver.cursor(name="slf_verify", binary=True) as cursor,
            ):
                cursor.itersize = BLOCK_ROWS
                cursor.execute(sql, [constituent["id"]])
                for clip, sent, digest in cursor:
                    rows += 1
                    if wrong := _wrong_vector(sent, constituent["shape"][0], digest):
                        message = f"the embedding of its {whose} {wrong}"
                        findings.append(Finding("embedding", None, _label(constituent), message, clip))
    return findings, rows


@contextmanager
def _damaged_pages(connection: Connection, constituent: dict[str, Any], findings: list[Finding]) -> Iterator[None]:
    """A page of a table that is not what PostgreSQL wrote is a finding; the other constituents are still looked at."""
    from psycopg import Error

    try:
        with connection.begin_nested():
            yield
    except (Error, DBAPIError) as error:
        findings.append(damaged_page(error, _label(constituent)))


def damaged_page(error: Exception, constituent: str) -> Finding:
    """The finding that a database error is, if it says that a page or an index is damaged; else it is raised again."""
    from psycopg.errors import DataCorrupted, IndexCorrupted

    cause = getattr(error, "orig", error)
    if not isinstance(cause, DataCorrupted | IndexCorrupted):
        raise error
    return Finding("database", None, constituent, f"PostgreSQL says: {str(cause).strip()}")


def _wrong_vector(sent: bytes, dimension: int, digest: int | None) -> str | None:
    vector = np.frombuffer(sent, ">f4", offset=4).astype("<f4")
    if len(vector) != dimension:
        return f"has {len(vector)} numbers, not {dimension}"
    if not np.isfinite(vector).all():
        return "is not finite"
    if digest is not None and value_hash(vector) != digest:
        return "is not the one that was extracted"
    return None


def _constituents(connection: Connection, only: Collection[str]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(CONSTITUENTS, {"names": list(only) or None}).mappings()]


def _label(constituent: dict[str, Any]) -> str:
    return f"{constituent['name']}@{constituent['version']}"
