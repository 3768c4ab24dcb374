-- The preferred attributes of each clip, kept by triggers: choosing them for a million clips takes seconds, reading them
-- does not. `preferred_attribute` still says how they are chosen.

CREATE FUNCTION chosen_attributes(of_clip bigint) RETURNS TABLE (
    age float8, age_source varchar, age_score float8,
    gender varchar, gender_source varchar, gender_score float8,
    ethnicity varchar, ethnicity_source varchar, ethnicity_score float8,
    language varchar, language_source varchar, language_score float8
) LANGUAGE sql STABLE AS $$
    SELECT max(value_number) FILTER (WHERE name = 'age'),
           max(source) FILTER (WHERE name = 'age'),
           max(score) FILTER (WHERE name = 'age'),
           max(value_text) FILTER (WHERE name = 'gender'),
           max(source) FILTER (WHERE name = 'gender'),
           max(score) FILTER (WHERE name = 'gender'),
           max(value_text) FILTER (WHERE name = 'ethnicity'),
           max(source) FILTER (WHERE name = 'ethnicity'),
           max(score) FILTER (WHERE name = 'ethnicity'),
           max(value_text) FILTER (WHERE name = 'language'),
           max(source) FILTER (WHERE name = 'language'),
           max(score) FILTER (WHERE name = 'language')
    FROM preferred_attribute WHERE preferred_attribute.clip_id = of_clip
$$;

CREATE FUNCTION prefer_attributes(clips bigint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
-- Choose anew for these clips. Rows that were there, or that another transaction has just made, are locked before they
-- are written: of two transactions that state something of one clip the second chooses among what both have said.
DECLARE known bigint[];
BEGIN
    WITH made AS (
        INSERT INTO clip_attribute (clip_id,
        age, age_source, age_score,
        gender, gender_source, gender_score,
        ethnicity, ethnicity_source, ethnicity_score,
        language, language_source, language_score)
        SELECT clip.id,
         chosen.age, chosen.age_source, chosen.age_score,
         chosen.gender, chosen.gender_source, chosen.gender_score,
         chosen.ethnicity, chosen.ethnicity_source, chosen.ethnicity_score,
         chosen.language, chosen.language_source, chosen.language_score
        FROM clip CROSS JOIN LATERAL chosen_attributes(clip.id) chosen
        WHERE clip.id = ANY(clips) AND NOT EXISTS (SELECT FROM clip_attribute WHERE clip_attribute.clip_id = clip.id)
        ON CONFLICT DO NOTHING
        RETURNING clip_id
    )
    SELECT array_agg(id) INTO known FROM unnest(clips) AS id WHERE NOT EXISTS (SELECT FROM made WHERE clip_id = id);
    PERFORM FROM clip_attribute WHERE clip_id = ANY(known) ORDER BY clip_id FOR UPDATE;
    UPDATE clip_attribute
    SET (age, age_source, age_score,
        gender, gender_source, gender_score,
        ethnicity, ethnicity_source, ethnicity_score,
        language, language_source, language_score) =
        (chosen.age, chosen.age_source, chosen.age_score,
         chosen.gender, chosen.gender_source, chosen.gender_score,
         chosen.ethnicity, chosen.ethnicity_source, chosen.ethnicity_score,
         chosen.language, chosen.language_source, chosen.language_score)
    FROM unnest(known) AS id CROSS JOIN LATERAL chosen_attributes(id) chosen
    WHERE clip_attribute.clip_id = id;
END $$;

CREATE FUNCTION attribute_stated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM prefer_attributes(array_agg(DISTINCT clip_id)) FROM fresh HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE FUNCTION attribute_withdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM prefer_attributes(array_agg(DISTINCT clip_id)) FROM stale HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE FUNCTION attributes_of_version() RETURNS trigger LANGUAGE plpgsql AS $$
-- A version that is retired states nothing any more; one that is made anew is the newest.
BEGIN
    PERFORM prefer_attributes(array_agg(DISTINCT clip_id)) FROM attribute
    WHERE constituent_id = NEW.id HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER prefer_inserted AFTER INSERT ON attribute REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION attribute_stated();
CREATE TRIGGER prefer_updated AFTER UPDATE ON attribute REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION attribute_stated();
CREATE TRIGGER prefer_deleted AFTER DELETE ON attribute REFERENCING OLD TABLE AS stale
    FOR EACH STATEMENT EXECUTE FUNCTION attribute_withdrawn();
CREATE TRIGGER prefer_by_status AFTER UPDATE ON constituent
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION attributes_of_version();

SELECT prefer_attributes(array_agg(DISTINCT clip_id)) FROM attribute HAVING count(*) > 0;

GRANT SELECT, INSERT, UPDATE, DELETE ON clip_attribute TO slf_ingest;
GRANT SELECT ON clip_attribute TO slf_researcher;
