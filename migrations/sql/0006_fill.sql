-- What snapshots and runs made before say of themselves: there was one layout, and eight systems.
UPDATE snapshot SET blocks = '[
    {"name": "age", "first": 0, "rows": 1, "columns": 2, "scaling": "attribute"},
    {"name": "gender", "first": 1, "rows": 1, "columns": 2, "scaling": "attribute"},
    {"name": "ethnicity", "first": 2, "rows": 1, "columns": 5, "scaling": "attribute"},
    {"name": "language", "first": 3, "rows": 1, "columns": 45, "scaling": "attribute"},
    {"name": "ecapa", "first": 4, "rows": 1, "columns": 192, "scaling": "unit"},
    {"name": "ecapa_windows", "first": 5, "rows": 14, "columns": 192, "scaling": "unit"},
    {"name": "pyannote", "first": 19, "rows": 37, "columns": 512, "scaling": "unit"},
    {"name": "titanet", "first": 56, "rows": 1, "columns": 192, "scaling": "unit"},
    {"name": "speakernet", "first": 57, "rows": 1, "columns": 256, "scaling": "unit"},
    {"name": "camplusplus", "first": 58, "rows": 1, "columns": 192, "scaling": "unit"},
    {"name": "resemblyzer", "first": 59, "rows": 1, "columns": 256, "scaling": "unit"},
    {"name": "pyaudioanalysis", "first": 62, "rows": 79, "columns": 68, "scaling": "standard"},
    {"name": "mel", "first": 141, "rows": 111, "columns": 128, "scaling": "standard"}
]';

UPDATE run
SET guide = run.system NOT IN ('no-image-guide', 'audio-only', 'speaker-embeddings-only'),
    inputs = CASE run.system
        WHEN 'full-input' THEN attributes || speaker || classical
        WHEN 'no-image-guide' THEN attributes || speaker || classical
        WHEN 'no-speaker-embeddings' THEN attributes || classical
        WHEN 'no-audio' THEN '{age,gender,ethnicity}'::varchar[]
        WHEN 'audio-only' THEN speaker || classical
        WHEN 'speaker-embeddings-only' THEN speaker
        WHEN 'no-additional-attributes' THEN speaker || classical
        ELSE '{}'::varchar[]  -- pure-super-resolution
    END
FROM (SELECT '{age,gender,ethnicity,language}'::varchar[] AS attributes,
             '{ecapa,ecapa_windows,pyannote,titanet,speakernet,camplusplus,resemblyzer}'::varchar[] AS speaker,
             '{pyaudioanalysis,mel}'::varchar[] AS classical) inputs;

GRANT SELECT, INSERT, UPDATE, DELETE ON system TO slf_ingest;
GRANT SELECT, INSERT, DELETE ON system TO slf_researcher;
