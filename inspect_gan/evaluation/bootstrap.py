"""Confidence intervals of pooled metrics by resampling images, the units that were drawn independently."""

from collections.abc import Mapping, Sequence

import numpy as np

from inspect_gan.evaluation import counts
from inspect_gan.evaluation.curves import ScoreCurve, aligned

REPLICATES = 1000
SEED = 0
LEVEL = 0.95
IMAGE_BINS = 1 << 10  # about 28 KiB per image and curve
_TOGETHER = 50  # replicates in memory

METRICS = {
    "auroc": lambda table: counts.auroc(table[:, 0], table[:, 1]),
    "ap": lambda table: counts.average_precision(table[:, 0], table[:, 1]),
    "aupro": lambda table: counts.aupro(table[:, 2], table[:, 1]),
}


def bootstrap(
    curves: Sequence[ScoreCurve], values: Mapping[str, float], replicates: int = REPLICATES, seed: int = SEED
) -> Mapping[str, tuple[float, float]]:
    """95 % percentile intervals {metric: (low, high)} of metrics pooled over images (Efron 1979).

    curves: one per image, counted in at most `IMAGE_BINS` bins. values: {metric: of all images, in finer bins}, of
    "auroc", "ap", "aupro"; intervals are moved by as much as the coarse bins move the value. Every replicate draws as
    many images as there are, with replacement; one that lacks a class is left out. NaN for fewer than two images.
    """
    if len(curves) < 2:
        return dict.fromkeys(values, (float("nan"), float("nan")))
    table = aligned(curves, IMAGE_BINS)
    images, flat = len(curves), table.reshape(len(curves), -1)
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in values}
    for start in range(0, replicates, _TOGETHER):
        drawn = rng.multinomial(images, np.full(images, 1 / images), size=min(_TOGETHER, replicates - start))
        pooled = (drawn @ flat).reshape(len(drawn), *table.shape[1:])
        for name in values:
            found[name].append(METRICS[name](pooled))
    whole = table.sum(axis=0, keepdims=True)
    return {
        name: _interval(np.concatenate(found[name]) + (value - METRICS[name](whole)[0]))
        for name, value in values.items()
    }


def _interval(values: np.ndarray) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).clip(0, 1)
    return float(low), float(high)
