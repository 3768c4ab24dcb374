"""Evaluation: how well generated faces are recognised among real ones.

Read in this order: `measure` (the whole way of one evaluation), `gallery` and `probes` (what is searched in and with),
`embedding`, `matching` (nearest neighbours in SQL), `likeness` (PSNR, SSIM), `bicubic` and `chance` (baselines),
`interval`, `recall` (reading the numbers), `significance` (what an input is worth), `reporting` (the report).
"""

from slf_store.evaluation.measure import evaluate
from slf_store.evaluation.recall import best_scale, recall_rows
from slf_store.evaluation.reporting.page import report

__all__ = ["best_scale", "evaluate", "recall_rows", "report"]
