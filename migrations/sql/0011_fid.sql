-- The distance between two sets of faces in the network of FID, beside that of the face embeddings.
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
WHERE metric.name IN ('psnr', 'ssim', 'frechet', 'fid');

COMMENT ON COLUMN fidelity.metric IS 'psnr (dB) | ssim | frechet: squared Frechet distance between the face embeddings of probes and gallery | fid: the same of Inception features (Heusel et al. 2017). Low is close; both grow as the faces get fewer.';
COMMENT ON COLUMN fidelity.value IS 'Mean over pairs; of frechet and fid the distance.';
COMMENT ON COLUMN fidelity.n IS 'Pairs; of frechet the probes with a detected face; of fid all probes.';
COMMENT ON COLUMN fidelity.embedding IS 'Face embedding constituent; psnr, ssim and fid do not depend on it, but that the gallery is the faces it has.';
