-- What each input is worth, and what each conditional scale does.

CREATE VIEW chosen_scale AS
WITH tried AS (
    SELECT evaluation.run_id, constituent.name AS embedding, evaluation.scale, avg(metric.value) AS recall,
           max(evaluation.id) AS evaluation_id
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id
    JOIN constituent ON constituent.id = evaluation.constituent_id
    JOIN metric ON metric.evaluation_id = evaluation.id AND metric.name = 'recall'
    WHERE evaluation.gallery_id = run.snapshot_id
      AND evaluation.part = 'validation'
      AND evaluation.system = run.system
      AND constituent.status = 'active'
      AND evaluation.distance = 'euclidean'
    GROUP BY evaluation.run_id, constituent.name, evaluation.scale
), best AS (
    SELECT DISTINCT ON (run_id, embedding) run_id, embedding, scale, recall, evaluation_id,
           count(*) OVER (PARTITION BY run_id, embedding) AS scales_tried
    FROM tried
    ORDER BY run_id, embedding, recall DESC, scale
)
SELECT run.name                                     AS run,
       best.embedding,
       best.scale,
       best.recall,
       best.scales_tried
FROM best
JOIN run ON run.id = best.run_id
WHERE NOT EXISTS (SELECT FROM probe
                  JOIN clip ON clip.id = probe.clip_id
                  JOIN video ON video.id = clip.video_id
                  WHERE probe.evaluation_id = best.evaluation_id AND video.split = 'test');

COMMENT ON VIEW chosen_scale IS 'The conditional scale of each run: highest mean of recall@1, 3, 5 and 10 on the validation identities of the snapshot it was trained on, the smallest of equals; for each face embedding. Never chosen on clips of the test split.';
COMMENT ON COLUMN chosen_scale.run IS 'Training run.';
COMMENT ON COLUMN chosen_scale.embedding IS 'Face embedding constituent that says so, by Euclidean distance.';
COMMENT ON COLUMN chosen_scale.scale IS 'Chosen conditional scale.';
COMMENT ON COLUMN chosen_scale.recall IS 'Mean recall over k at that scale on the validation identities, 0 to 1.';
COMMENT ON COLUMN chosen_scale.scales_tried IS 'Scales it was chosen from.';

CREATE VIEW scale_sweep AS
WITH choice AS MATERIALIZED (SELECT * FROM chosen_scale)
SELECT run.name                                     AS run,
       run.system,
       run.seed                                     AS run_seed,
       run.preset,
       trained.name                                 AS snapshot,
       gallery.name                                 AS gallery,
       evaluation.part,
       constituent.name                             AS embedding,
       evaluation.distance,
       evaluation.scale,
       evaluation.seed,
       evaluation.steps,
       metric.name                                  AS metric,
       metric.k,
       metric.value,
       metric.ci_low,
       metric.ci_high,
       metric.n,
       evaluation.undetected,
       coalesce(chosen.scale = evaluation.scale, false) AS chosen
FROM evaluation
JOIN run ON run.id = evaluation.run_id AND run.system = evaluation.system
JOIN snapshot trained ON trained.id = run.snapshot_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
JOIN constituent ON constituent.id = evaluation.constituent_id
JOIN metric ON metric.evaluation_id = evaluation.id
LEFT JOIN LATERAL (
    -- By the same face embedding, else by another.
    SELECT scale FROM choice WHERE choice.run = run.name ORDER BY embedding <> constituent.name, embedding LIMIT 1
) chosen ON true;

