-- The public SQL interface, version 1. Tables may change; these views are kept.

-- Which source of an attribute wins where several state it: the lowest rank.
CREATE VIEW preferred_attribute AS
SELECT DISTINCT ON (clip_id, name)
       clip_id, name, value_text, value_number, score, source
FROM attribute
ORDER BY clip_id, name,
         CASE source WHEN 'metadata' THEN 1 WHEN 'deepface' THEN 2 ELSE 3 END,
         source;

COMMENT ON VIEW preferred_attribute IS 'One value per clip and attribute: metadata files first, then deepface, then any other extractor.';
COMMENT ON COLUMN preferred_attribute.clip_id IS 'Clip the attribute is of.';
COMMENT ON COLUMN preferred_attribute.name IS 'age | gender | ethnicity | language.';
COMMENT ON COLUMN preferred_attribute.value_text IS 'Label: gender f or m, ethnicity, language.';
COMMENT ON COLUMN preferred_attribute.value_number IS 'Age in years.';
COMMENT ON COLUMN preferred_attribute.score IS 'Confidence of the source, 0 to 1.';
COMMENT ON COLUMN preferred_attribute.source IS 'Who says so: metadata, or the constituent''s name.';

CREATE VIEW clips AS
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
       clip.file_bytes
FROM clip
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
JOIN source ON source.id = identity.source_id
LEFT JOIN preferred_attribute age ON age.clip_id = clip.id AND age.name = 'age'
LEFT JOIN preferred_attribute gender ON gender.clip_id = clip.id AND gender.name = 'gender'
LEFT JOIN preferred_attribute ethnicity ON ethnicity.clip_id = clip.id AND ethnicity.name = 'ethnicity'
LEFT JOIN preferred_attribute language ON language.clip_id = clip.id AND language.name = 'language';

COMMENT ON VIEW clips IS 'Every clip known to the store, with its metadata and preferred attributes. Selections are predicates over this view.';
COMMENT ON COLUMN clips.clip_id IS 'Key of the clip in this store.';
COMMENT ON COLUMN clips.source IS 'Name of the registered source.';
COMMENT ON COLUMN clips.split IS 'dev | test.';
COMMENT ON COLUMN clips.identity IS 'VoxCeleb identity, e.g. id00012.';
COMMENT ON COLUMN clips.video IS 'Video id, e.g. 21Uxsk56VDQ.';
COMMENT ON COLUMN clips.clip IS 'Clip name, e.g. 00001.';
COMMENT ON COLUMN clips.path IS 'File, relative to the root of its source.';
COMMENT ON COLUMN clips.state IS 'ok | quarantined (could not be read at ingest).';
COMMENT ON COLUMN clips.reason IS 'Reason code of a quarantined clip.';
COMMENT ON COLUMN clips.duration_s IS 'Seconds.';
COMMENT ON COLUMN clips.fps IS 'Frames per second.';
COMMENT ON COLUMN clips.frames IS 'Number of video frames.';
COMMENT ON COLUMN clips.width IS 'Pixels.';
COMMENT ON COLUMN clips.height IS 'Pixels.';
COMMENT ON COLUMN clips.has_audio IS 'Whether the file has an audio track.';
COMMENT ON COLUMN clips.audio_rate IS 'Audio sampling rate, Hz.';
COMMENT ON COLUMN clips.audio_channels IS 'Audio channels.';
COMMENT ON COLUMN clips.age IS 'Years; an estimate unless age_source is metadata.';
COMMENT ON COLUMN clips.age_source IS 'Who states the age.';
COMMENT ON COLUMN clips.gender IS 'f | m, as the source states it; null when unknown.';
COMMENT ON COLUMN clips.gender_source IS 'Who states the gender.';
COMMENT ON COLUMN clips.ethnicity IS 'Label of the source; null when unknown, never guessed.';
COMMENT ON COLUMN clips.ethnicity_source IS 'Who states the ethnicity.';
COMMENT ON COLUMN clips.language IS 'Language spoken; null when unknown.';
COMMENT ON COLUMN clips.language_source IS 'Who states the language.';
COMMENT ON COLUMN clips.synthetic IS 'True for the drawn sample: no real person.';
COMMENT ON COLUMN clips.file_bytes IS 'Size of the file, bytes.';

CREATE VIEW coverage AS
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
            ELSE coalesce(extraction.state, 'not requested') END AS reason,
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

