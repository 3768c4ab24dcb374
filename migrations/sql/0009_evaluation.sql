-- What evaluations of older programs know of their probes: those with matches, and those in which no face was detected.
INSERT INTO probe (evaluation_id, clip_id, detected, rank, psnr, ssim)
SELECT evaluation.id, generation.clip_id, coalesce(embedded.vector IS NOT NULL, false), found.rank,
       generation.psnr, generation.ssim
FROM evaluation
JOIN run ON run.id = evaluation.run_id
JOIN snapshot_clip member ON member.snapshot_id = evaluation.gallery_id
                         AND (evaluation.part = 'all' OR member.part = evaluation.part)
JOIN generation ON generation.run_id = run.id AND generation.clip_id = member.clip_id
               AND generation.scale = evaluation.scale AND generation.seed = evaluation.seed
               AND generation.steps = evaluation.steps
               AND generation.method = CASE evaluation.system WHEN run.system THEN 'diffusion' ELSE 'bicubic' END
LEFT JOIN generation_embedding embedded
       ON embedded.generation_id = generation.id AND embedded.constituent_id = evaluation.constituent_id
LEFT JOIN LATERAL (SELECT min(rank) AS rank FROM match
                   WHERE match.evaluation_id = evaluation.id AND match.probe_clip_id = generation.clip_id AND hit) found
       ON true
WHERE evaluation.system IN (run.system, 'bicubic-8x8');

INSERT INTO probe (evaluation_id, clip_id, detected, rank)
SELECT evaluation.id, match.probe_clip_id, true, min(match.rank) FILTER (WHERE match.hit)
FROM evaluation JOIN match ON match.evaluation_id = evaluation.id
WHERE evaluation.system = 'real-vs-real'
GROUP BY evaluation.id, match.probe_clip_id;

CREATE OR REPLACE VIEW recall_at_k AS
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
       evaluation.created_at,
       evaluation.steps,
       evaluation.distance,
       by_identity.value      AS identity_recall,
       by_identity.ci_low     AS identity_ci_low,
       by_identity.ci_high    AS identity_ci_high,
       by_identity.n          AS identities
FROM metric
JOIN evaluation ON evaluation.id = metric.evaluation_id
JOIN run ON run.id = evaluation.run_id
JOIN snapshot trained ON trained.id = run.snapshot_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
JOIN constituent ON constituent.id = evaluation.constituent_id
LEFT JOIN metric by_identity ON by_identity.evaluation_id = metric.evaluation_id
                            AND by_identity.name = 'identity_recall' AND by_identity.k = metric.k
WHERE metric.name = 'recall';

COMMENT ON COLUMN recall_at_k.distance IS 'euclidean | cosine, between two embeddings.';
COMMENT ON COLUMN recall_at_k.identity_recall IS 'The same, averaged over people instead of clips: each counts once. Null where an older program measured.';
COMMENT ON COLUMN recall_at_k.identity_ci_low IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN recall_at_k.identity_ci_high IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN recall_at_k.identities IS 'People among the probes.';

CREATE OR REPLACE VIEW fidelity AS
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
       evaluation.seed,
       evaluation.steps,
       constituent.name       AS embedding,
       evaluation.distance
FROM metric
JOIN evaluation ON evaluation.id = metric.evaluation_id
JOIN run ON run.id = evaluation.run_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
JOIN constituent ON constituent.id = evaluation.constituent_id
WHERE metric.name IN ('psnr', 'ssim', 'frechet');

COMMENT ON VIEW fidelity IS 'How close generated faces are to real ones: pixel by pixel, and as a set.';
COMMENT ON COLUMN fidelity.metric IS 'psnr (dB) | ssim | frechet: squared Frechet distance between the face embeddings of probes and gallery, not the Inception FID; low is close, and it grows as the faces get fewer.';
COMMENT ON COLUMN fidelity.value IS 'Mean over pairs; of frechet the distance.';
COMMENT ON COLUMN fidelity.n IS 'Pairs; of frechet the probes with a detected face.';
COMMENT ON COLUMN fidelity.embedding IS 'Face embedding constituent; psnr and ssim do not depend on it.';
COMMENT ON COLUMN fidelity.distance IS 'euclidean | cosine: which evaluation it belongs to; no metric here depends on it.';

CREATE VIEW probes AS
SELECT run.name               AS run,
       evaluation.system,
       evaluation.scale,
       evaluation.seed,
       evaluation.steps,
       gallery.name           AS gallery,
       evaluation.part,
       constituent.name       AS embedding,
       evaluation.distance,
       probe.clip_id,
       identity.name          AS identity,
       video.name             AS video,
       clip.name              AS clip,
       probe.detected,
       probe.rank,
       probe.psnr,
       probe.ssim,
       said.age,
       said.age_source,
       said.gender,
       said.gender_source,
       said.ethnicity,
       said.ethnicity_source,
       said.language,
       said.language_source
