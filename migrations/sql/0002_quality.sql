-- Quality of what was extracted. Each constituent version is looked at by itself (LATERAL), so that asking for one
-- reads one partition of `extraction`.

CREATE VIEW constituent_quality AS
WITH place AS (
    SELECT clip.id AS clip_id, source.name AS source, video.split
    FROM clip
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    JOIN source ON source.id = identity.source_id
)
SELECT constituent.name                                      AS constituent,
       constituent.version,
       constituent.kind,
       found.source,
       found.split,
       found.clips,
       found.done,
       found.failed,
       found.clips - found.done - found.failed               AS missing,
       found.done::float8 / found.clips                      AS coverage,
       coalesce((SELECT jsonb_object_agg(code, clips)
                 FROM (SELECT code, count(*) AS clips FROM unnest(found.codes) AS code GROUP BY code) reason),
                '{}')                                        AS failures,
       found.measured,
       found.nulls::float8 / nullif(found.measured, 0)       AS null_rate,
       found.zero_rows::float8 / nullif(found.value_rows, 0) AS zero_row_rate,
       found.identical::float8 / nullif(found.hashed, 0)     AS identical_rate,
       found.value_min,
       found.value_mean,
       found.value_max,
       found.percentile[1]                                   AS p01,
       found.percentile[2]                                   AS p05,
       found.percentile[3]                                   AS p50,
       found.percentile[4]                                   AS p95,
       found.percentile[5]                                   AS p99
