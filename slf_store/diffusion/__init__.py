"""Diffusion: two U-Nets turn conditioning rows (and an 8×8 guide) into a 128×128 face.

Read in this order: `batch` (what comes in), `config` (presets), `conditioning`, `unet` and
`published` (the networks), `crop`, `schedule` (the noise), `train`, `checkpoint`, `sample`. Nothing here knows the
database.
"""
