-- Roles are shared by all databases of a server: create them only where they are not there yet.
DO $$
DECLARE role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['slf_ingest', 'slf_researcher', 'slf_analyst'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
        EXECUTE format('GRANT %I TO CURRENT_USER', role_name);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO slf_ingest;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO slf_researcher;
GRANT INSERT, UPDATE, DELETE ON snapshot, snapshot_constituent, snapshot_clip, run, checkpoint, generation,
    generation_embedding, evaluation, match, metric TO slf_researcher;
GRANT INSERT ON audit_log TO slf_researcher;

-- Analysts see results only: no embeddings, no paths to clips or faces.
GRANT SELECT ON recall_at_k, fidelity TO slf_analyst;
GRANT SELECT (clip_id, source, split, identity, video, clip, state, reason, duration_s, fps, frames, width, height,
    has_audio, audio_rate, audio_channels, age, age_source, gender, gender_source, ethnicity, ethnicity_source,
    language, language_source, synthetic, file_bytes) ON clips TO slf_analyst;
GRANT SELECT (source, split, identity, video, clip, constituent, version, state, reason, seconds, clip_id)
    ON coverage TO slf_analyst;
