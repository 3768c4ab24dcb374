"""All tables, and the metadata that Alembic compares with the migrations."""

from slf_store.db.base import Base
from slf_store.db.catalogue import Attribute, Clip, ClipAttribute, Identity, Place, Source, Video
from slf_store.db.features import ConstituentRow, Extraction, ExtractionCount, Face, FaceEmbedding, Shard
from slf_store.db.governance import AuditLog, Blocked, Erasure, Report, ReportClip
from slf_store.db.measured import AttributeMetric, GenerationAttribute, GroupMetric, Probe
from slf_store.db.research import (
    Checkpoint,
    Evaluation,
    Generation,
    GenerationEmbedding,
    Match,
    Metric,
    Run,
    Snapshot,
    SnapshotClip,
    SnapshotConstituent,
    SystemRow,
)

metadata = Base.metadata

__all__ = [
    "Attribute",
    "AttributeMetric",
    "AuditLog",
    "Blocked",
    "Checkpoint",
    "Clip",
    "ClipAttribute",
    "ConstituentRow",
    "Erasure",
    "Evaluation",
    "Extraction",
    "ExtractionCount",
    "Face",
    "FaceEmbedding",
    "Generation",
    "GenerationAttribute",
    "GenerationEmbedding",
    "GroupMetric",
    "Identity",
    "Match",
    "Metric",
    "Place",
    "Probe",
    "Report",
    "ReportClip",
    "Run",
    "Shard",
    "Snapshot",
    "SnapshotClip",
    "SnapshotConstituent",
    "Source",
    "SystemRow",
    "Video",
    "metadata",
]
