-- Attributes by constituent version, with scores.

-- Which statement of an attribute wins where there are several: the lowest rank, then the newest version.
CREATE OR REPLACE VIEW preferred_attribute AS
SELECT DISTINCT ON (attribute.clip_id, attribute.name)
       attribute.clip_id,
       attribute.name,
       attribute.value_text,
       attribute.value_number,
       attribute.score,
       attribute.source,
       constituent.version
FROM attribute
LEFT JOIN constituent ON constituent.id = attribute.constituent_id
WHERE attribute.constituent_id IS NULL OR constituent.status = 'active'
ORDER BY attribute.clip_id, attribute.name,
         CASE WHEN attribute.constituent_id IS NULL THEN 1
              WHEN attribute.source IN ('deepface_attributes', 'language_commonlanguage') THEN 2
              WHEN attribute.source IN ('age_gender', 'language_whisper') THEN 3
              ELSE 4 END,
         attribute.source, constituent.created_at DESC, constituent.id DESC;

COMMENT ON VIEW preferred_attribute IS 'One value per clip and attribute. A metadata file wins; then deepface_attributes and language_commonlanguage (hub); then age_gender and language_whisper (offline); then any other extractor, by name. Of one extractor the newest active version wins; retired versions never do.';
COMMENT ON COLUMN preferred_attribute.version IS 'Version of the constituent that says so; null for metadata.';

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
       age.value_number                             AS age,
       age.source                                   AS age_source,
       gender.value_text                            AS gender,
       gender.source                                AS gender_source,
       ethnicity.value_text                         AS ethnicity,
       ethnicity.source                             AS ethnicity_source,
       language.value_text                          AS language,
       language.source                              AS language_source,
       source.synthetic,
       clip.file_bytes,
       age.score                                    AS age_score,
       gender.score                                 AS gender_score,
       ethnicity.score                              AS ethnicity_score,
       language.score                               AS language_score
FROM clip
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
JOIN source ON source.id = identity.source_id
LEFT JOIN preferred_attribute age ON age.clip_id = clip.id AND age.name = 'age'
LEFT JOIN preferred_attribute gender ON gender.clip_id = clip.id AND gender.name = 'gender'
LEFT JOIN preferred_attribute ethnicity ON ethnicity.clip_id = clip.id AND ethnicity.name = 'ethnicity'
LEFT JOIN preferred_attribute language ON language.clip_id = clip.id AND language.name = 'language';

COMMENT ON COLUMN clips.age_score IS 'Confidence of age_source, 0 to 1; null where it gives none.';
COMMENT ON COLUMN clips.gender_score IS 'Confidence of gender_source, 0 to 1; null where it gives none.';
COMMENT ON COLUMN clips.ethnicity_score IS 'Confidence of ethnicity_source, 0 to 1; null where it gives none.';
COMMENT ON COLUMN clips.language_score IS 'Confidence of language_source, 0 to 1; null where it gives none.';

GRANT SELECT (age_score, gender_score, ethnicity_score, language_score) ON clips TO slf_analyst;