COMMENT ON VIEW scale_sweep IS 'Every number of every run over the conditional scale (paper, Table 8 and Fig. 8).';
COMMENT ON COLUMN scale_sweep.run IS 'Training run.';
COMMENT ON COLUMN scale_sweep.system IS 'System trained.';
COMMENT ON COLUMN scale_sweep.run_seed IS 'Seed of the training.';
COMMENT ON COLUMN scale_sweep.preset IS 'Preset of the training.';
COMMENT ON COLUMN scale_sweep.snapshot IS 'Snapshot trained on.';
COMMENT ON COLUMN scale_sweep.gallery IS 'Snapshot evaluated on.';
COMMENT ON COLUMN scale_sweep.part IS 'Part of it: all, train or validation.';
COMMENT ON COLUMN scale_sweep.embedding IS 'Face embedding constituent.';
COMMENT ON COLUMN scale_sweep.distance IS 'euclidean | cosine.';
COMMENT ON COLUMN scale_sweep.scale IS 'Conditional scale.';
COMMENT ON COLUMN scale_sweep.seed IS 'Seed of the generations.';
COMMENT ON COLUMN scale_sweep.steps IS 'Solver steps of each U-Net; 0 = as the preset says.';
COMMENT ON COLUMN scale_sweep.metric IS 'Name of the number: recall, psnr, ssim, ...';
COMMENT ON COLUMN scale_sweep.k IS 'Matches looked at; 0 where the metric has none.';
COMMENT ON COLUMN scale_sweep.value IS 'The number; recall as a share, 0 to 1.';
COMMENT ON COLUMN scale_sweep.ci_low IS 'Lower end of the 95 % interval.';
COMMENT ON COLUMN scale_sweep.ci_high IS 'Upper end of the 95 % interval.';
COMMENT ON COLUMN scale_sweep.n IS 'Probes or pairs.';
COMMENT ON COLUMN scale_sweep.undetected IS 'Probes without a detected face (misses).';
COMMENT ON COLUMN scale_sweep.chosen IS 'Whether the scale is the run''s chosen one (view chosen_scale).';

CREATE VIEW recall_increase AS
WITH choice AS MATERIALIZED (SELECT * FROM chosen_scale),
measured AS (
    -- Recall of each run on each gallery but its own training snapshot.
    SELECT run.id AS run_id, run.name, run.system, run.inputs, run.guide, run.snapshot_id, run.preset,
           run.seed AS run_seed, evaluation.gallery_id, evaluation.part, evaluation.constituent_id, evaluation.distance,
           evaluation.steps, evaluation.scale, evaluation.checkpoint_samples, metric.k, metric.value,
           chosen.scale AS chosen,
           min(evaluation.scale) OVER same AS smallest, max(evaluation.scale) OVER same AS largest
    FROM evaluation
    JOIN run ON run.id = evaluation.run_id AND run.system = evaluation.system
    JOIN metric ON metric.evaluation_id = evaluation.id AND metric.name = 'recall'
    JOIN constituent ON constituent.id = evaluation.constituent_id
    LEFT JOIN LATERAL (
        -- By the same face embedding, else by another.
        SELECT scale FROM choice WHERE choice.run = run.name ORDER BY embedding <> constituent.name, embedding LIMIT 1
    ) chosen ON true
    WHERE evaluation.gallery_id <> run.snapshot_id
    WINDOW same AS (PARTITION BY run.id, evaluation.gallery_id, evaluation.part, evaluation.constituent_id,
                                 evaluation.distance, evaluation.steps)
), at_scale AS (
    -- At its chosen scale, or at the only one there is; seeds of the generations averaged.
    SELECT run_id, name, system, inputs, guide, snapshot_id, preset, run_seed, gallery_id, part, constituent_id,
           distance, steps, scale, max(checkpoint_samples) AS samples, k, avg(value) AS recall
    FROM measured
    WHERE scale = coalesce(chosen, CASE WHEN smallest = largest THEN smallest END)
    GROUP BY run_id, name, system, inputs, guide, snapshot_id, preset, run_seed, gallery_id, part, constituent_id,
             distance, steps, scale, k
)
SELECT trained.name                                 AS snapshot,
       everything.preset,
       everything.run_seed,
       gallery.name                                 AS gallery,
       everything.part,
       constituent.name                             AS embedding,
       everything.distance,
       everything.steps,
       CASE less.system
           WHEN 'no-image-guide' THEN 'image guide'
           WHEN 'no-audio' THEN 'audio'
           WHEN 'no-speaker-embeddings' THEN 'speaker embeddings'
           WHEN 'no-additional-attributes' THEN 'additional attributes'
           ELSE 'what ' || less.system || ' lacks'
       END                                          AS input,
       less.system                                  AS without_system,
       everything.name                              AS run_all,
       less.name                                    AS run_without,
       everything.scale                             AS scale_all,
       less.scale                                   AS scale_without,
       everything.samples                           AS samples_all,
       less.samples                                 AS samples_without,
       everything.k,
       everything.recall                            AS recall_all,
       less.recall                                  AS recall_without,
       100 * (everything.recall - less.recall) / nullif(less.recall, 0) AS increase
