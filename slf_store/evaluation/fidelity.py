"""How close two images are, pixel by pixel: PSNR and SSIM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

PEAK = 255.0
"""Largest value of a pixel (L in both definitions)."""
WINDOW = 11
"""Side of SSIM's window, pixels (Wang et al. 2004, section III-B)."""
SIGMA = 1.5
"""Standard deviation of SSIM's Gaussian weights, pixels (same)."""
K1, K2 = 0.01, 0.03
"""SSIM's constants (same, equations 7 and 9)."""


def psnr(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio, dB, over all pixels and channels.

    OpenCV's form, 20·log10(255 / (√MSE + ε)), as in the published code: equal images give 361.2 dB, not infinity.

    Args:
        image: (h, w, 3) uint8.
        truth: the same shape.

    >>> black = np.zeros((4, 4, 3), np.uint8)
    >>> round(psnr(black + np.uint8(5), black), 2)
    34.15
    """
    error = image.astype(np.float64) - _same_shape(image, truth)
    return float(20 * np.log10(PEAK / (np.sqrt(np.mean(error**2)) + np.finfo(np.float64).eps)))


def ssim(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Structural similarity, -1 to 1: the mean over every whole window and every channel.

    The standard form of Wang et al. 2004 (eq. 13): 11×11 Gaussian window with σ = 1.5, K₁ = 0.01, K₂ = 0.03, L = 255,
    population covariances, no padding. It is scikit-image's `structural_similarity` with `gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2`. (The published code calls the same
    function with its defaults, a flat 7×7 window; its figures are therefore a little different.)

    Args:
        image: (h, w, 3) uint8, sides of at least 11.
        truth: the same shape.

    >>> grey = np.full((16, 16, 3), 100, np.uint8)
    >>> ssim(grey, grey)
    1.0
    """
    x, y = image.astype(np.float64), _same_shape(image, truth)
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    mean_x, mean_y = _smooth(x), _smooth(y)
    variance_x = _smooth(x * x) - mean_x**2
    variance_y = _smooth(y * y) - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())


def _smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean of every whole window: (h, w, c) → (h - 10, w - 10, c)."""
    for axis in (0, 1):
        x = sliding_window_view(x, WINDOW, axis=axis) @ _KERNEL
    return x


def _gaussian() -> NDArray[np.float64]:
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel: NDArray[np.float64] = weights / weights.sum()
    return kernel


def _same_shape(image: NDArray[Any], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    if image.shape != truth.shape:
        raise ValueError(f"images of {image.shape} and {truth.shape} cannot be compared")
    return truth.astype(np.float64)


_KERNEL = _gaussian()
