-- More to select by: the metadata file's row, coverage, the chosen face. Columns are added at the end. Each of the new
-- ones is a subquery of its own: a statement that does not name it does not pay for it.

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
       clip.vanished_at,
       identity.meta,
       ARRAY(SELECT constituent.name
             FROM extraction
             JOIN constituent ON constituent.id = extraction.constituent_id
             WHERE extraction.clip_id = clip.id AND extraction.state = 'done' AND constituent.status = 'active'
             GROUP BY constituent.name ORDER BY constituent.name) AS constituents,
       (SELECT face.confidence
        FROM face JOIN constituent ON constituent.id = face.constituent_id
        WHERE face.clip_id = clip.id AND constituent.name = 'face' AND constituent.status = 'active'
        ORDER BY constituent.created_at DESC, constituent.id DESC LIMIT 1) AS face_confidence,
       (SELECT face.width
        FROM face JOIN constituent ON constituent.id = face.constituent_id
        WHERE face.clip_id = clip.id AND constituent.name = 'face' AND constituent.status = 'active'
        ORDER BY constituent.created_at DESC, constituent.id DESC LIMIT 1) AS face_width,
       (SELECT face.faces_in_frame
        FROM face JOIN constituent ON constituent.id = face.constituent_id
        WHERE face.clip_id = clip.id AND constituent.name = 'face' AND constituent.status = 'active'
        ORDER BY constituent.created_at DESC, constituent.id DESC LIMIT 1) AS faces_in_frame
FROM clip
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
JOIN source ON source.id = identity.source_id
LEFT JOIN clip_attribute preferred ON preferred.clip_id = clip.id;

COMMENT ON COLUMN clips.meta IS 'Row of the metadata file for the identity, as read: meta ->> ''Nationality''.';
COMMENT ON COLUMN clips.constituents IS 'Constituents the clip has, by name: ''mel'' = ANY(constituents). Looked up clip by clip; over a whole catalogue clip_id IN (SELECT clip_id FROM values_of(''mel'')) is faster.';
COMMENT ON COLUMN clips.face_confidence IS 'The detector''s own score of the chosen face (constituent face); null without one.';
COMMENT ON COLUMN clips.face_width IS 'Width of the chosen face''s box, pixels.';
COMMENT ON COLUMN clips.faces_in_frame IS 'Faces in the frame the face was chosen from.';

CREATE FUNCTION values_of(named text) RETURNS TABLE (
    clip_id bigint, value_min float8, value_mean float8, value_max float8, value_rms float8, value_rows int,
    zero_rows int, seconds float8, extracted_at timestamptz
) LANGUAGE sql STABLE AS $$
    -- The version is found first, so that only its partition is read.
    SELECT extraction.clip_id, extraction.value_min::float8, extraction.value_mean::float8,
           extraction.value_max::float8, extraction.value_rms::float8, extraction.value_rows, extraction.zero_rows,
           extraction.seconds, extraction.finished_at
    FROM extraction
    WHERE extraction.state = 'done'
      AND extraction.constituent_id = (SELECT constituent.id FROM constituent
                                       WHERE constituent.name = named AND constituent.status = 'active'
                                       ORDER BY constituent.created_at DESC, constituent.id DESC LIMIT 1)
$$;

COMMENT ON FUNCTION values_of(text) IS 'Clips that have a constituent (its newest active version), with the statistics of each value: clip_id IN (SELECT clip_id FROM values_of(''mel'') WHERE value_rms > 0.1).';

GRANT SELECT (constituents, face_confidence, face_width, faces_in_frame) ON clips TO slf_analyst;
