-- Counts of extractions, kept by triggers: counting 13 million rows takes seconds, adding up a few hundred does not.

CREATE FUNCTION place_of_video() RETURNS trigger LANGUAGE plpgsql AS $$
-- A clip written without its place gets it from its video.
BEGIN
    INSERT INTO place (source_id, split)
    SELECT identity.source_id, video.split
    FROM video JOIN identity ON identity.id = video.identity_id
    WHERE video.id = NEW.video_id
    ON CONFLICT DO NOTHING;
    SELECT place.id INTO NEW.place_id
    FROM video
    JOIN identity ON identity.id = video.identity_id
    JOIN place ON place.source_id = identity.source_id AND place.split = video.split
    WHERE video.id = NEW.video_id;
    RETURN NEW;
END $$;

CREATE TRIGGER fill_place BEFORE INSERT ON clip
    FOR EACH ROW WHEN (NEW.place_id IS NULL) EXECUTE FUNCTION place_of_video();

CREATE FUNCTION place_of_clip() RETURNS trigger LANGUAGE plpgsql AS $$
-- An extraction written without its place gets it from its clip.
BEGIN
    SELECT clip.place_id INTO NEW.place_id FROM clip WHERE clip.id = NEW.clip_id;
    RETURN NEW;
END $$;

CREATE TRIGGER fill_place BEFORE INSERT ON extraction
    FOR EACH ROW WHEN (NEW.place_id IS NULL) EXECUTE FUNCTION place_of_clip();

CREATE FUNCTION count_extraction() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
-- What a statement added and took away, as rows to be summed: workers never wait for each other's counts.
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO extraction_count (constituent_id, place_id, state, error_code, clips, timed, seconds)
        SELECT constituent_id, place_id, state, error_code, count(*), count(seconds), coalesce(sum(seconds), 0)
        FROM fresh GROUP BY constituent_id, place_id, state, error_code;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO extraction_count (constituent_id, place_id, state, error_code, clips, timed, seconds)
        SELECT constituent_id, place_id, state, error_code, -count(*), -count(seconds), -coalesce(sum(seconds), 0)
        FROM stale GROUP BY constituent_id, place_id, state, error_code;
    ELSE
        INSERT INTO extraction_count (constituent_id, place_id, state, error_code, clips, timed, seconds)
        SELECT constituent_id, place_id, state, error_code,
               sum(one), coalesce(sum(one) FILTER (WHERE seconds IS NOT NULL), 0), coalesce(sum(one * seconds), 0)
        FROM (SELECT constituent_id, place_id, state, error_code, seconds, 1 AS one FROM fresh
              UNION ALL
              SELECT constituent_id, place_id, state, error_code, seconds, -1 FROM stale) changed
        GROUP BY constituent_id, place_id, state, error_code
        HAVING sum(one) <> 0 OR coalesce(sum(one * seconds), 0) <> 0;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER count_inserted AFTER INSERT ON extraction REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION count_extraction();
CREATE TRIGGER count_updated AFTER UPDATE ON extraction REFERENCING NEW TABLE AS fresh OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION count_extraction();
CREATE TRIGGER count_deleted AFTER DELETE ON extraction REFERENCING OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION count_extraction();

CREATE VIEW extraction_state AS
SELECT constituent.name                                     AS constituent,
       constituent.version,
       source.name                                          AS source,
       place.split,
       counted.state,
       counted.error_code,
       sum(counted.clips)::bigint                           AS clips,
       sum(counted.timed)::bigint                           AS timed,
       sum(counted.seconds)                                 AS seconds,
       counted.constituent_id
FROM extraction_count counted
JOIN constituent ON constituent.id = counted.constituent_id
JOIN place ON place.id = counted.place_id
JOIN source ON source.id = place.source_id
GROUP BY constituent.name, constituent.version, source.name, place.split, counted.state, counted.error_code,
         counted.constituent_id
HAVING sum(counted.clips) <> 0;

COMMENT ON VIEW extraction_state IS 'How many clips are in which state of extraction; kept up to date by triggers, so it costs the same at any size.';
COMMENT ON COLUMN extraction_state.constituent IS 'Constituent name.';
COMMENT ON COLUMN extraction_state.version IS 'Constituent version.';
COMMENT ON COLUMN extraction_state.source IS 'Name of the registered source.';
COMMENT ON COLUMN extraction_state.split IS 'dev | test.';
COMMENT ON COLUMN extraction_state.state IS 'pending | leased | done | failed.';
COMMENT ON COLUMN extraction_state.error_code IS 'Reason code of what failed.';
COMMENT ON COLUMN extraction_state.clips IS 'Clips in this state.';
COMMENT ON COLUMN extraction_state.timed IS 'Of them those whose extraction was timed.';
COMMENT ON COLUMN extraction_state.seconds IS 'Their time inside the extractor, seconds, added up.';
COMMENT ON COLUMN extraction_state.constituent_id IS 'Key of the constituent version in this store.';

GRANT SELECT, INSERT, UPDATE, DELETE ON place, extraction_count TO slf_ingest;
GRANT SELECT ON place, extraction_count TO slf_researcher;
GRANT SELECT ON extraction_state TO slf_ingest, slf_researcher, slf_analyst;
