"""Tables of what was extracted: constituent, shard, extraction, face, face_embedding."""

from __future__ import annotations

import datetime as dt

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from slf_store.db.base import Base, Big, BigId, Created, Json


class ConstituentRow(Base):
    """One constituent in one version."""

    __tablename__ = "constituent"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        CheckConstraint("kind in ('array', 'attribute', 'face', 'embedding')", name="kind"),
        CheckConstraint("status in ('active', 'retired')", name="status"),
    )

    id: Mapped[BigId]
    name: Mapped[str]
    version: Mapped[str] = mapped_column(comment="first 12 hex digits of the spec's hash")
    kind: Mapped[str]
    shape: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    dtype: Mapped[str | None]
    spec: Mapped[Json] = mapped_column(comment="code version, weights' checksum, parameters")
    status: Mapped[str] = mapped_column(server_default="active")
    created_at: Mapped[Created]


class Shard(Base):
    """One sealed HDF5 file of one constituent version."""

    __tablename__ = "shard"
    __table_args__ = (
        CheckConstraint("state in ('sealed', 'superseded')", name="state"),
        CheckConstraint("(state = 'superseded') = (superseded_at is not null)", name="superseded"),
        Index("ix_shard_superseded_at", "superseded_at", postgresql_where=text("state = 'superseded'")),
    )

    id: Mapped[BigId]
    constituent_id: Mapped[Big] = mapped_column(ForeignKey("constituent.id", ondelete="CASCADE"), index=True)
    path: Mapped[str] = mapped_column(unique=True, comment="relative to the shard folder")
    rows: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    checksum: Mapped[str] = mapped_column(comment="blake2b-128 of the file")
    created_at: Mapped[Created]
    state: Mapped[str] = mapped_column(
        server_default="sealed",
        comment="sealed | superseded: its rows lie in another shard, the file stays for readers until gc",
    )
    superseded_at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))


class Extraction(Base):
    """The state of one constituent of one clip; partitioned by constituent."""

    __tablename__ = "extraction"
    __table_args__ = (
        CheckConstraint("state in ('pending', 'leased', 'done', 'failed')", name="state"),
        CheckConstraint("(state = 'failed') = (error_code is not null)", name="failed"),
        CheckConstraint("(state = 'leased') = (lease_owner is not null)", name="leased"),
        Index("ix_extraction_leased", "lease_owner", postgresql_where=text("state = 'leased'")),
        Index("ix_extraction_open", "clip_id", postgresql_where=text("state in ('pending', 'leased')")),
        Index("ix_extraction_failed", "error_code", "clip_id", postgresql_where=text("state = 'failed'")),
        {"postgresql_partition_by": "LIST (constituent_id)"},
    )

    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), primary_key=True)
    constituent_id: Mapped[Big] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="pending")
    shard_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("shard.id"), index=True)
    shard_row: Mapped[int | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    seconds: Mapped[float | None] = mapped_column(comment="time inside the extractor, seconds")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    value_hash: Mapped[int | None] = mapped_column(BigInteger, comment="blake2b-64 of the value's bytes as stored")
    value_min: Mapped[float | None] = mapped_column(REAL, comment="smallest number in the value")
    value_mean: Mapped[float | None] = mapped_column(REAL)
    value_max: Mapped[float | None] = mapped_column(REAL, comment="largest number in the value")
    value_rms: Mapped[float | None] = mapped_column(
        REAL, comment="root mean square; an embedding's norm divided by the root of its length"
    )
    value_rows: Mapped[int | None] = mapped_column(
        comment="rows of an array without padding; attributes stated; 1 for faces and embeddings"
    )
    zero_rows: Mapped[int | None] = mapped_column(comment="rows that are zero throughout")
    place_id: Mapped[int] = mapped_column(comment="split of a source")


class ExtractionCount(Base):
    """How many extractions are in which state: rows to be summed, written by triggers on `extraction`."""

    __tablename__ = "extraction_count"

    id: Mapped[BigId]
    constituent_id: Mapped[Big]
    place_id: Mapped[int]
    state: Mapped[str]
    error_code: Mapped[str | None]
    clips: Mapped[int] = mapped_column(BigInteger, comment="to be summed; negative for what went")
    timed: Mapped[int] = mapped_column(BigInteger, comment="of them with seconds")
    seconds: Mapped[float]


class Face(Base):
    """The face a `face` constituent chose in a clip."""

    __tablename__ = "face"
    __table_args__ = (UniqueConstraint("constituent_id", "clip_id"),)

    id: Mapped[BigId]
    constituent_id: Mapped[Big] = mapped_column(ForeignKey("constituent.id", ondelete="CASCADE"))
    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), index=True)
    frame: Mapped[int] = mapped_column(comment="index from 0")
    x: Mapped[int] = mapped_column(comment="pixels, left")
    y: Mapped[int] = mapped_column(comment="pixels, top")
    width: Mapped[int]
    height: Mapped[int]
    confidence: Mapped[float | None] = mapped_column(comment="the detector's own score, not capped")
    faces_in_frame: Mapped[int]
    detector: Mapped[str]
    chosen_by: Mapped[str | None] = mapped_column(comment="why this face: only | largest | track | bad_track")


class FaceEmbedding(Base):
    """A real face as a vector; partitioned by embedding model (= constituent), its dimension checked there."""

    __tablename__ = "face_embedding"
    __table_args__ = ({"postgresql_partition_by": "LIST (constituent_id)"},)

    constituent_id: Mapped[Big] = mapped_column(ForeignKey("constituent.id", ondelete="CASCADE"), primary_key=True)
    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), primary_key=True, index=True)
    face_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("face.id", ondelete="CASCADE"), index=True)
    vector: Mapped[list[float]] = mapped_column(VECTOR())
