"""Tables of what researchers make: systems, snapshots, runs and their checkpoints, generations, evaluations."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from slf_store.db.base import Base, Big, BigId, Created, Json


class SystemRow(Base):
    """A system of a researcher's own, beside the built-in ones."""

    __tablename__ = "system"

    name: Mapped[str] = mapped_column(primary_key=True)
    include: Mapped[list[str]] = mapped_column(
        ARRAY(String), comment="inputs it is given: names, globs, or the groups speaker, classical, attributes"
    )
    exclude: Mapped[list[str]] = mapped_column(ARRAY(String), comment="inputs taken away again, written alike")
    guide: Mapped[bool] = mapped_column(comment="whether it is given the 8x8 image guide")
    created_by: Mapped[str] = mapped_column(server_default=text("session_user"))
    created_at: Mapped[Created]


class Snapshot(Base):
    """A frozen selection."""

    __tablename__ = "snapshot"
    __table_args__ = (CheckConstraint("missing in ('error', 'skip', 'zero')", name="missing"),)

    id: Mapped[BigId]
    name: Mapped[str] = mapped_column(unique=True)
    hash: Mapped[str] = mapped_column(comment="blake2b-256 over clips, versions, data, statistics, layout")
    predicate: Mapped[str]
    layout: Mapped[str]
    missing: Mapped[str] = mapped_column(comment="what was done about missing constituents")
    seed: Mapped[int] = mapped_column(BigInteger)
    clips: Mapped[int]
    normalisation: Mapped[Json] = mapped_column(comment="per constituent: mean, std of the training part")
    created_by: Mapped[str] = mapped_column(server_default=text("session_user"))
    created_at: Mapped[Created]
    erased_clips: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment="clips it was frozen with that were erased since: above 0 it is no longer complete",
    )
    incomplete_since: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    blocks: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, comment="blocks of its layout, as frozen")
    chosen: Mapped[Json] = mapped_column(
        server_default=text("'{}'"),
        comment="how its clips were chosen: system, per_identity, balance, sample, limit, seed, validation",
    )


class SnapshotConstituent(Base):
    """A constituent version a snapshot uses, and the checksum of its values in snapshot order."""

    __tablename__ = "snapshot_constituent"

    snapshot_id: Mapped[Big] = mapped_column(ForeignKey("snapshot.id", ondelete="CASCADE"), primary_key=True)
    constituent_id: Mapped[Big] = mapped_column(ForeignKey("constituent.id"), primary_key=True)
    data_checksum: Mapped[str]
    missing_clips: Mapped[int]
    present: Mapped[bytes | None] = mapped_column(comment="a bit for each clip in snapshot order")
    value_hashes: Mapped[bytes | None] = mapped_column(
        comment="extraction.value_hash of each clip when frozen, little-endian int64, 0 where unknown"
    )


class SnapshotClip(Base):
    """A clip of a snapshot at its position."""

    __tablename__ = "snapshot_clip"
    __table_args__ = (CheckConstraint("part in ('train', 'validation')", name="part"),)

    snapshot_id: Mapped[Big] = mapped_column(ForeignKey("snapshot.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), index=True)
    part: Mapped[str]
    age: Mapped[float | None] = mapped_column(comment="attributes as they were when frozen")
    gender: Mapped[str | None]
    ethnicity: Mapped[str | None]
    language: Mapped[str | None]


class Run(Base):
    """One training of one system on one snapshot."""

    __tablename__ = "run"

    id: Mapped[BigId]
    name: Mapped[str] = mapped_column(unique=True)
    snapshot_id: Mapped[Big] = mapped_column(ForeignKey("snapshot.id"))
    system: Mapped[str]
    preset: Mapped[str]
    config: Mapped[Json]
    seed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[Created]
    inputs: Mapped[list[str]] = mapped_column(ARRAY(String), comment="what its system sees, by name")
    guide: Mapped[bool] = mapped_column(comment="whether it has the image guide")


class Checkpoint(Base):
    """The weights of one U-Net of a run after some samples."""

    __tablename__ = "checkpoint"
    __table_args__ = (
        Index("uq_checkpoint_role", "run_id", "unet", "role", unique=True, postgresql_where=text("role <> 'earlier'")),
        CheckConstraint("unet in (1, 2)", name="unet"),
        CheckConstraint("role in ('last', 'earlier', 'best')", name="role"),
    )

    id: Mapped[BigId]
    run_id: Mapped[Big] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    unet: Mapped[int]
    samples_seen: Mapped[int] = mapped_column(BigInteger)
    loss: Mapped[float | None]
    path: Mapped[str] = mapped_column(comment="relative to the store")
    checksum: Mapped[str]
    seconds: Mapped[float] = mapped_column(comment="training time, seconds")
    created_at: Mapped[Created]
    erased_clips: Mapped[int] = mapped_column(
        server_default=text("0"), comment="clips it was trained on that were erased since"
    )
    role: Mapped[str] = mapped_column(
        server_default="last",
        comment="last: training goes on from it; earlier: kept before it; best: lowest validation loss",
    )
    validation_loss: Mapped[float | None] = mapped_column(comment="newest when it was written; null without one")


class RunLog(Base):
    """What training said while it went on: one row per progress report."""

    __tablename__ = "run_log"
    __table_args__ = (
        Index("ix_run_log_run_id", "run_id", "unet", "samples_seen"),
        CheckConstraint("unet in (1, 2)", name="unet"),
        {"comment": "What training said while it went on: one row per progress report."},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, comment="in the order of writing")
    run_id: Mapped[Big] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), comment="run that was trained")
    unet: Mapped[int] = mapped_column(comment="1 (to 32x32) or 2 (to 128x128)")
    samples_seen: Mapped[int] = mapped_column(BigInteger, comment="by all processes, over all calls")
    loss: Mapped[float] = mapped_column(comment="mean training loss since the line before")
    lr: Mapped[float] = mapped_column(comment="learning rate of the last step")
    samples_per_s: Mapped[float] = mapped_column(comment="of all processes, since the line before")
    wait_share: Mapped[float] = mapped_column(comment="part of that time spent waiting for data, 0 to 1")
    memory_bytes: Mapped[int] = mapped_column(
        BigInteger, comment="peak of the main process: on the accelerator, or resident on a CPU"
    )
    validation_loss: Mapped[float | None] = mapped_column(comment="of the averaged weights; null between validations")
    validation_levels: Mapped[list[float] | None] = mapped_column(
        JSONB, comment="validation loss in equal stretches of timesteps, the least noise first"
    )
    created_at: Mapped[Created] = mapped_column(comment="when the row was written")


