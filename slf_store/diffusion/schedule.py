"""NoiseSchedule: how much signal is left at each timestep, and the algebra between noise, v and x0."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from slf_store.compat import import_diffusers
from slf_store.diffusion.config import Prediction, UnetConfig
from slf_store.errors import ConfigError

_BETAS = {"cosine": "squaredcos_cap_v2", "linear": "linear"}
_LARGEST_SAMPLE = 100.0
"""Bound on x0 before thresholding; noise prediction divides by almost nothing at the last timestep."""
_FIRST_SIGMA = 20.0
"""Noise over signal at the second of the steps even in log SNR; beyond it an image in [-1, 1] hardly shows."""


class NoiseSchedule:
    """x_t = α_t·x0 + σ_t·ε with α² + σ² = 1 (Ho et al. 2020, eq. 4; cosine: Nichol & Dhariwal 2021, eq. 17).

    >>> from slf_store.diffusion.config import preset
    >>> schedule = NoiseSchedule(preset("tiny").unet1)
    >>> x0, noise, t = torch.ones(1, 3, 4, 4), torch.randn(1, 3, 4, 4), torch.tensor([500])
    >>> noisy = schedule.add_noise(x0, noise, t)
    >>> v = schedule.target("v", x0, noise, t)
    >>> torch.allclose(schedule.to_x0("v", v, noisy, t), x0, atol=1e-5)
    True
    """

    def __init__(self, config: UnetConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        signal = import_diffusers().DDPMScheduler(**self._named()).alphas_cumprod
        self.signal: Tensor = signal.to(device=device, dtype=torch.float32)
        """(T,) α²: the share of signal variance left; exactly 0 at the last timestep with `zero_terminal`."""

    def _named(self) -> dict[str, Any]:
        """This schedule in the words of diffusers."""
        return {
            "num_train_timesteps": self.config.timesteps,
            "beta_schedule": _BETAS[self.config.schedule],
            "rescale_betas_zero_snr": self.config.zero_terminal,
        }

    def alpha_sigma(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of each sample, (B, 1, 1, 1)."""
        signal = self.signal[timestep][:, None, None, None]
        return signal.sqrt(), (1 - signal).sqrt()

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The noisy image x_t."""
        alpha, sigma = self.alpha_sigma(timestep)
        return alpha * x0 + sigma * noise

    def target(self, prediction: Prediction, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What a network of this kind is asked for; v = α·ε − σ·x0 (Salimans & Ho 2022, §4)."""
        if prediction == "noise":
            return noise
        if prediction == "x0":
            return x0
        alpha, sigma = self.alpha_sigma(timestep)
        return alpha * noise - sigma * x0

    def to_x0(self, prediction: Prediction, output: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The clean image a network's output stands for."""
        if prediction == "x0":
            return output
        alpha, sigma = self.alpha_sigma(timestep)
        if prediction == "v":
            return alpha * noisy - sigma * output
        return ((noisy - sigma * output) / alpha).clamp(-_LARGEST_SAMPLE, _LARGEST_SAMPLE)

    def loss_weight(self, prediction: Prediction, timestep: Tensor, gamma: float) -> Tensor:
        """Min-SNR weights (B,): min(SNR, γ) in x0 units, restated for each prediction (Hang et al. 2023, §3.4).

        γ = 0 gives 1 everywhere. A zero-terminal schedule needs that: min-SNR weighs a timestep without signal by 0,
        so the one that sampling starts from would never be learned.
        """
        if not gamma:
            return torch.ones(len(timestep), device=timestep.device)
        signal = self.signal[timestep].double()
        snr = signal / (1 - signal)
        weight = snr.clamp(max=gamma)
        if prediction == "noise":
            weight = weight / snr
        elif prediction == "v":
            weight = weight / (snr + 1)
        return weight.float()

    def draw_timesteps(self, n: int, levels: Literal["uniform", "middle"], generator: torch.Generator) -> Tensor:
        """(n,) int64 timesteps; "middle" prefers medium noise (logit-normal, Esser et al. 2024, §3.1)."""
        device = self.signal.device
        if levels == "uniform":
            share = torch.rand(n, generator=generator, device=device)
        else:
            share = torch.randn(n, generator=generator, device=device).sigmoid()
        return (share * self.config.timesteps).long().clamp(max=self.config.timesteps - 1)

    def solver(self, steps: int) -> Any:
        """DPM-Solver++ 2M (Lu et al. 2022) over predictions of x0, set to this many steps, the last timestep first.

        As many steps as timesteps are each of them once; fewer are even in what the configuration says. It reckons in
        log SNR, so with `zero_terminal` it takes α² = 2⁻²⁴ for 0 there; x0 comes from `to_x0`.

        Raises:
            ConfigError: no step, or more than there are timesteps.
        """
        if not 1 <= steps <= self.config.timesteps:
            raise ConfigError(
                f"{steps} solver steps over {self.config.timesteps} timesteps",
                hint=f"choose 1 to {self.config.timesteps}",
            )
        solver = import_diffusers().DPMSolverMultistepScheduler(
            **self._named(),
            prediction_type="sample",
            algorithm_type="dpmsolver++",
            solver_order=2,
            lower_order_final=True,
            final_sigmas_type="zero",
            timestep_spacing="linspace",
        )
        if self.config.spacing == "log_snr":
            solver.set_timesteps(timesteps=self._even_in_log_snr(steps), device=self.signal.device)
        elif steps == self.config.timesteps:  # diffusers would round two of its steps to one timestep, and divide by 0
            solver.set_timesteps(timesteps=list(range(steps))[::-1], device=self.signal.device)
        else:
            solver.set_timesteps(steps, device=self.signal.device)
        return solver

    def _even_in_log_snr(self, steps: int) -> list[int]:
        """That many distinct timesteps: the last one, then others even in log SNR, as far as there are timesteps.

        Steps even in time leave the finest detail to the last step alone (docs/diffusion.md).
        """
        signal = self.signal.double().cpu().numpy()
        noise = 0.5 * np.log((1 - signal) / signal.clip(min=2**-24))
        first = min(np.log(_FIRST_SIGMA), noise[-1])
        wanted = np.linspace(first, noise[0], steps - 1) if steps > 2 else np.zeros(steps - 1)
        nearest = np.interp(wanted, noise, np.arange(len(noise))).round().astype(int)
        found = [self.config.timesteps - 1]
        for left, timestep in zip(range(steps - 2, -1, -1), nearest, strict=True):
            found.append(int(min(max(timestep, left), found[-1] - 1)))
        return found


def threshold(x0: Tensor, quantile: float) -> Tensor:
    """Dynamic thresholding (Saharia et al. 2022, §2.3): scale down a sample whose quantile leaves [-1, 1].

    >>> threshold(torch.tensor([[[[0.5, -0.5]]]]), 0.95).flatten().tolist()
    [0.5, -0.5]
    """
    if not quantile:
        return x0.clamp(-1.0, 1.0)
    limit = torch.quantile(x0.flatten(1).abs(), quantile, dim=1).clamp(min=1.0)[:, None, None, None]
    return x0.clamp(-limit, limit) / limit