FROM at_scale everything
JOIN at_scale less USING (snapshot_id, preset, run_seed, gallery_id, part, constituent_id, distance, steps, k)
JOIN snapshot trained ON trained.id = snapshot_id
JOIN snapshot gallery ON gallery.id = gallery_id
JOIN constituent ON constituent.id = constituent_id
WHERE everything.system = 'full-input' AND less.system <> 'full-input'
  AND less.inputs <@ everything.inputs AND less.guide <= everything.guide;

COMMENT ON VIEW recall_increase IS 'How much recall grows when an input is added (paper, Eq. 3 and Table 5): full-input against each system that sees less, same snapshot, preset, seed and gallery, each at its chosen scale.';
COMMENT ON COLUMN recall_increase.snapshot IS 'Snapshot both were trained on.';
COMMENT ON COLUMN recall_increase.preset IS 'Preset of both.';
COMMENT ON COLUMN recall_increase.run_seed IS 'Training seed of both.';
COMMENT ON COLUMN recall_increase.gallery IS 'Snapshot searched in.';
COMMENT ON COLUMN recall_increase.part IS 'Part of it: all, train or validation.';
COMMENT ON COLUMN recall_increase.embedding IS 'Face embedding constituent.';
COMMENT ON COLUMN recall_increase.distance IS 'euclidean | cosine.';
COMMENT ON COLUMN recall_increase.steps IS 'Solver steps of each U-Net; 0 = as the preset says.';
COMMENT ON COLUMN recall_increase.input IS 'What full-input has and the other lacks.';
COMMENT ON COLUMN recall_increase.without_system IS 'The system that lacks it.';
COMMENT ON COLUMN recall_increase.run_all IS 'Run of full-input.';
COMMENT ON COLUMN recall_increase.run_without IS 'Run of the other system.';
COMMENT ON COLUMN recall_increase.scale_all IS 'Conditional scale of full-input: the chosen one, or the only one measured.';
COMMENT ON COLUMN recall_increase.scale_without IS 'Conditional scale of the other system, alike.';
COMMENT ON COLUMN recall_increase.samples_all IS 'Samples U-Net 1 of full-input had seen.';
COMMENT ON COLUMN recall_increase.samples_without IS 'Samples U-Net 1 of the other had seen: a comparison is fair where both are equal.';
COMMENT ON COLUMN recall_increase.k IS 'Matches looked at.';
COMMENT ON COLUMN recall_increase.recall_all IS 'Recall@k of full-input, 0 to 1.';
COMMENT ON COLUMN recall_increase.recall_without IS 'Recall@k of the other system, 0 to 1.';
COMMENT ON COLUMN recall_increase.increase IS 'R_inc,k = 100 (R_all - R_without) / R_without, percent; null where R_without is 0.';

CREATE FUNCTION significance_band(s double precision) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN s < 0 THEN 'harmful' WHEN s = 0 THEN 'negligible' WHEN s <= 20 THEN 'minor'
            WHEN s <= 40 THEN 'moderate' WHEN s <= 60 THEN 'considerable'
            WHEN s <= 80 THEN 'significant' WHEN s > 80 THEN 'profound' END;

COMMENT ON FUNCTION significance_band IS 'The paper''s word for a significance S in percent. It has none below zero: harmful.';

CREATE FUNCTION student_t_975(degrees bigint) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN degrees < 1 THEN NULL
    WHEN degrees <= 10
        THEN (ARRAY[12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281])[degrees]
    -- Abramowitz and Stegun, 26.7.5, at z = 1.959964.
    ELSE 1.959964 + 2.3722712 / degrees + 2.8224986 / degrees ^ 2 + 2.5558497 / degrees ^ 3
