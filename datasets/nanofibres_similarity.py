"""How alike two sets of microscope images look, without any model."""

from collections.abc import Sequence

import cv2
import numpy as np

SIGMA = 6.0  # px, Gaussian window of the local mean and the local standard deviation
BANDS = 18  # logarithmic bands of spatial frequency, 1/128 to 1/2 cycles per pixel
SHORTEST_SIDE = 256


def local_mean_std(image: np.ndarray, sigma: float = SIGMA) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of (H, W) in a Gaussian window, both (H, W) float32 in grey levels."""
    grey = image.astype(np.float32)
    mean = cv2.GaussianBlur(grey, (0, 0), sigma)
    return mean, np.sqrt(np.maximum(cv2.GaussianBlur(grey * grey, (0, 0), sigma) - mean * mean, 0))


def log_spectrum(image: np.ndarray) -> np.ndarray:
    """(18,) log10 of the mean power of (H, W) in rings of growing spatial frequency, Hann window.

    Raises ValueError when a side is below 256 px: the lowest rings would be empty.
    """
    if min(image.shape) < SHORTEST_SIDE:
        raise ValueError(f"sides of {SHORTEST_SIDE} px or more are needed, not {image.shape}")
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    power = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    ring = np.digitize(frequency, np.geomspace(1 / 128, 0.5, BANDS + 1)) - 1
    inside = (ring >= 0) & (ring < BANDS)
    total = np.bincount(ring[inside], power[inside], BANDS)
    return np.log10(total / np.bincount(ring[inside], minlength=BANDS) + 1e-12)


def similarity(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> dict[str, float]:
    """Distances between two sets of (H, W) images of one grey scale, sides of 256 px or more; 0 is alike.

    grey, local_mean, local_std: earth mover's distance between the distributions over all pixels, in grey
    levels; spectrum: mean absolute difference of the log10 power over 18 bands of spatial frequency;
    slope_a, slope_b: slopes of log10 power over log10 frequency of the sets' mean spectra.
    """
    described = [_describe(images) for images in (a, b)]
    distance = {key: float(np.abs(described[0][key] - described[1][key]).mean()) for key in described[0]}
    octaves = np.linspace(np.log10(1 / 128), np.log10(0.5), BANDS)
    for name, one in zip("ab", described, strict=True):
        distance[f"slope_{name}"] = float(np.polyfit(octaves, one["spectrum"], 1)[0])
    return distance


def _describe(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Quantile functions (the area between two is the distance) and the mean log spectrum of a set."""
    shares = (np.arange(1000) + 0.5) / 1000
    windows = [local_mean_std(image) for image in images]
    values = {
        "grey": [image.ravel() for image in images],
        "local_mean": [mean.ravel() for mean, _ in windows],
        "local_std": [std.ravel() for _, std in windows],
    }
    described = {key: np.quantile(np.concatenate(v).astype(np.float32), shares) for key, v in values.items()}
    return described | {"spectrum": np.mean([log_spectrum(image) for image in images], axis=0)}
