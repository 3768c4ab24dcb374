"""The SQL of ingest: registering a source, merging scanned clips, merging a metadata file."""

from __future__ import annotations

from sqlalchemy import text

SOURCE_BY_ROOT = text("SELECT id, name FROM source WHERE root = :root")
SOURCE_BY_NAME = text("SELECT id FROM source WHERE name = :name")
NEW_SOURCE = text("""
    INSERT INTO source (name, root, layout, synthetic) VALUES (:name, :root, :layout, :synthetic) RETURNING id, name
""")

NEW_PLACES = text("""
    INSERT INTO place (source_id, split) SELECT :source_id, wanted FROM unnest(CAST(:splits AS text[])) wanted
    ON CONFLICT DO NOTHING
""")

LOOKS = text("""
    -- What the clips of some identities looked like when they were last probed: a line each, as scan.py writes them.
    -- A clip that is to be seen to has a line that no file has.
    SELECT identity.name, string_agg(concat_ws(
               E'\\t', clip.path, clip.file_bytes, clip.file_mtime_ns, clip.audio_bytes, clip.audio_mtime_ns,
               CASE WHEN clip.vanished_at IS NOT NULL OR clip.reason = 'unexpected' THEN 'see' END), E'\\n') AS lines
    FROM identity
    JOIN video ON video.identity_id = identity.id AND video.split = :split
    JOIN clip ON clip.video_id = video.id
    WHERE identity.source_id = :source_id AND identity.name = ANY(:identities)
    GROUP BY identity.name
""")

KNOWN = text("""
    -- What the clips of some identities looked like when they were last probed; what failed unexpectedly is to be
    -- probed again.
    SELECT clip.id, clip.path, clip.file_bytes,
           CASE WHEN clip.reason = 'unexpected' THEN -1 ELSE clip.file_mtime_ns END AS file_mtime_ns,
           clip.audio_bytes, clip.audio_mtime_ns, clip.vanished_at IS NOT NULL AS vanished
    FROM identity
    JOIN video ON video.identity_id = identity.id AND video.split = :split
    JOIN clip ON clip.video_id = video.id
    WHERE identity.source_id = :source_id AND identity.name = ANY(:identities)
""")

KNOWN_IDENTITIES = text("""
    SELECT DISTINCT video.split, identity.name
    FROM identity JOIN video ON video.identity_id = identity.id
    WHERE identity.source_id = :source_id
""")

VANISH = [
    text("UPDATE clip SET vanished_at = now() WHERE id = ANY(:clips) AND vanished_at IS NULL"),
    # Nobody can extract from a file that is not there. What was extracted stays.
    text("DELETE FROM extraction WHERE clip_id = ANY(:clips) AND state = 'pending'"),
]
RETURN = text("UPDATE clip SET vanished_at = NULL WHERE id = ANY(:clips)")

QUARANTINED = text("""
    SELECT clip.reason, count(*) AS clips
    FROM clip
    WHERE clip.place_id IN (SELECT id FROM place WHERE source_id = :id) AND clip.state = 'quarantined'
      AND clip.vanished_at IS NULL
    GROUP BY clip.reason ORDER BY clip.reason
""")

NO_FLUSH = text("""
    -- Do not wait for the disk: of a batch that a power failure takes the next scan finds that it is missing.
    SET LOCAL synchronous_commit = off
""")

SCANNED_COLUMNS = [
    ("identity", "text"),
    ("split", "text"),
    ("video", "text"),
    ("clip", "text"),
    ("path", "text"),
    ("state", "text"),
    ("reason", "text"),
    ("message", "text"),
    ("duration_s", "float8"),
    ("fps", "float8"),
    ("frames", "int4"),
    ("width", "int4"),
    ("height", "int4"),
    ("has_audio", "bool"),
    ("audio_rate", "int4"),
    ("audio_channels", "int4"),
    ("file_bytes", "int8"),
    ("file_mtime_ns", "int8"),
    ("checksum", "text"),
    ("audio_path", "text"),
    ("audio_bytes", "int8"),
    ("audio_mtime_ns", "int8"),
    ("audio_checksum", "text"),
]

_SAME_CLIP = """
    JOIN identity ON identity.source_id = :source_id AND identity.name = scanned.identity
    JOIN video ON video.identity_id = identity.id AND video.split = scanned.split AND video.name = scanned.video
"""