END;

COMMENT ON FUNCTION student_t_975 IS 'The 97.5 % quantile of Student''s t, for a two-sided 95 % interval of a mean.';

CREATE FUNCTION significance(
    w1 double precision DEFAULT 1, w3 double precision DEFAULT 1.0 / 3,
    w5 double precision DEFAULT 1.0 / 5, w10 double precision DEFAULT 1.0 / 10
) RETURNS TABLE (
    snapshot text, preset text, gallery text, part text, embedding text, distance text, steps integer,
    input text, without_system text, seeds bigint,
    s double precision, ci_low double precision, ci_high double precision, band text
) LANGUAGE sql STABLE AS $$
    WITH weight (k, w) AS (VALUES (1, w1), (3, w3), (5, w5), (10, w10)),
    pair AS (
        -- Eq. 4 for each pair of runs; unknown where a k that counts has no increase.
        SELECT snapshot, preset, gallery, part, embedding, distance, steps, input, without_system, run_seed,
               CASE WHEN count(*) FILTER (WHERE w > 0) = count(increase) FILTER (WHERE w > 0)
                         AND count(*) = (SELECT count(*) FROM weight)
                    THEN sum(w * increase) / nullif(sum(w), 0) END AS s
        FROM recall_increase JOIN weight USING (k)
        GROUP BY snapshot, preset, gallery, part, embedding, distance, steps, input, without_system, run_seed, run_all,
                 run_without
    ), seed AS (
        SELECT snapshot, preset, gallery, part, embedding, distance, steps, input, without_system, run_seed, avg(s) AS s
        FROM pair
        GROUP BY snapshot, preset, gallery, part, embedding, distance, steps, input, without_system, run_seed
    )
    SELECT snapshot, preset, gallery, part, embedding, distance, steps, input, without_system, count(s), avg(s),
           avg(s) - student_t_975(count(s) - 1) * stddev_samp(s) / sqrt(count(s)),
           avg(s) + student_t_975(count(s) - 1) * stddev_samp(s) / sqrt(count(s)),
           significance_band(avg(s))
    FROM seed
    GROUP BY snapshot, preset, gallery, part, embedding, distance, steps, input, without_system
$$;

COMMENT ON FUNCTION significance IS 'Significance S of each input (paper, Eq. 4): the mean of the recall increases at k = 1, 3, 5, 10 with the weights given, mean over training seeds.';

CREATE VIEW significance AS SELECT * FROM significance();

COMMENT ON VIEW significance IS 'Significance S of each input with weights 1/k (the paper prints no weights; significance(w1, w3, w5, w10) takes others).';
COMMENT ON COLUMN significance.snapshot IS 'Snapshot trained on.';
COMMENT ON COLUMN significance.preset IS 'Preset of the training.';
COMMENT ON COLUMN significance.gallery IS 'Snapshot searched in.';
COMMENT ON COLUMN significance.part IS 'Part of it: all, train or validation.';
COMMENT ON COLUMN significance.embedding IS 'Face embedding constituent.';
COMMENT ON COLUMN significance.distance IS 'euclidean | cosine.';
COMMENT ON COLUMN significance.steps IS 'Solver steps of each U-Net; 0 = as the preset says.';
COMMENT ON COLUMN significance.input IS 'What full-input has and the other system lacks.';
COMMENT ON COLUMN significance.without_system IS 'The system that lacks it.';
COMMENT ON COLUMN significance.seeds IS 'Training seeds with an S.';
COMMENT ON COLUMN significance.s IS 'S, percent: mean over seeds; null where a recall without the input is 0.';
COMMENT ON COLUMN significance.ci_low IS 'Lower end of the 95 % interval over seeds (Student''s t); null with one seed.';
COMMENT ON COLUMN significance.ci_high IS 'Upper end, alike.';
COMMENT ON COLUMN significance.band IS 'negligible | minor | moderate | considerable | significant | profound; below zero: harmful.';

GRANT SELECT ON chosen_scale, scale_sweep, recall_increase, significance TO slf_analyst, slf_researcher, slf_ingest;
