"""Evaluation: how well generated faces are recognised among real ones.

Read in this order: `measure` (the whole way of one evaluation), `gallery` and `probes` (what is searched in and with),
`embedding`, `matching` and `candidates` (nearest neighbours in SQL), `outcomes` (what became of each probe), `likeness`
(PSNR, SSIM), `estimate` and `attribute_recall`, `frechet` and `fid`, `groups`, `bicubic` and `chance` (baselines),
`interval`; then what reads the numbers: `recall`, `scores`, `paired`, `gallery_size`, `significance` (what an input is
worth), `reporting` (the report). `evalset` draws the set, `nearest` looks around; `face_index` and
`approximate` do so in very large stores, where a face may be missed.
"""

from slf_store.evaluation.measure import evaluate
from slf_store.evaluation.recall import best_scale, recall_rows
from slf_store.evaluation.reporting.page import report

__all__ = ["best_scale", "evaluate", "recall_rows", "report"]
