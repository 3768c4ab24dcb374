"""Tables that account for what was done with people's data: audit_log, erasure, blocked, report."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from slf_store.db.base import Base, Big, BigId, Created, Json


class AuditLog(Base):
    """Who did what, when: snapshots frozen, exports, erasures."""

    __tablename__ = "audit_log"

    id: Mapped[BigId]
    at: Mapped[Created]
    actor: Mapped[str] = mapped_column(server_default=text("session_user"))
    action: Mapped[str]
    detail: Mapped[Json]


class Erasure(Base):
    """The receipt of an erasure; holds no personal data."""

    __tablename__ = "erasure"
    __table_args__ = (CheckConstraint("state in ('running', 'pages', 'done')", name="state"),)

    id: Mapped[BigId]
    at: Mapped[Created]
    actor: Mapped[str] = mapped_column(server_default=text("session_user"))
    receipt: Mapped[Json]
    state: Mapped[str] = mapped_column(server_default="done")
    work: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, comment="what is still to be removed, names included; null as soon as nothing is"
    )


class Blocked(Base):
    """An identity, video or clip that no ingest brings back; by keyed digest, so that no name is kept."""

    __tablename__ = "blocked"
    __table_args__ = (CheckConstraint("kind in ('key', 'identity', 'video', 'clip')", name="kind"),)

    digest: Mapped[str] = mapped_column(primary_key=True, comment="keyed blake2b-256; the key is <home>/blocklist.key")
    kind: Mapped[str]
    at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Report(Base):
    """An HTML report that was written."""

    __tablename__ = "report"

    id: Mapped[BigId]
    path: Mapped[str] = mapped_column(unique=True, comment="absolute")
    created_at: Mapped[Created]


class ReportClip(Base):
    """A clip whose faces a report shows."""

    __tablename__ = "report_clip"

    report_id: Mapped[Big] = mapped_column(ForeignKey("report.id", ondelete="CASCADE"), primary_key=True)
    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), primary_key=True, index=True)