COMMENT ON VIEW coverage IS 'Every clip with every active constituent: is it there, and if not, why.';
COMMENT ON COLUMN coverage.source IS 'Name of the registered source.';
COMMENT ON COLUMN coverage.split IS 'dev | test.';
COMMENT ON COLUMN coverage.identity IS 'VoxCeleb identity.';
COMMENT ON COLUMN coverage.video IS 'Video id.';
COMMENT ON COLUMN coverage.clip IS 'Clip name.';
COMMENT ON COLUMN coverage.constituent IS 'Constituent name.';
COMMENT ON COLUMN coverage.version IS 'Constituent version: hash of code version, weights and parameters.';
COMMENT ON COLUMN coverage.state IS 'done | failed | missing.';
COMMENT ON COLUMN coverage.reason IS 'Failed: the reason code. Missing: pending, leased, not requested, or why the clip is quarantined.';
COMMENT ON COLUMN coverage.message IS 'The failure in words.';
COMMENT ON COLUMN coverage.seconds IS 'Time spent inside the extractor, seconds.';
COMMENT ON COLUMN coverage.clip_id IS 'Key of the clip in this store.';

CREATE VIEW recall_at_k AS
SELECT run.name               AS run,
       evaluation.system,
       evaluation.scale,
       metric.k,
       metric.value           AS recall,
       metric.ci_low,
       metric.ci_high,
       metric.n,
       evaluation.undetected,
       evaluation.gallery_faces,
       gallery.name           AS gallery,
       evaluation.part,
       constituent.name       AS embedding,
       evaluation.seed,
       evaluation.checkpoint_samples,
       trained.hash           AS snapshot_hash,
       evaluation.created_at
FROM metric
JOIN evaluation ON evaluation.id = metric.evaluation_id
JOIN run ON run.id = evaluation.run_id
JOIN snapshot trained ON trained.id = run.snapshot_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
JOIN constituent ON constituent.id = evaluation.constituent_id
WHERE metric.name = 'recall';

COMMENT ON VIEW recall_at_k IS 'How often the right person is among the k nearest gallery faces. Undetected faces are misses.';
COMMENT ON COLUMN recall_at_k.run IS 'Training run.';
COMMENT ON COLUMN recall_at_k.system IS 'System trained, or a baseline: random, bicubic-8x8, real-vs-real.';
COMMENT ON COLUMN recall_at_k.scale IS 'Conditional scale; 0 for baselines.';
COMMENT ON COLUMN recall_at_k.k IS 'Matches looked at.';
COMMENT ON COLUMN recall_at_k.recall IS 'Share of probes with the right identity among the first k.';
COMMENT ON COLUMN recall_at_k.ci_low IS 'Lower end of the 95 % interval.';
COMMENT ON COLUMN recall_at_k.ci_high IS 'Upper end of the 95 % interval.';
COMMENT ON COLUMN recall_at_k.n IS 'Probes.';
COMMENT ON COLUMN recall_at_k.undetected IS 'Probes without a detected face (misses).';
COMMENT ON COLUMN recall_at_k.gallery_faces IS 'Faces searched in.';
COMMENT ON COLUMN recall_at_k.gallery IS 'Snapshot searched in.';
COMMENT ON COLUMN recall_at_k.part IS 'Part of the gallery snapshot that was probed: all, train or validation.';
COMMENT ON COLUMN recall_at_k.embedding IS 'Face embedding constituent.';
COMMENT ON COLUMN recall_at_k.seed IS 'Seed of the generations.';
COMMENT ON COLUMN recall_at_k.checkpoint_samples IS 'Samples U-Net 1 had seen.';
COMMENT ON COLUMN recall_at_k.snapshot_hash IS 'Hash of the training snapshot.';
COMMENT ON COLUMN recall_at_k.created_at IS 'When it was measured.';

CREATE VIEW fidelity AS
SELECT run.name               AS run,
       evaluation.system,
       evaluation.scale,
       metric.name            AS metric,
       metric.value,
       metric.ci_low,
       metric.ci_high,
       metric.n,
       gallery.name           AS gallery,
       evaluation.part,
       evaluation.seed
FROM metric
JOIN evaluation ON evaluation.id = metric.evaluation_id
JOIN run ON run.id = evaluation.run_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
WHERE metric.name IN ('psnr', 'ssim');

COMMENT ON VIEW fidelity IS 'How close the generated face is to the real one, pixel by pixel.';
COMMENT ON COLUMN fidelity.run IS 'Training run.';
COMMENT ON COLUMN fidelity.system IS 'System trained, or a baseline.';
COMMENT ON COLUMN fidelity.scale IS 'Conditional scale; 0 for baselines.';
COMMENT ON COLUMN fidelity.metric IS 'psnr (dB) | ssim.';
COMMENT ON COLUMN fidelity.value IS 'Mean over pairs.';
COMMENT ON COLUMN fidelity.ci_low IS 'Lower end of the 95 % interval.';
COMMENT ON COLUMN fidelity.ci_high IS 'Upper end of the 95 % interval.';
COMMENT ON COLUMN fidelity.n IS 'Pairs.';
COMMENT ON COLUMN fidelity.gallery IS 'Snapshot evaluated on.';
COMMENT ON COLUMN fidelity.part IS 'Part of that snapshot.';
COMMENT ON COLUMN fidelity.seed IS 'Seed of the generations.';
