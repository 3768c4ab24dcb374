"""Tables of what an evaluation found: each probe's outcome, attributes of generated faces, metrics by group."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from slf_store.db.base import Base, Big


class Probe(Base):
    """What became of one probe of an evaluation: every probe has a row, also one in which no face was detected."""

    __tablename__ = "probe"

    evaluation_id: Mapped[Big] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True)
    clip_id: Mapped[Big] = mapped_column(ForeignKey("clip.id", ondelete="CASCADE"), primary_key=True, index=True)
    detected: Mapped[bool] = mapped_column(comment="whether a face was detected in it")
    rank: Mapped[int | None] = mapped_column(comment="of the first right match; null: none among those kept")
    psnr: Mapped[float | None] = mapped_column(comment="dB against the real face; null without a pair")
    ssim: Mapped[float | None]


class GenerationAttribute(Base):
    """What an attribute constituent says of a generated face; all null where it found no face."""

    __tablename__ = "generation_attribute"

    generation_id: Mapped[Big] = mapped_column(ForeignKey("generation.id", ondelete="CASCADE"), primary_key=True)
    constituent_id: Mapped[Big] = mapped_column(ForeignKey("constituent.id", ondelete="CASCADE"), primary_key=True)
    age: Mapped[float | None] = mapped_column(comment="years")
    gender: Mapped[str | None]
    ethnicity: Mapped[str | None]


class AttributeMetric(Base):
    """How often attributes estimated on generated faces are those of the real ones."""

    __tablename__ = "attribute_metric"
    __table_args__ = (CheckConstraint("attribute in ('gender', 'ethnicity', 'age_group', 'age')", name="attribute"),)

    evaluation_id: Mapped[Big] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True)
    attribute: Mapped[str] = mapped_column(primary_key=True, comment="age: root mean square error, years; else recall")
    truth: Mapped[str] = mapped_column(primary_key=True, comment="who states the real face's: metadata or constituent")
    estimator: Mapped[str] = mapped_column(primary_key=True, comment="constituent that looked at the generated face")
    value: Mapped[float]
    ci_low: Mapped[float] = mapped_column(comment="95 % interval")
    ci_high: Mapped[float]
    n: Mapped[int]
    missed: Mapped[int] = mapped_column(comment="without an estimate: misses of a recall, left out of the age error")


class GroupMetric(Base):
    """One number of an evaluation for the probes of one group of people."""

    __tablename__ = "group_metric"
    __table_args__ = (
        CheckConstraint("attribute in ('gender', 'ethnicity', 'age_group', 'language')", name="attribute"),
    )

    evaluation_id: Mapped[Big] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"), primary_key=True)
    attribute: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True, comment="the group; unknown where nobody states it")
    name: Mapped[str] = mapped_column(
        primary_key=True,
        comment="recall | detected | psnr | ssim | gender_recall | ethnicity_recall | age_group_recall | age_error",
    )
    k: Mapped[int] = mapped_column(primary_key=True, comment="0 where the metric has none")
    truth: Mapped[str] = mapped_column(primary_key=True, comment="as attribute_metric.truth; none for other metrics")
    estimator: Mapped[str] = mapped_column(
        primary_key=True, comment="as attribute_metric.estimator; none for other metrics"
    )
    value: Mapped[float]
    ci_low: Mapped[float] = mapped_column(comment="95 % interval")
    ci_high: Mapped[float]
    n: Mapped[int]
    identities: Mapped[int] = mapped_column(comment="people in the group")
    source: Mapped[str] = mapped_column(comment="who states the attribute; several separated by a comma")
