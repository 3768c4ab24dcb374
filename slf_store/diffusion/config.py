"""Presets: every number that shapes a U-Net or its training, as data."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from slf_store.errors import ConfigError

Prediction = Literal["noise", "v", "x0"]
Which = Literal[1, 2]


@dataclass(frozen=True)
class UnetConfig:
    """One U-Net and the diffusion process it was trained for. Sides are in pixels."""

    size: int
    """Side of the image it makes: 32 (U-Net 1) or 128 (U-Net 2)."""
    low_size: int
    """Side of the image it starts from: 8 (the guide) or 32 (U-Net 1's image)."""
    channels: tuple[int, ...]
    """Width of each level, finest first (paper: dim × multipliers)."""
    blocks: tuple[int, ...]
    """Residual blocks of each level on the way down; one more on the way up."""
    attention: tuple[bool, ...]
    """Which levels attend to themselves and to the conditioning."""
    network: Literal["published", "diffusers"] = "diffusers"
    """Layout: the published code's (:mod:`slf_store.diffusion.published`), or diffusers' `UNet2DConditionModel`."""
    head_dim: int = 64
    """Width of an attention head; 8 heads of 64 in the published layout, whatever this says."""
    patch: int = 1
    """Space-to-depth factor: the network works on a grid of size / patch."""
    rows: int = 256
    columns: int = 768
    """Shape of the conditioning matrix (design §6)."""
    cond_dim: int = 512
    """Width of a conditioning token inside the network."""
    latents: int = 32
    """Tokens the rows are attention-pooled into."""
    prediction: Prediction = "noise"
    """What the network predicts (see `schedule`)."""
    residual: bool = False
    """Output is added to the enlarged low image, its last layer starting at zero; needs prediction "x0"."""
    timesteps: int = 1000
    schedule: Literal["cosine", "linear"] = "cosine"
    zero_terminal: bool = False
    """The last timestep holds no signal at all (Lin et al. 2024, §3.1); not for noise prediction."""
    augment_max: float = 0.0
    """Training adds noise of a level drawn from [0, augment_max] to the low image; 0 = never."""
    augment_level: float = 0.0
    """Level used when sampling."""
    threshold: float = 0.95
    """Quantile of dynamic thresholding (Imagen §2.3); 0 = plain clipping to [-1, 1]."""
    steps: int = 25
    """Solver steps when sampling."""
    spacing: Literal["time", "log_snr"] = "time"
    """What the solver's steps are even in: timesteps, or the logarithm of signal to noise (finer near the end)."""

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.blocks) == len(self.attention):
            raise ConfigError(
                f"U-Net {self.size}: channels, blocks and attention name {len(self.channels)}, {len(self.blocks)} "
                f"and {len(self.attention)} levels",
                hint="give one value per level",
            )
        halvings = len(self.channels) - 1
        if self.size % (self.patch * 2**halvings):
            raise ConfigError(
                f"U-Net {self.size}: a grid of {self.size} / {self.patch} cannot be halved {halvings} times",
                hint="use fewer levels or a smaller patch",
            )
        if self.residual and self.prediction != "x0":
            raise ConfigError(
                f"U-Net {self.size}: residual output needs prediction 'x0', not {self.prediction!r}",
                hint="set prediction='x0' or residual=False",
            )
        if self.zero_terminal and self.prediction == "noise":
            raise ConfigError(
                f"U-Net {self.size}: noise prediction says nothing where no signal is left",
                hint="set prediction='v' or zero_terminal=False",
            )

    @property
    def vector_dim(self) -> int:
        """Width of the vector that scales and shifts the residual blocks."""
        return (8 if self.network == "published" else 4) * self.channels[0]

    @property
    def grid(self) -> int:
        """Side of the grid the network works on."""
        return self.size // self.patch


