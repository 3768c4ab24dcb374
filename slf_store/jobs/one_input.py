"""OneInput: a person's own sound, picture and attributes, conditioned and generated from as a clip of the store is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slf_store.constituents.versioned import extractor_of
from slf_store.errors import ClipError, ConfigError, SelectionError
from slf_store.jobs.generation import check_scales, clip_seed, load_run, save_face
from slf_store.jobs.process import one_thread
from slf_store.jobs.training import run_row, run_system
from slf_store.media.clip import ClipMedia
from slf_store.media.picture import face_of, read_picture
from slf_store.query.encode import ENCODERS, ETHNICITIES, GENDERS, LANGUAGES
from slf_store.query.plain import place_plain
from slf_store.query.run_inputs import GUIDE, RunInputs, run_inputs
from slf_store.settings import Settings
from slf_store.store import Store

if TYPE_CHECKING:
    from slf_store.diffusion.checkpoint import Role

OLDEST = 130.0
"""Years."""


@dataclass(frozen=True)
class OneInput:
    """What a person gives; None = not given, and masked.

    Attributes:
        sound: file with speech: wav, ogg, mp4, mkv, …; its first 24 s are used.
        picture: file with a picture that shows the face to be guided by.
        picture_is_face: the picture is a square face crop: no face is looked for.
        age: years.
        gender: f or m.
        ethnicity: one of the paper's five, or a label that the setting `ethnicity_mapping` knows.
        language: one of CommonLanguage's 45, in any case.
    """

    sound: Path | None = None
    picture: Path | None = None
    picture_is_face: bool = False
    age: float | None = None
    gender: str | None = None
    ethnicity: str | None = None
    language: str | None = None

    def attributes(self, settings: Settings) -> dict[str, Any]:
        """Age, gender, ethnicity and language as a snapshot has them.

        Raises:
            ConfigError: one is not what it can be.

        >>> OneInput(language="english").attributes(Settings(home="."))["language"]
        'English'
        """
        if self.age is not None and not 0 <= self.age <= OLDEST:
            raise ConfigError(f"age {self.age:g}", hint=f"give years, 0 to {OLDEST:g}")
        mapped = None if self.ethnicity is None else settings.ethnicity_mapping.get(self.ethnicity, self.ethnicity)
        spelt = {language.lower(): language for language in LANGUAGES}
        said = None if self.language is None else spelt.get(self.language.lower(), self.language)
        labels = (("gender", self.gender, GENDERS), ("ethnicity", mapped, ETHNICITIES), ("language", said, LANGUAGES))
        for name, label, known in labels:
            if label is not None and label not in known:
                raise ConfigError(f"{name} {label!r}", hint=f"choose from {', '.join(known)}")
        return {"age": self.age, "gender": self.gender, "ethnicity": mapped, "language": said}


@dataclass(frozen=True)
class Conditioned:
    """One input in the run's layout.

    Attributes:
        matrix: (256, 768) float32.
        mask: (256,) bool, the rows that are visible.
        guide: (8, 8, 3) uint8 RGB, or None.
        used: inputs of the run that were given, by name.
        masked: inputs of the run that were not given.
    """

    matrix: NDArray[np.float32]
    mask: NDArray[np.bool_]
    guide: NDArray[np.uint8] | None
    used: tuple[str, ...]
    masked: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """Faces of one input.

    Attributes:
        run: its name.
        files: the pictures, in the order of the scales.
        used, masked: as :class:`Conditioned`.
        warnings: what to know of them.
    """

    run: str
    files: tuple[Path, ...]
    used: tuple[str, ...]
    masked: tuple[str, ...]
    warnings: tuple[str, ...]


def condition(store: Store, inputs: RunInputs, given: OneInput) -> Conditioned:
    """Compute what a run sees of one input, by the extractors of the run's constituent versions.

    Args:
        store: open store: its settings say where weights are.
        inputs: of the run.
        given: the input.

    Raises:
        SelectionError: nothing is given, or something that the run's system does not see.
        ClipError: a file is missing, empty, no sound, no picture, shows no face, …
        ConfigError: an attribute is not what it can be, or a version can no longer be computed.
        ModelUnavailable: weights are missing.
    """
    attributes = given.attributes(store.settings)
    sounds = [name for name in inputs.constituents if name != GUIDE]
    seen = [name for name in inputs.system.sees(inputs.layout) if name in ENCODERS or name in inputs.constituents]
    _refuse_unseen(inputs, given, attributes, sounds, seen)
    values: dict[str, NDArray[Any]] = {}
    guide = clip = None
    if given.sound is not None:
        clip = ClipMedia(0, given.sound.name, given.sound, frames=0)
        _require_speech(clip)
    if given.picture is not None:
        guide = _guide(store.settings, inputs, given.picture, is_face=given.picture_is_face)
    if clip is not None:
        with one_thread():
            values = {name: _extract(store.settings, inputs, name, clip) for name in sounds}
    matrix, mask = place_plain(inputs.layout, inputs.system.inputs, attributes, values, inputs.normalisation)
    used = [name for name in seen if name in values or attributes.get(name) is not None]
    masked = [name for name in seen if name not in used]
    if inputs.system.guide:
        (masked if guide is None else used).append(GUIDE)
    return Conditioned(matrix, mask, guide, tuple(used), tuple(masked))


def generate_one(
    store: Store,
    run: str,
    given: OneInput,
    out: Path,
    *,
    scales: Sequence[float] = (1.0,),
    seed: int = 0,
    key: str = "",
    steps: int | None = None,
    device: str = "cpu",
    role: Role = "last",
) -> Made:
    """Generate faces from one input; nothing is written into the store, and nothing at all unless all goes well.

    Args:
        store: open store.
        run: trained run, both U-Nets.
        given: the input.
        out: folder of the pictures `scale-S-seed-N.png`; made where it is not there.
        scales: conditional scales w.
        seed: of the noise: the same for any input.
        key: natural key `identity/video/clip` of a clip, to have its noise.
        steps: solver steps of each U-Net; as configured by default.
        device: torch device.
        role: checkpoints to use, as :func:`slf_store.jobs.generation.load_run`.

    Raises:
        CheckpointError: a U-Net of the run is not trained.
        ConfigError: a picture of that name is there already; or as :func:`condition`, with its other errors.
    """
    import torch

    from slf_store.query.scatter import to_image

    wanted = check_scales(scales)
    files = tuple(out / f"scale-{scale:.15g}-seed-{seed}.png" for scale in wanted)
    for path in files:
        if path.exists():
            raise ConfigError(f"{path} is there already", hint="give another --out, or remove it")
    row = run_row(store, run)
    inputs = run_inputs(store, run, run_system(row), row["snapshot"])
    conditioned = condition(store, inputs, given)
    trained = load_run(store, row, device, role)
    guide = None
    if conditioned.guide is not None:
        pixels = torch.from_numpy(conditioned.guide[None])
        to_image(pixels, out=(image := torch.empty(pixels.shape)))
        guide = image.permute(0, 3, 1, 2)
    faces = trained.generate(
        torch.from_numpy(conditioned.matrix[None]), torch.from_numpy(conditioned.mask[None]), guide, wanted,
        [clip_seed(seed, key)], steps=steps, device=device,
    )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, (face,), scale in zip(files, faces, wanted, strict=True):
            save_face(path, face, f"generated by run {run} at scale {scale:g} from an input of one's own")
    except OSError as error:
        raise ConfigError(f"cannot write into {out}: {error.strerror}", hint="choose another --out") from error
    warnings: tuple[str, ...] = ()
    if inputs.system.guide and guide is None and not trained.guide_dropout:
        warnings = (f"run {run} never went without an image guide in training: without one its faces mean little",)
    return Made(run, files, conditioned.used, conditioned.masked, warnings)


def _refuse_unseen(
    inputs: RunInputs, given: OneInput, attributes: dict[str, Any], sounds: list[str], seen: list[str]
) -> None:
    """What is given must be seen."""
    unseen = [name for name, value in attributes.items() if value is not None and name not in seen]
    unseen += ["sound"] if given.sound is not None and not sounds else []
    unseen += ["picture"] if given.picture is not None and not inputs.system.guide else []
    told = [f"sound ({', '.join(sounds)})"] if sounds else []
    told += ["a picture (image guide)"] if inputs.system.guide else []
    told += [name for name in seen if name in ENCODERS]
    sees = f"run {inputs.run} (system {inputs.system.name}) sees {', '.join(told) or 'nothing'}"
    if unseen:
        raise SelectionError(f"{sees}, not {', '.join(unseen)}", hint="leave that out, or choose another run")
    if given.sound is None and given.picture is None and all(value is None for value in attributes.values()):
        raise SelectionError(f"no input is given; {sees}", hint="give at least one of them")


def _require_speech(clip: ClipMedia) -> None:
    """A bad file is told before any model is loaded."""
    try:
        _ = clip.recorded_speech
    except ClipError as error:
        hint = error.hint or "give at least 0.5 s of speech: wav, ogg, mp4, mkv"
        raise ClipError(error.code, error.what, hint=hint) from error


def _extract(settings: Settings, inputs: RunInputs, name: str, clip: ClipMedia) -> NDArray[Any]:
    """The stored value of a constituent of the run's version."""
    entry = inputs.constituents[name]
    extractor = extractor_of(settings, entry["spec"], entry["version"])
    extractor.load()
    (value,) = extractor.extract_many([clip])
    if isinstance(value, ClipError):
        raise value
    if isinstance(value, Exception):
        raise ClipError("unexpected", f"{clip.path}: {inputs.version(name)} failed: {value!r}") from value
    found = np.asarray(value)
    stored = np.zeros(tuple(entry["shape"]), entry["dtype"])
    stored[: len(found)] = found
    return stored


def _guide(settings: Settings, inputs: RunInputs, path: Path, *, is_face: bool) -> NDArray[np.uint8]:
    """(8, 8, 3) uint8, as `image_guide` is made of a frame."""
    from slf_store.constituents.faces import FromFace
    from slf_store.media.face import crop_face, make_guide

    image = read_picture(path)
    if is_face:
        height, width = image.shape[:2]
        if height != width:
            raise ClipError("not_square", f"{path}: {width}×{height} pixels; a face crop is square")
        return make_guide(image)
    entry = inputs.constituents[GUIDE]
    extractor = extractor_of(settings, entry["spec"], entry["version"])
    if not isinstance(extractor, FromFace):
        raise ConfigError(f"{inputs.version(GUIDE)} is not made from a face", hint="give --guide-is-face")
    extractor.load()
    return make_guide(crop_face(face_of(image, path, extractor.choice.detector)))