FROM probe
JOIN evaluation ON evaluation.id = probe.evaluation_id
JOIN run ON run.id = evaluation.run_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
JOIN constituent ON constituent.id = evaluation.constituent_id
JOIN clip ON clip.id = probe.clip_id
JOIN video ON video.id = clip.video_id
JOIN identity ON identity.id = video.identity_id
LEFT JOIN clip_attribute said ON said.clip_id = probe.clip_id;

COMMENT ON VIEW probes IS 'Every face searched with, and what became of it; with the attributes of the real person, to group by.';
COMMENT ON COLUMN probes.run IS 'Training run.';
COMMENT ON COLUMN probes.system IS 'System trained, or a baseline: bicubic-8x8, real-vs-real.';
COMMENT ON COLUMN probes.scale IS 'Conditional scale; 0 for baselines.';
COMMENT ON COLUMN probes.seed IS 'Seed of the generations.';
COMMENT ON COLUMN probes.steps IS 'Solver steps of each U-Net; 0 = as the preset says.';
COMMENT ON COLUMN probes.gallery IS 'Snapshot searched in.';
COMMENT ON COLUMN probes.part IS 'Part of it: all, train or validation.';
COMMENT ON COLUMN probes.embedding IS 'Face embedding constituent.';
COMMENT ON COLUMN probes.distance IS 'euclidean | cosine.';
COMMENT ON COLUMN probes.clip_id IS 'Clip the face was made from.';
COMMENT ON COLUMN probes.identity IS 'Whose face it should be.';
COMMENT ON COLUMN probes.video IS 'Video of the clip.';
COMMENT ON COLUMN probes.clip IS 'Name of the clip.';
COMMENT ON COLUMN probes.detected IS 'Whether a face was detected in it; if not it is a miss.';
COMMENT ON COLUMN probes.rank IS 'Rank of the first gallery face of the right person, from 1; null: not among the first 10.';
COMMENT ON COLUMN probes.psnr IS 'dB against the real face; null without one.';
COMMENT ON COLUMN probes.ssim IS 'Structural similarity with the real face; null without one.';
COMMENT ON COLUMN probes.age IS 'Of the real person in the clip, years; an estimate unless age_source is metadata.';
COMMENT ON COLUMN probes.age_source IS 'Who states the age.';
COMMENT ON COLUMN probes.gender IS 'Of the real person: f | m, as the source states it; null when unknown.';
COMMENT ON COLUMN probes.gender_source IS 'Who states the gender.';
COMMENT ON COLUMN probes.ethnicity IS 'Of the real person: label of the source; null when unknown.';
COMMENT ON COLUMN probes.ethnicity_source IS 'Who states the ethnicity.';
COMMENT ON COLUMN probes.language IS 'Language spoken in the clip; null when unknown.';
COMMENT ON COLUMN probes.language_source IS 'Who states the language.';

CREATE VIEW attribute_recall AS
SELECT run.name               AS run,
       evaluation.system,
       evaluation.scale,
       attribute_metric.attribute,
       attribute_metric.value,
       attribute_metric.ci_low,
       attribute_metric.ci_high,
       attribute_metric.n,
       attribute_metric.missed,
       attribute_metric.truth,
       attribute_metric.estimator,
       gallery.name           AS gallery,
       evaluation.part,
       constituent.name       AS embedding,
       evaluation.distance,
       evaluation.seed,
       evaluation.steps
FROM attribute_metric
JOIN evaluation ON evaluation.id = attribute_metric.evaluation_id
JOIN run ON run.id = evaluation.run_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
JOIN constituent ON constituent.id = evaluation.constituent_id;

