-- Clips whose file is gone, and sound beside the pictures. Columns are added at the end; none changes its meaning.

CREATE OR REPLACE VIEW clips AS
SELECT clip.id                                      AS clip_id,
       source.name                                  AS source,
       video.split,
       identity.name                                AS identity,
       video.name                                   AS video,
       clip.name                                    AS clip,
       clip.path,
       clip.state,
       clip.reason,
       clip.duration_s,
       clip.fps,
       clip.frames,
       clip.width,
       clip.height,
       clip.has_audio,
       clip.audio_rate,
       clip.audio_channels,
       preferred.age,
       preferred.age_source,
       preferred.gender,
       preferred.gender_source,
       preferred.ethnicity,
       preferred.ethnicity_source,
       preferred.language,
       preferred.language_source,
       source.synthetic,
       clip.file_bytes,
       preferred.age_score,
       preferred.gender_score,
       preferred.ethnicity_score,
       preferred.language_score,
       clip.audio_path,
       clip.vanished_at
FROM clip
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
JOIN source ON source.id = identity.source_id
LEFT JOIN clip_attribute preferred ON preferred.clip_id = clip.id;

COMMENT ON COLUMN clips.has_audio IS 'Whether there is sound: an audio track in the file, or a file of sound beside it.';
COMMENT ON COLUMN clips.audio_path IS 'File the sound is read from where the clip itself has none, relative to the root of its source.';
COMMENT ON COLUMN clips.vanished_at IS 'When a scan first missed the file; null while it is there. What was extracted before stays.';

CREATE OR REPLACE VIEW coverage AS
SELECT source.name                                  AS source,
       video.split,
       identity.name                                AS identity,
       video.name                                   AS video,
       clip.name                                    AS clip,
       constituent.name                             AS constituent,
       constituent.version,
       CASE WHEN extraction.state IN ('done', 'failed') THEN extraction.state ELSE 'missing' END AS state,
       CASE WHEN extraction.state = 'failed' THEN extraction.error_code
            WHEN extraction.state = 'done' THEN NULL
            WHEN clip.state = 'quarantined' THEN clip.reason
            ELSE coalesce(extraction.state, CASE WHEN clip.vanished_at IS NULL THEN 'not requested' ELSE 'vanished' END)
            END AS reason,
       CASE WHEN extraction.state = 'failed' THEN extraction.error_message
            WHEN extraction.state = 'done' THEN NULL
            ELSE clip.message END                   AS message,
       extraction.seconds,
       clip.id                                      AS clip_id
FROM clip
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
JOIN source ON source.id = identity.source_id
CROSS JOIN constituent
LEFT JOIN extraction ON extraction.clip_id = clip.id AND extraction.constituent_id = constituent.id
WHERE constituent.status = 'active';

COMMENT ON COLUMN coverage.reason IS 'Failed: the reason code. Missing: pending, leased, not requested, vanished (its file is gone), or why the clip is quarantined.';

GRANT SELECT (vanished_at) ON clips TO slf_analyst;
