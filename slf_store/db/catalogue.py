"""Tables of what was ingested: source, place, identity, video, clip, attribute."""

from __future__ import annotations

import datetime as dt
from types import MappingProxyType

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy import Identity as SqlIdentity
from sqlalchemy.orm import Mapped, mapped_column

from slf_store.db.base import Base, Big, BigId, Created, Json


class Source(Base):
    """A registered root folder; clip paths are relative to it."""

    __tablename__ = "source"

    id: Mapped[BigId]
    name: Mapped[str] = mapped_column(unique=True)
    root: Mapped[str]
    layout: Mapped[str] = mapped_column(comment="voxceleb2 | folder")
    synthetic: Mapped[bool] = mapped_column(server_default=text("false"), comment="drawn faces, synthesised voices")
    created_at: Mapped[Created]


class Place(Base):
    """One split of one source: what clips and extractions are counted by."""

    __tablename__ = "place"
    __table_args__ = (UniqueConstraint("source_id", "split"),)

    id: Mapped[int] = mapped_column(SqlIdentity(), primary_key=True)
    source_id: Mapped[Big] = mapped_column(ForeignKey("source.id", ondelete="CASCADE"))
    split: Mapped[str]


class Identity(Base):
    """A person, VoxCeleb2's first level (`id00012`)."""

    __tablename__ = "identity"
    __table_args__ = (UniqueConstraint("source_id", "name"),)

    id: Mapped[BigId]
    source_id: Mapped[Big] = mapped_column(ForeignKey("source.id", ondelete="CASCADE"))
    name: Mapped[str]
    meta: Mapped[Json] = mapped_column(server_default=text("'{}'"), comment="row of the metadata file, as read")


class Video(Base):
    """A video, VoxCeleb2's second level (`21Uxsk56VDQ`)."""

    __tablename__ = "video"
    __table_args__ = (
        UniqueConstraint("identity_id", "split", "name"),
        CheckConstraint("split in ('dev', 'test')", name="split"),
    )

    id: Mapped[BigId]
    identity_id: Mapped[Big] = mapped_column(ForeignKey("identity.id", ondelete="CASCADE"))
    split: Mapped[str]
    name: Mapped[str]


class Clip(Base):
    """A clip, VoxCeleb2's third level (`00001`), and what probing its file found."""

    __tablename__ = "clip"
    __table_args__ = (
        UniqueConstraint("video_id", "name"),
        CheckConstraint("state in ('ok', 'quarantined')", name="state"),
        CheckConstraint("(state = 'ok') = (reason is null)", name="reason"),
        Index("ix_clip_quarantined", "place_id", "reason", postgresql_where=text("state = 'quarantined'")),
        Index("ix_clip_vanished", "place_id", "id", postgresql_where=text("vanished_at is not null")),
    )

    id: Mapped[BigId]
    video_id: Mapped[Big] = mapped_column(ForeignKey("video.id", ondelete="CASCADE"))
    name: Mapped[str]
    path: Mapped[str] = mapped_column(comment="relative to source.root, POSIX separators")
    state: Mapped[str] = mapped_column(comment="ok | quarantined")
    reason: Mapped[str | None] = mapped_column(comment="reason code of a quarantined clip")
    message: Mapped[str | None]
    duration_s: Mapped[float | None] = mapped_column(comment="seconds")
    fps: Mapped[float | None] = mapped_column(comment="frames per second")
    frames: Mapped[int | None]
    width: Mapped[int | None] = mapped_column(comment="pixels")
    height: Mapped[int | None] = mapped_column(comment="pixels")
    has_audio: Mapped[bool | None]
    audio_rate: Mapped[int | None] = mapped_column(comment="Hz")
    audio_channels: Mapped[int | None]
    file_bytes: Mapped[int] = mapped_column(BigInteger)
    file_mtime_ns: Mapped[int] = mapped_column(BigInteger)
    checksum: Mapped[str | None] = mapped_column(comment="blake2b-128 of the file")
    scanned_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    place_id: Mapped[int] = mapped_column(comment="split of a source")
    audio_path: Mapped[str | None] = mapped_column(
        comment="file of sound beside the clip, used where the clip has no audio track"
    )
    audio_bytes: Mapped[int | None] = mapped_column(
        BigInteger, comment="size of the file of sound beside the clip; null where there is none"
    )
    audio_mtime_ns: Mapped[int | None] = mapped_column(BigInteger)
    audio_checksum: Mapped[str | None] = mapped_column(comment="blake2b-128 of audio_path")
    vanished_at: Mapped[dt.datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when a scan first missed the file"
    )


class Attribute(Base):
    """Age, gender, ethnicity or language of a clip, as a metadata file or one constituent version states it."""

    __tablename__ = "attribute"
    __table_args__ = (
        UniqueConstraint("clip_id", "name", "source", "constituent_id", postgresql_nulls_not_distinct=True),
        CheckConstraint("name in ('age', 'gender', 'ethnicity', 'language')", name="name"),
        CheckConstraint("(value_text is null) <> (value_number is null)", name="one_value"),
        Index("ix_attribute_name_clip_id", "name", "clip_id"),
    )
    __mapper_args__ = MappingProxyType({"primary_key": ("clip_id", "name", "source", "constituent_id")})

    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"))
    name: Mapped[str]
    source: Mapped[str] = mapped_column(comment="metadata, or the constituent that says so")
    value_text: Mapped[str | None]
    value_number: Mapped[float | None] = mapped_column(comment="age in years")
    score: Mapped[float | None] = mapped_column(comment="the source's own confidence, 0 to 1")
    constituent_id: Mapped[int | None] = mapped_column(
        BigInteger,
        ForeignKey("constituent.id", ondelete="CASCADE"),
        comment="version that says so; null for metadata",
    )


class ClipAttribute(Base):
    """The attributes preferred of a clip, as `preferred_attribute` chooses them; written by triggers only."""

    __tablename__ = "clip_attribute"

    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), primary_key=True)
    age: Mapped[float | None]
    age_source: Mapped[str | None]
    age_score: Mapped[float | None]
    gender: Mapped[str | None]
    gender_source: Mapped[str | None]
    gender_score: Mapped[float | None]
    ethnicity: Mapped[str | None]
    ethnicity_source: Mapped[str | None]
    ethnicity_score: Mapped[float | None]
    language: Mapped[str | None]
    language_source: Mapped[str | None]
    language_score: Mapped[float | None]