COMMENT ON VIEW attribute_recall IS 'How often gender, ethnicity and age group of a generated face, as an estimator sees them, are those of the real person; and the error of the age.';
COMMENT ON COLUMN attribute_recall.run IS 'Training run.';
COMMENT ON COLUMN attribute_recall.system IS 'System trained, or a baseline: random, bicubic-8x8.';
COMMENT ON COLUMN attribute_recall.scale IS 'Conditional scale; 0 for baselines.';
COMMENT ON COLUMN attribute_recall.attribute IS 'gender | ethnicity | age_group (decades): recall, 0 to 1. age: root mean square error, years.';
COMMENT ON COLUMN attribute_recall.value IS 'The recall, or the error.';
COMMENT ON COLUMN attribute_recall.ci_low IS 'Lower end of the 95 % interval.';
COMMENT ON COLUMN attribute_recall.ci_high IS 'Upper end of the 95 % interval.';
COMMENT ON COLUMN attribute_recall.n IS 'Probes whose real attribute is stated; of age, those with an estimate too.';
COMMENT ON COLUMN attribute_recall.missed IS 'Probes the estimator found no face in: misses of a recall, left out of the age error.';
COMMENT ON COLUMN attribute_recall.truth IS 'Who states the attribute of the real face: metadata, or the estimator itself (as the paper does).';
COMMENT ON COLUMN attribute_recall.estimator IS 'Constituent that looked at the generated face; of random: none, the attribute is that of a real face drawn from the gallery.';
COMMENT ON COLUMN attribute_recall.gallery IS 'Snapshot evaluated on.';
COMMENT ON COLUMN attribute_recall.part IS 'Part of it.';
COMMENT ON COLUMN attribute_recall.embedding IS 'Face embedding of the evaluation; no value here depends on it.';
COMMENT ON COLUMN attribute_recall.distance IS 'Distance of the evaluation; no value here depends on it.';
COMMENT ON COLUMN attribute_recall.seed IS 'Seed of the generations.';
COMMENT ON COLUMN attribute_recall.steps IS 'Solver steps of each U-Net; 0 = as the preset says.';

CREATE VIEW metric_by_group AS
SELECT run.name               AS run,
       evaluation.system,
       evaluation.scale,
       group_metric.attribute,
       group_metric.label,
       group_metric.name      AS metric,
       group_metric.k,
       group_metric.value,
       group_metric.ci_low,
       group_metric.ci_high,
       group_metric.n,
       group_metric.identities,
       group_metric.identities < 10 AS small,
       group_metric.source,
       group_metric.truth,
       group_metric.estimator,
       gallery.name           AS gallery,
       evaluation.part,
       constituent.name       AS embedding,
       evaluation.distance,
       evaluation.seed,
       evaluation.steps
FROM group_metric
JOIN evaluation ON evaluation.id = group_metric.evaluation_id
JOIN run ON run.id = evaluation.run_id
JOIN snapshot gallery ON gallery.id = evaluation.gallery_id
JOIN constituent ON constituent.id = evaluation.constituent_id;

COMMENT ON VIEW metric_by_group IS 'Every metric of an evaluation by gender, age group, ethnicity and language of the real person. Groups that are small say little.';
COMMENT ON COLUMN metric_by_group.run IS 'Training run.';
COMMENT ON COLUMN metric_by_group.system IS 'System trained, or a baseline: random, bicubic-8x8, real-vs-real.';
COMMENT ON COLUMN metric_by_group.scale IS 'Conditional scale; 0 for baselines.';
COMMENT ON COLUMN metric_by_group.attribute IS 'gender | age_group | ethnicity | language.';
COMMENT ON COLUMN metric_by_group.label IS 'The group: f, 30s, ...; unknown where nobody states the attribute.';
COMMENT ON COLUMN metric_by_group.metric IS 'recall | detected (share of probes with a detected face) | psnr (dB) | ssim | gender_recall | ethnicity_recall | age_group_recall | age_error (root mean square, years).';
COMMENT ON COLUMN metric_by_group.k IS 'Matches looked at; 0 where the metric has no k.';
COMMENT ON COLUMN metric_by_group.value IS 'Mean over the probes of the group.';
COMMENT ON COLUMN metric_by_group.ci_low IS 'Lower end of the 95 % interval (bootstrap over people; of random: where chance lies).';
COMMENT ON COLUMN metric_by_group.ci_high IS 'Upper end of the 95 % interval.';
COMMENT ON COLUMN metric_by_group.n IS 'Probes of the group.';
COMMENT ON COLUMN metric_by_group.identities IS 'People in the group.';
COMMENT ON COLUMN metric_by_group.small IS 'Fewer than 10 people: show it greyed, conclude nothing from it.';
COMMENT ON COLUMN metric_by_group.source IS 'Who states the attribute: metadata, or a constituent (an estimate); none for unknown.';
COMMENT ON COLUMN metric_by_group.truth IS 'Of the last four metrics: who states the real person''s attribute; none for the others.';
COMMENT ON COLUMN metric_by_group.estimator IS 'Of the last four metrics: constituent that looked at the generated face; none for the others.';
COMMENT ON COLUMN metric_by_group.gallery IS 'Snapshot searched in.';
COMMENT ON COLUMN metric_by_group.part IS 'Part of it.';
COMMENT ON COLUMN metric_by_group.embedding IS 'Face embedding constituent.';
COMMENT ON COLUMN metric_by_group.distance IS 'euclidean | cosine.';
COMMENT ON COLUMN metric_by_group.seed IS 'Seed of the generations.';
COMMENT ON COLUMN metric_by_group.steps IS 'Solver steps of each U-Net; 0 = as the preset says.';