MERGE_IDENTITIES = text("""
    INSERT INTO identity (source_id, name)
    SELECT DISTINCT :source_id, scanned.identity FROM scanned
    ON CONFLICT DO NOTHING
""")

MERGE_VIDEOS = text("""
    INSERT INTO video (identity_id, split, name)
    SELECT DISTINCT identity.id, scanned.split, scanned.video
    FROM scanned
    JOIN identity ON identity.source_id = :source_id AND identity.name = scanned.identity
    ON CONFLICT DO NOTHING
""")

CHANGED = text(f"""
    SELECT clip.id
    FROM scanned {_SAME_CLIP}
    JOIN clip ON clip.video_id = video.id AND clip.name = scanned.clip
    WHERE clip.checksum IS DISTINCT FROM scanned.checksum
       OR clip.audio_checksum IS DISTINCT FROM scanned.audio_checksum
""")

FORGET_VALUES = [
    # What was extracted from a file that has changed is of no use: forget it, so that it is extracted again.
    text("DELETE FROM extraction WHERE clip_id = ANY(:clips)"),
    text("DELETE FROM face_embedding WHERE clip_id = ANY(:clips)"),
    text("DELETE FROM face WHERE clip_id = ANY(:clips)"),
    text("DELETE FROM attribute WHERE clip_id = ANY(:clips) AND constituent_id IS NOT NULL"),
]

_PROBED = [name for name, _ in SCANNED_COLUMNS[SCANNED_COLUMNS.index(("path", "text")) :]]

_CLIPS = f"""
    WITH wanted AS MATERIALIZED ( -- found once for each video: an index asked once for each clip takes a quarter longer
        SELECT identity.name AS identity, video.split, video.name AS video, video.id, place.id AS place_id
        FROM identity
        JOIN video ON video.identity_id = identity.id
        JOIN place ON place.source_id = :source_id AND place.split = video.split
        WHERE identity.source_id = :source_id AND identity.name IN (SELECT identity FROM scanned)
    )
    INSERT INTO clip (video_id, name, place_id, {", ".join(_PROBED)})
    SELECT wanted.id, scanned.clip, wanted.place_id, {", ".join(f"scanned.{name}" for name in _PROBED)}
    FROM scanned JOIN wanted USING (identity, split, video)
"""
NEW_CLIPS = text(_CLIPS)
CHECKS = text("""
    -- 'replica' leaves foreign keys unchecked in this transaction, where the user may say so: of clips whose videos are
    -- rows of the same transaction, found by the same statement. The check takes a third of the time. 'origin' ends it.
    SELECT set_config('session_replication_role', :role, true)
    WHERE has_parameter_privilege('session_replication_role', 'SET')
""")
MERGE_CLIPS = text(f"""{_CLIPS}
    ON CONFLICT (video_id, name) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _PROBED)}, scanned_at = now(), vanished_at = NULL
""")

STATED_COLUMNS = [("identity", "text"), ("meta", "text")]
STATEMENT_COLUMNS = [
    ("identity", "text"),
    ("video", "text"),
    ("name", "text"),
    ("value_text", "text"),
    ("value_number", "float8"),
]

MERGE_METADATA = [
    text("""
        UPDATE identity SET meta = coalesce(identity.meta, '{}') || CAST(stated.meta AS jsonb)
        FROM stated WHERE identity.source_id = :source_id AND identity.name = stated.identity
    """),
    text("""
        -- What a metadata file states, for every clip of the identity or of the video; of the two the video wins.
        INSERT INTO attribute (clip_id, name, source, value_text, value_number)
        SELECT DISTINCT ON (clip.id, statement.name)
               clip.id, statement.name, 'metadata', statement.value_text, statement.value_number
        FROM statement
        JOIN identity ON identity.source_id = :source_id AND identity.name = statement.identity
        JOIN video ON video.identity_id = identity.id AND (statement.video IS NULL OR statement.video = video.name)
        JOIN clip ON clip.video_id = video.id
        ORDER BY clip.id, statement.name, statement.video NULLS LAST
        ON CONFLICT (clip_id, name, source, constituent_id) DO UPDATE
        SET value_text = excluded.value_text, value_number = excluded.value_number
        WHERE (attribute.value_text, attribute.value_number)
              IS DISTINCT FROM (excluded.value_text, excluded.value_number)
    """),
]