class Generation(Base):
    """One face made from one clip: by a run's checkpoints, or by a baseline."""

    __tablename__ = "generation"
    __table_args__ = (
        UniqueConstraint("run_id", "clip_id", "method", "scale", "seed", "steps"),
        CheckConstraint("method in ('diffusion', 'bicubic')", name="method"),
        Index("ix_generation_clip_id", "clip_id"),
    )

    id: Mapped[BigId]
    run_id: Mapped[Big] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"))
    method: Mapped[str]
    scale: Mapped[float] = mapped_column(comment="conditional scale; 0 for a baseline")
    seed: Mapped[int] = mapped_column(BigInteger)
    steps: Mapped[int] = mapped_column(comment="solver steps per U-Net; 0 for a baseline")
    samples_seen: Mapped[int] = mapped_column(BigInteger, comment="of U-Net 1 when it was made")
    path: Mapped[str] = mapped_column(comment="PNG, relative to the store")
    checksum: Mapped[str | None] = mapped_column(comment="blake2b-128 of the PNG; null where an old program made it")
    psnr: Mapped[float | None] = mapped_column(comment="dB against the real face")
    ssim: Mapped[float | None]
    created_at: Mapped[Created]


class GenerationEmbedding(Base):
    """A generated face as a vector; null where no face was detected in it."""

    __tablename__ = "generation_embedding"

    generation_id: Mapped[Big] = mapped_column(ForeignKey("generation.id", ondelete="CASCADE"), primary_key=True)
    constituent_id: Mapped[Big] = mapped_column(ForeignKey("constituent.id", ondelete="CASCADE"), primary_key=True)
    vector: Mapped[list[float] | None] = mapped_column(VECTOR())


class Evaluation(Base):
    """One system (or baseline) of one run measured on one gallery."""

    __tablename__ = "evaluation"
    __table_args__ = (
        UniqueConstraint(
            "run_id",
            "gallery_id",
            "part",
            "system",
            "scale",
            "seed",
            "steps",
            "constituent_id",
            "distance",
            name="uq_evaluation_key",
        ),
        CheckConstraint("part in ('all', 'train', 'validation')", name="part"),
        CheckConstraint("distance in ('euclidean', 'cosine')", name="distance"),
    )

    id: Mapped[BigId]
    run_id: Mapped[Big] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    gallery_id: Mapped[Big] = mapped_column(ForeignKey("snapshot.id"), comment="snapshot searched in")
    part: Mapped[str] = mapped_column(server_default="all")
    system: Mapped[str] = mapped_column(comment="the run's system, or random | bicubic-8x8 | real-vs-real")
    scale: Mapped[float] = mapped_column(comment="conditional scale; 0 for a baseline")
    seed: Mapped[int] = mapped_column(BigInteger)
    steps: Mapped[int] = mapped_column(
        server_default=text("0"), comment="solver steps of each U-Net; 0 = as the preset says, or a baseline"
    )
    constituent_id: Mapped[Big] = mapped_column(ForeignKey("constituent.id"), comment="embedding model")
    checkpoint_samples: Mapped[int] = mapped_column(BigInteger)
    probes: Mapped[int]
    gallery_faces: Mapped[int]
    undetected: Mapped[int] = mapped_column(comment="probes without a detected face: counted as misses")
    created_at: Mapped[Created]
    erased_clips: Mapped[int] = mapped_column(
        server_default=text("0"), comment="clips among its probes and gallery that were erased since"
    )
    distance: Mapped[str] = mapped_column(server_default="euclidean", comment="between two embeddings")


class Match(Base):
    """The k-th nearest gallery face of a probe."""

    __tablename__ = "match"

    evaluation_id: Mapped[Big] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True)
    probe_clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), primary_key=True, index=True)
    rank: Mapped[int] = mapped_column(primary_key=True, comment="from 1")
    gallery_clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), index=True)
    distance: Mapped[float] = mapped_column(comment="as evaluation.distance says")
    hit: Mapped[bool] = mapped_column(comment="same identity")


class Metric(Base):
    """One number of an evaluation, with its interval."""

    __tablename__ = "metric"

    evaluation_id: Mapped[Big] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(
        primary_key=True, comment="recall | identity_recall | psnr | ssim | frechet | fid"
    )
    k: Mapped[int] = mapped_column(primary_key=True, comment="0 where the metric has none")
    value: Mapped[float]
    ci_low: Mapped[float] = mapped_column(comment="95 % interval")
    ci_high: Mapped[float]
    n: Mapped[int]