FROM constituent
CROSS JOIN LATERAL (
    SELECT place.source,
           place.split,
           count(*)                                          AS clips,
           count(*) FILTER (WHERE done.state = 'done')       AS done,
           count(*) FILTER (WHERE done.state = 'failed')     AS failed,
           array_agg(done.error_code) FILTER (WHERE done.state = 'failed') AS codes,
           count(done.value_rows)                            AS measured,
           count(*) FILTER (WHERE CASE constituent.kind
                                      WHEN 'attribute' THEN done.value_rows = 0
                                      WHEN 'face' THEN done.value_rows = 1 AND done.value_mean IS NULL
                                      ELSE done.zero_rows = done.value_rows END) AS nulls,
           sum(done.zero_rows)                               AS zero_rows,
           sum(done.value_rows) FILTER (WHERE done.zero_rows IS NOT NULL) AS value_rows,
           count(done.value_hash)                            AS hashed,
           count(twin.value_hash)                            AS identical,
           min(done.value_min)::float8                       AS value_min,
           avg(done.value_mean)                              AS value_mean,
           max(done.value_max)::float8                       AS value_max,
           percentile_cont(ARRAY[0.01, 0.05, 0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY done.value_mean) AS percentile
    FROM place
    LEFT JOIN extraction done ON done.clip_id = place.clip_id AND done.constituent_id = constituent.id
    LEFT JOIN (
        SELECT same.value_hash FROM extraction same
        WHERE same.constituent_id = constituent.id AND same.value_hash IS NOT NULL
        GROUP BY same.value_hash HAVING count(*) > 1
    ) twin ON twin.value_hash = done.value_hash
    GROUP BY place.source, place.split
) found
WHERE constituent.status = 'active';

COMMENT ON VIEW constituent_quality IS 'One row per active constituent version, source and split: how much is there, and whether its values look right.';
COMMENT ON COLUMN constituent_quality.constituent IS 'Constituent name.';
COMMENT ON COLUMN constituent_quality.version IS 'Constituent version.';
COMMENT ON COLUMN constituent_quality.kind IS 'array | attribute | face | embedding.';
COMMENT ON COLUMN constituent_quality.source IS 'Name of the registered source.';
COMMENT ON COLUMN constituent_quality.split IS 'dev | test.';
COMMENT ON COLUMN constituent_quality.clips IS 'Clips of this source and split, quarantined ones included.';
COMMENT ON COLUMN constituent_quality.done IS 'Clips that have the constituent.';
COMMENT ON COLUMN constituent_quality.failed IS 'Clips that cannot give it.';
COMMENT ON COLUMN constituent_quality.missing IS 'Clips not extracted yet, or quarantined.';
COMMENT ON COLUMN constituent_quality.coverage IS 'done / clips.';
COMMENT ON COLUMN constituent_quality.failures IS 'Failed clips by reason code, as JSON.';
COMMENT ON COLUMN constituent_quality.measured IS 'Clips whose value was measured when it was committed; what an older program extracted was not.';
COMMENT ON COLUMN constituent_quality.null_rate IS 'Share of measured clips whose value says nothing: an array or embedding of zeros, no attribute stated, a face without a score.';
COMMENT ON COLUMN constituent_quality.zero_row_rate IS 'Share of all rows of arrays and embeddings that are zero throughout.';
COMMENT ON COLUMN constituent_quality.identical_rate IS 'Share of values that another clip has too, byte by byte, in whatever source or split.';
COMMENT ON COLUMN constituent_quality.value_min IS 'Smallest number in any value; of faces: of the scores.';
COMMENT ON COLUMN constituent_quality.value_mean IS 'Mean of the clips'' means.';
COMMENT ON COLUMN constituent_quality.value_max IS 'Largest number in any value.';
COMMENT ON COLUMN constituent_quality.p01 IS '1st percentile of the clips'' means.';
COMMENT ON COLUMN constituent_quality.p05 IS '5th percentile of the clips'' means.';
COMMENT ON COLUMN constituent_quality.p50 IS 'Median of the clips'' means.';
COMMENT ON COLUMN constituent_quality.p95 IS '95th percentile of the clips'' means.';
COMMENT ON COLUMN constituent_quality.p99 IS '99th percentile of the clips'' means.';

CREATE VIEW attribute_quality AS
WITH place AS (
    SELECT clip.id AS clip_id, source.name AS source, video.split
    FROM clip
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    JOIN source ON source.id = identity.source_id
), asked AS (
    -- How many clips a constituent was extracted from; a metadata file could speak of every clip.
    SELECT NULL::bigint AS constituent_id, NULL::text AS version, source, split, count(*) AS clips
    FROM place GROUP BY source, split
    UNION ALL
    SELECT constituent.id, constituent.version, done.source, done.split, done.clips
    FROM constituent
    CROSS JOIN LATERAL (
        SELECT place.source, place.split, count(*) AS clips
        FROM extraction
        JOIN place ON place.clip_id = extraction.clip_id
        WHERE extraction.constituent_id = constituent.id AND extraction.state = 'done'
        GROUP BY place.source, place.split
    ) done
    WHERE constituent.kind = 'attribute' AND constituent.status = 'active'
), stated AS (
    SELECT attribute.name, attribute.source AS stated_by, attribute.constituent_id, place.source, place.split,
           count(*) AS clips, min(value_number) AS lowest, avg(value_number) AS mean, max(value_number) AS highest,
           percentile_cont(ARRAY[0.01, 0.05, 0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY value_number) AS percentile,
           avg(score) AS score
    FROM attribute
    JOIN place ON place.clip_id = attribute.clip_id
    GROUP BY attribute.name, attribute.source, attribute.constituent_id, place.source, place.split
), label AS (
    SELECT name, stated_by, constituent_id, source, split, jsonb_object_agg(value_text, clips) AS clips
    FROM (SELECT attribute.name, attribute.source AS stated_by, attribute.constituent_id, place.source, place.split,
                 attribute.value_text, count(*) AS clips
          FROM attribute
          JOIN place ON place.clip_id = attribute.clip_id
          WHERE attribute.value_text IS NOT NULL
          GROUP BY attribute.name, attribute.source, attribute.constituent_id, place.source, place.split,
                   attribute.value_text) counted
    GROUP BY name, stated_by, constituent_id, source, split
), speaker AS (
    SELECT DISTINCT name, stated_by, constituent_id FROM stated
)
SELECT speaker.name                                              AS attribute,
       speaker.stated_by,
       asked.version,
       asked.source,
       asked.split,
       asked.clips,
       coalesce(stated.clips, 0)                                 AS stated,
       1 - coalesce(stated.clips, 0)::float8 / asked.clips       AS null_rate,
       coalesce(label.clips, '{}')                               AS labels,
       stated.lowest                                             AS value_min,
       stated.mean                                               AS value_mean,
       stated.highest                                            AS value_max,
       stated.percentile[1]                                      AS p01,
       stated.percentile[2]                                      AS p05,
       stated.percentile[3]                                      AS p50,
       stated.percentile[4]                                      AS p95,
       stated.percentile[5]                                      AS p99,
       stated.score                                              AS score_mean
FROM speaker
JOIN asked ON asked.constituent_id IS NOT DISTINCT FROM speaker.constituent_id
LEFT JOIN stated
    ON stated.name = speaker.name AND stated.stated_by = speaker.stated_by
    AND stated.constituent_id IS NOT DISTINCT FROM speaker.constituent_id
    AND stated.source = asked.source AND stated.split = asked.split
LEFT JOIN label
    ON label.name = speaker.name AND label.stated_by = speaker.stated_by
    AND label.constituent_id IS NOT DISTINCT FROM speaker.constituent_id
    AND label.source = asked.source AND label.split = asked.split;

COMMENT ON VIEW attribute_quality IS 'One row per attribute, who states it (every active version by itself), source and split.';
COMMENT ON COLUMN attribute_quality.attribute IS 'age | gender | ethnicity | language.';
COMMENT ON COLUMN attribute_quality.stated_by IS 'metadata, or the constituent''s name.';
COMMENT ON COLUMN attribute_quality.version IS 'Version of the constituent; null for metadata.';
COMMENT ON COLUMN attribute_quality.source IS 'Name of the registered source of clips.';
COMMENT ON COLUMN attribute_quality.split IS 'dev | test.';
COMMENT ON COLUMN attribute_quality.clips IS 'Clips asked about: those the constituent was extracted from; for metadata all.';
COMMENT ON COLUMN attribute_quality.stated IS 'Clips it states the attribute of.';
COMMENT ON COLUMN attribute_quality.null_rate IS 'Share of the clips asked about that it states nothing of.';
COMMENT ON COLUMN attribute_quality.labels IS 'Clips by label, as JSON.';
COMMENT ON COLUMN attribute_quality.value_min IS 'Lowest number (age in years).';
COMMENT ON COLUMN attribute_quality.value_mean IS 'Mean of the numbers.';
COMMENT ON COLUMN attribute_quality.value_max IS 'Highest number.';
COMMENT ON COLUMN attribute_quality.p01 IS '1st percentile of the numbers.';
COMMENT ON COLUMN attribute_quality.p05 IS '5th percentile of the numbers.';
COMMENT ON COLUMN attribute_quality.p50 IS 'Median of the numbers.';
COMMENT ON COLUMN attribute_quality.p95 IS '95th percentile of the numbers.';
COMMENT ON COLUMN attribute_quality.p99 IS '99th percentile of the numbers.';
COMMENT ON COLUMN attribute_quality.score_mean IS 'Mean confidence, 0 to 1; null where none is given.';

CREATE VIEW attribute_agreement AS
SELECT one.name                                              AS attribute,
       one.source                                            AS first,
       one_version.version                                   AS first_version,
       two.source                                            AS second,
       two_version.version                                   AS second_version,
       source.name                                           AS source,
       video.split,
       count(*)                                              AS clips,
       avg((CASE WHEN one.value_text IS NOT NULL AND two.value_text IS NOT NULL
                 THEN one.value_text = two.value_text
                 ELSE floor(one.value_number / 10) = floor(two.value_number / 10) END)::int)::float8 AS equal_rate,
       avg(abs(one.value_number - two.value_number))         AS mean_difference
FROM attribute one
JOIN attribute two
    ON two.clip_id = one.clip_id AND two.name = one.name
    AND (coalesce(one.constituent_id, 0), one.source) < (coalesce(two.constituent_id, 0), two.source)
JOIN clip ON clip.id = one.clip_id
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
JOIN source ON source.id = identity.source_id
LEFT JOIN constituent one_version ON one_version.id = one.constituent_id
LEFT JOIN constituent two_version ON two_version.id = two.constituent_id
WHERE one_version.status IS DISTINCT FROM 'retired' AND two_version.status IS DISTINCT FROM 'retired'
GROUP BY one.name, one.source, one_version.version, two.source, two_version.version, source.name, video.split;

COMMENT ON VIEW attribute_agreement IS 'One row per attribute and pair that states it, source and split: how often the two agree.';
COMMENT ON COLUMN attribute_agreement.attribute IS 'age | gender | ethnicity | language.';
COMMENT ON COLUMN attribute_agreement.first IS 'metadata, or a constituent''s name.';
COMMENT ON COLUMN attribute_agreement.first_version IS 'Its version; null for metadata.';
COMMENT ON COLUMN attribute_agreement.second IS 'A constituent''s name.';
COMMENT ON COLUMN attribute_agreement.second_version IS 'Its version.';
COMMENT ON COLUMN attribute_agreement.source IS 'Name of the registered source of clips.';
COMMENT ON COLUMN attribute_agreement.split IS 'dev | test.';
COMMENT ON COLUMN attribute_agreement.clips IS 'Clips both state the attribute of.';
COMMENT ON COLUMN attribute_agreement.equal_rate IS 'Share of them with the same label; of ages: in the same decade.';
COMMENT ON COLUMN attribute_agreement.mean_difference IS 'Mean absolute difference of the ages, years.';

CREATE VIEW quality_outliers AS
WITH place AS (
    SELECT clip.id AS clip_id, identity.source_id
    FROM clip
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
)
SELECT constituent.name                                      AS constituent,
       constituent.version,
       source.name                                           AS source,
       video.split,
       identity.name                                         AS identity,
       video.name                                            AS video,
       clip.name                                             AS clip,
       found.statistic,
       found.value,
       found.median,
       found.low,
       found.high,
       found.distance,
       found.clip_id
FROM constituent
CROSS JOIN LATERAL (
    WITH measured AS MATERIALIZED (
        SELECT extraction.clip_id, place.source_id, extraction.value_min, extraction.value_mean,
               extraction.value_max, extraction.value_rms
        FROM extraction
        JOIN place ON place.clip_id = extraction.clip_id
        WHERE extraction.constituent_id = constituent.id AND extraction.value_mean IS NOT NULL
    ), quartile AS (
        SELECT source_id,
               percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY value_min)  AS at_min,
               percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY value_mean) AS at_mean,
               percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY value_max)  AS at_max,
               percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY value_rms)  AS at_rms
        FROM measured GROUP BY source_id HAVING count(*) >= 10
    ), bound AS (
        SELECT source_id, statistic, at[2] AS median, (at[3] - at[1]) / 2 AS spread
        FROM quartile
        CROSS JOIN LATERAL (
            VALUES ('min', at_min), ('mean', at_mean), ('max', at_max), ('rms', at_rms)
        ) AS part (statistic, at)
        WHERE at[3] > at[1] AND (constituent.kind <> 'face' OR statistic = 'mean')  -- a score has one statistic
    )
    SELECT measured.clip_id, bound.statistic, number.value, bound.median,
           bound.median - 6 * bound.spread AS low, bound.median + 6 * bound.spread AS high,
           abs(number.value - bound.median) / bound.spread AS distance
    FROM measured
    JOIN bound ON bound.source_id = measured.source_id
    CROSS JOIN LATERAL (
        SELECT (CASE bound.statistic WHEN 'min' THEN measured.value_min WHEN 'mean' THEN measured.value_mean
                                     WHEN 'max' THEN measured.value_max ELSE measured.value_rms END)::float8 AS value
    ) number
    WHERE abs(number.value - bound.median) > 6 * bound.spread
) found
JOIN clip ON clip.id = found.clip_id
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
JOIN source ON source.id = identity.source_id
WHERE constituent.status = 'active';

