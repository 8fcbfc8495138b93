"""Combining scores of different scale. Means and deviations come from held-out normal material, never from what is
being judged."""

from dataclasses import dataclass

import numpy as np

from inspect_gan.errors import InspectGanError


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a score on held-out normal material."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """values: the score of held-out normal patches, any shape. Raises InspectGanError when no two differ."""
        values = np.asarray(values, dtype=np.float64)
        deviation = float(values.std()) if values.size else 0.0
        # Values that are equal but for rounding would be blown up to noise.
        if not deviation > 1e-9 * float(np.abs(values).max(initial=0.0)):
            raise InspectGanError(
                "a score is constant on held-out normal material and cannot be scaled: the detector has collapsed or "
                "was not trained; train longer or leave the score out of the combination"
            )
        return cls(float(values.mean()), deviation)


def zscore(values: np.ndarray, spread: Spread) -> np.ndarray:
    """(values - mean) / deviation, float32, of the same shape."""
    return ((np.asarray(values, dtype=np.float64) - spread.mean) / spread.deviation).astype(np.float32)


def scale_matched_weight(a: np.ndarray, b: np.ndarray) -> float:
    """The weight w at which w · b varies as much as a, std(a) / std(b).

    a, b: (N,) two scores of the same held-out normal patches. For a combination a + w · b chosen without anomalies, as
    SEncEBGAN's `comb_img` = `img` + w1 · `noise`. Raises InspectGanError when a score is constant.
    """
    return Spread.of(a).deviation / Spread.of(b).deviation


def discrimination(logit: np.ndarray) -> np.ndarray:
    """softplus(-logit) = -log D(x): how far a discriminator is from calling a patch real. Same shape, float64, >= 0."""
    return np.logaddexp(0.0, -np.asarray(logit, dtype=np.float64))


def dire(rec_map: np.ndarray, logit: np.ndarray, stats: tuple[Spread, Spread], *, alpha: float = 0.5) -> np.ndarray:
    """Discriminant and reconstruction score (Lu et al., "MIM-GAN-based anomaly detection for multivariate time series
    data", eqs 16-21), per pixel of each patch.

    rec_map: (N, S, S) |x - x'|. logit: (N,) D(x) before its sigmoid. stats: spreads of rec_map and of
    `discrimination(logit)` on held-out normal material; the two parts differ in scale, so each is standardised first.
    Returns alpha · part of reconstruction + (1 - alpha) · part of discrimination, (N, S, S) float32; averaged over
    overlapping patches by the stitcher it is the paper's eq. 21. Raises ValueError when the batches differ.
    """
    if rec_map.ndim != 3 or logit.shape != rec_map.shape[:1]:
        raise ValueError(f"expected maps (N, S, S) and logits (N,), got {rec_map.shape} and {logit.shape}")
    rec, dis = stats
    return alpha * zscore(rec_map, rec) + (1 - alpha) * zscore(discrimination(logit), dis)[:, None, None]
