"""Imported once by the process that :mod:`fault_worker`'s processes are forked from: what takes long to load."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av  # noqa: F401
import fault_worker  # noqa: F401  (sets the threads first)
import librosa
import numpy as np
import torch  # noqa: F401

import slf_store.db.migrate
import slf_store.jobs.process  # noqa: F401
from slf_store.media.face import build_model, prepare_deepface

librosa.power_to_db(librosa.feature.melspectrogram(y=np.zeros(384_000, np.float32), sr=16_000, n_fft=512))
with tempfile.TemporaryDirectory() as folder:
    prepare_deepface(Path(folder))
    build_model("face_detector", "dlib")
