-- The view as it was before: who may read it.
GRANT SELECT, INSERT, UPDATE, DELETE ON clips TO slf_ingest;
GRANT SELECT ON clips TO slf_researcher;
GRANT SELECT (clip_id, source, split, identity, video, clip, state, reason, duration_s, fps, frames, width, height,
    has_audio, audio_rate, audio_channels, age, age_source, gender, gender_source, ethnicity, ethnicity_source,
    language, language_source, synthetic, file_bytes, age_score, gender_score, ethnicity_score, language_score,
    vanished_at) ON clips TO slf_analyst;