@dataclass(frozen=True)
class TrainingConfig:
    """How one U-Net is trained."""

    batch_size: int = 64
    micro_batch: int = 0
    """Samples computed at a time, gradients added up (memory); 0 = the whole batch."""
    crop: int = 0
    """Side, in pixels, of the random square of the image that is trained on; 0 = all of it."""
    compile: bool = False
    """Compile the network with torch.compile where a compiler is found."""
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup_samples: int = 0
    """Samples over which the learning rate rises from 0."""
    decay_from: float = 1.0
    """Share of the budget after which the learning rate falls to 0 on a cosine; 1 = never."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 = not clipped."""
    ema_decay: float = 0.9999
    """Upper limit; the first steps use (1 + n) / (10 + n)."""
    ema_every: int = 1
    """Steps from one averaging to the next, from step 100 on; before, each step."""
    condition_dropout: float = 0.1
    """Share of samples that see no conditioning at all (classifier-free guidance)."""
    attribute_dropout: float = 0.2
    """Chance of each attribute row to be hidden, independently (paper: age, gender, ethnicity, language)."""
    attribute_rows: int = 4
    guide_dropout: float = 0.0
    """Share of samples that see no image guide."""
    min_snr: float = 5.0
    """Gamma of min-SNR loss weights (Hang et al. 2023, eq. 8); 0 = the plain squared error of what is predicted."""
    noise_levels: Literal["uniform", "middle"] = "uniform"
    """How timesteps are drawn; "middle" = logit-normal."""
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class DiffusionConfig:
    """Both U-Nets and their training under one name.

    >>> DiffusionConfig.from_json(preset("tiny").to_json()) == preset("tiny")
    True
    """

    preset: str
    unet1: UnetConfig
    unet2: UnetConfig
    training1: TrainingConfig
    training2: TrainingConfig

    def __post_init__(self) -> None:
        for unet, training in ((self.unet1, self.training1), (self.unet2, self.training2)):
            ratio, halvings = unet.size // unet.low_size, len(unet.channels) - 1
            unit = math.lcm(ratio, unet.patch * 2**halvings)
            if training.crop and (training.crop % unit or not 0 < training.crop <= unet.size):
                raise ConfigError(
                    f"U-Net {unet.size}: crops of {training.crop} pixels",
                    hint=f"a multiple of {unit} up to {unet.size}, or 0 for the whole image",
                )
            if unet.zero_terminal and training.min_snr:
                raise ConfigError(
                    f"U-Net {unet.size}: min-SNR gives the last timestep of a zero-terminal schedule no weight",
                    hint="set min_snr=0 or zero_terminal=False",
                )

    def unet(self, which: Which) -> UnetConfig:
        """Configuration of U-Net 1 or 2."""
        return self.unet1 if which == 1 else self.unet2

    def training(self, which: Which) -> TrainingConfig:
        """Training of U-Net 1 or 2."""
        return self.training1 if which == 1 else self.training2

    def to_json(self) -> str:
        """One line of JSON, keys sorted: equal configurations give equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DiffusionConfig:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: not JSON, or names and values that fit no configuration.
        """
        try:
            raw = json.loads(text)
            return cls(
                preset=raw["preset"],
                unet1=_build(UnetConfig, raw["unet1"]),
                unet2=_build(UnetConfig, raw["unet2"]),
                training1=_build(TrainingConfig, raw["training1"]),
                training2=_build(TrainingConfig, raw["training2"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"not a diffusion configuration: {error}", hint="write it with to_json()") from error


def _build(cls: type[Any], raw: dict[str, Any]) -> Any:
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise KeyError(f"unknown {cls.__name__} names {unknown}")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})


def _paper() -> DiffusionConfig:
    """The published model (widths, blocks, attention: its code; T, schedule, losses: imagen-pytorch's defaults)."""
    training = TrainingConfig(batch_size=64, ema_every=10)
    return DiffusionConfig(
        preset="paper",
        unet1=UnetConfig(
            size=32, low_size=8, channels=(192, 384, 768, 1536), blocks=(3, 3, 3, 3),
            attention=(False, True, True, True), network="published", augment_max=1.0, augment_level=0.2, steps=1000,
        ),
        unet2=UnetConfig(
            size=128, low_size=32, channels=(128, 256, 512, 1024), blocks=(2, 4, 8, 8),
            attention=(False, False, False, True), network="published", schedule="linear", augment_max=1.0,
            augment_level=0.2, steps=1000,
        ),
        training1=training,
        training2=training,
    )  # fmt: skip


def _base() -> DiffusionConfig:
    """The paper's networks with today's practice; docs/diffusion.md says what each departure gained."""
    paper = _paper()
    process: dict[str, Any] = {"prediction": "v", "schedule": "cosine", "zero_terminal": True}
    process |= {"steps": 25, "spacing": "log_snr"}
    training = replace(paper.training1, min_snr=0.0, precision="bf16", compile=True)
    return DiffusionConfig(
        preset="base",
        unet1=replace(paper.unet1, **process),
        unet2=replace(paper.unet2, **process),
        training1=training,
        training2=replace(training, crop=64),
    )


def _tiny() -> DiffusionConfig:
    """Minutes on two CPU cores. Each choice was measured at equal compute on the synthetic sample.

    Space-to-depth keeps the grids small. Predicting the residual over the enlarged low image brought U-Net 1 from
    22.3 to 26.4 dB in 10,000 samples, small batches (16 for 48) another 1.3 dB, min-SNR 1 for 5 another 1.0 dB.
    bfloat16 gained 3 % on a CPU with bf16 units at these widths, and costs much where there are none: float32.
    """
    training = TrainingConfig(
        batch_size=16, lr=1e-3, weight_decay=0.01, warmup_samples=500, decay_from=0.3, clip_norm=1.0,
        ema_decay=0.995, min_snr=1.0, noise_levels="middle",
    )  # fmt: skip
    return DiffusionConfig(
        preset="tiny",
        unet1=UnetConfig(
            size=32, low_size=8, patch=2, channels=(64, 128), blocks=(1, 1), attention=(False, True), head_dim=32,
            cond_dim=128, prediction="x0", residual=True, steps=16,
        ),
        unet2=UnetConfig(
            size=128, low_size=32, patch=4, channels=(32, 64, 128), blocks=(1, 1, 1), attention=(False, False, False),
            head_dim=32, cond_dim=128, prediction="x0", residual=True, augment_max=0.2, augment_level=0.05, steps=12,
        ),
        training1=training,
        training2=replace(training, batch_size=12),
    )  # fmt: skip


PRESETS = {"tiny": _tiny, "paper": _paper, "base": _base}


def preset(name: str) -> DiffusionConfig:
    """A preset by name.

    Raises:
        ConfigError: no such preset.

    >>> preset("paper").unet1.channels
    (192, 384, 768, 1536)
    """
    try:
        return PRESETS[name]()
    except KeyError:
        raise ConfigError(f"no preset {name!r}", hint=f"choose one of {', '.join(PRESETS)}") from None