CREATE VIEW recall_by_group AS
SELECT run, system, scale, attribute, label, k, value AS recall, ci_low, ci_high, n, identities, small, source,
       gallery, part, embedding, distance, seed, steps
FROM metric_by_group
WHERE metric = 'recall';

COMMENT ON VIEW recall_by_group IS 'Recall by gender, age group, ethnicity and language: the rows of metric_by_group about recall.';
COMMENT ON COLUMN recall_by_group.run IS 'Training run.';
COMMENT ON COLUMN recall_by_group.system IS 'System trained, or a baseline: random, bicubic-8x8, real-vs-real.';
COMMENT ON COLUMN recall_by_group.scale IS 'Conditional scale; 0 for baselines.';
COMMENT ON COLUMN recall_by_group.attribute IS 'gender | age_group | ethnicity | language.';
COMMENT ON COLUMN recall_by_group.label IS 'The group; unknown where nobody states the attribute.';
COMMENT ON COLUMN recall_by_group.k IS 'Matches looked at.';
COMMENT ON COLUMN recall_by_group.recall IS 'Share of the group''s probes with the right identity among the first k.';
COMMENT ON COLUMN recall_by_group.ci_low IS 'Lower end of the 95 % interval.';
COMMENT ON COLUMN recall_by_group.ci_high IS 'Upper end of the 95 % interval.';
COMMENT ON COLUMN recall_by_group.n IS 'Probes of the group.';
COMMENT ON COLUMN recall_by_group.identities IS 'People in the group.';
COMMENT ON COLUMN recall_by_group.small IS 'Fewer than 10 people: show it greyed, conclude nothing from it.';
COMMENT ON COLUMN recall_by_group.source IS 'Who states the attribute.';
COMMENT ON COLUMN recall_by_group.gallery IS 'Snapshot searched in.';
COMMENT ON COLUMN recall_by_group.part IS 'Part of it.';
COMMENT ON COLUMN recall_by_group.embedding IS 'Face embedding constituent.';
COMMENT ON COLUMN recall_by_group.distance IS 'euclidean | cosine.';
COMMENT ON COLUMN recall_by_group.seed IS 'Seed of the generations.';
COMMENT ON COLUMN recall_by_group.steps IS 'Solver steps of each U-Net; 0 = as the preset says.';

-- The nearest real faces of the whole store. Exact: every face of the model is compared.
CREATE FUNCTION nearest_faces(probe vector, k integer DEFAULT 10, model text DEFAULT 'face_dlib') RETURNS TABLE (
    rank bigint, clip_id bigint, split varchar, identity varchar, video varchar, clip varchar, distance float8
) LANGUAGE sql STABLE AS $$
    SELECT row_number() OVER (ORDER BY near.distance, near.clip_id), near.clip_id, video.split, identity.name,
           video.name, clip.name, near.distance
    FROM (
        SELECT face.clip_id, face.vector <-> probe AS distance
        FROM face_embedding face
        WHERE face.constituent_id = (SELECT id FROM constituent
                                     WHERE name = model AND kind = 'embedding' AND status = 'active'
                                     ORDER BY created_at DESC, id DESC LIMIT 1)
        ORDER BY 2, 1
        LIMIT k
    ) near
    JOIN clip ON clip.id = near.clip_id
    JOIN video ON video.id = clip.video_id
    JOIN identity ON identity.id = video.identity_id
    ORDER BY 1
$$;
COMMENT ON FUNCTION nearest_faces(vector, integer, text) IS 'The k real faces of the store nearest to a vector of a face embedding model, by Euclidean distance; equal distances by clip.';

CREATE FUNCTION nearest_faces(of_clip bigint, k integer DEFAULT 10, model text DEFAULT 'face_dlib') RETURNS TABLE (
    rank bigint, clip_id bigint, split varchar, identity varchar, video varchar, clip varchar, distance float8
) LANGUAGE sql STABLE AS $$
    SELECT found.* FROM face_embedding face
    JOIN constituent ON constituent.id = face.constituent_id
    CROSS JOIN LATERAL nearest_faces(face.vector, k, model) found
    WHERE face.clip_id = of_clip AND constituent.name = model AND constituent.status = 'active'
    ORDER BY found.rank
$$;
COMMENT ON FUNCTION nearest_faces(bigint, integer, text) IS 'The k real faces of the store nearest to the face of a clip, itself first; no row where it has no embedding of that model.';

GRANT SELECT, INSERT, UPDATE, DELETE ON probe, generation_attribute, attribute_metric, group_metric
    TO slf_ingest, slf_researcher;
GRANT SELECT ON recall_at_k, fidelity, probes, attribute_recall, metric_by_group, recall_by_group
    TO slf_analyst, slf_researcher, slf_ingest;