COMMENT ON VIEW quality_outliers IS 'Values far from what is usual for their constituent version in their source: further from the median than 6 times half the distance between the quartiles (for symmetric values: 6 median absolute deviations). Needs 10 clips; a statistic whose quartiles are equal has no outliers.';
COMMENT ON COLUMN quality_outliers.constituent IS 'Constituent name.';
COMMENT ON COLUMN quality_outliers.version IS 'Constituent version.';
COMMENT ON COLUMN quality_outliers.source IS 'Name of the registered source.';
COMMENT ON COLUMN quality_outliers.split IS 'dev | test.';
COMMENT ON COLUMN quality_outliers.identity IS 'VoxCeleb identity.';
COMMENT ON COLUMN quality_outliers.video IS 'Video id.';
COMMENT ON COLUMN quality_outliers.clip IS 'Clip name.';
COMMENT ON COLUMN quality_outliers.statistic IS 'What is unusual: the min, mean, max or rms (root mean square) of the clip''s value.';
COMMENT ON COLUMN quality_outliers.value IS 'That statistic of this clip.';
COMMENT ON COLUMN quality_outliers.median IS 'Its median over the clips of the source.';
COMMENT ON COLUMN quality_outliers.low IS 'Lower bound of what is usual.';
COMMENT ON COLUMN quality_outliers.high IS 'Upper bound of what is usual.';
COMMENT ON COLUMN quality_outliers.distance IS 'Distance from the median in half quartile distances; 6 is the bound.';
COMMENT ON COLUMN quality_outliers.clip_id IS 'Key of the clip in this store.';

GRANT SELECT ON constituent_quality, attribute_quality, attribute_agreement, quality_outliers
    TO slf_ingest, slf_researcher, slf_analyst;
