"""Areas under curves from counts per score, the one place of their formulas.

Counts are (..., K) arrays: how many anomalous and how many normal samples have each of K ascending scores, or lie in
each of K ascending bins, where they are ties. Leading axes hold independent cases. NaN where a class is missing.
"""

import numpy as np


def auroc(anomalous: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(...,) chance that an anomalous sample scores above a normal one, ties 1/2."""
    normal_below = np.cumsum(normal, axis=-1) - normal
    # Floats, for products of pixel counts exceed 64-bit integers.
    wins = (anomalous.astype(np.float64) * (normal_below + normal / 2)).sum(axis=-1)
    return _over(wins, anomalous.sum(axis=-1).astype(np.float64) * normal.sum(axis=-1))


def average_precision(anomalous: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(...,) sum of precision times gain in recall, as the threshold falls."""
    hits, alarms = _above(anomalous), _above(normal)
    precision = hits / np.maximum(hits + alarms, 1)
    return _over((precision * anomalous).sum(axis=-1), anomalous.sum(axis=-1))


def aupro(overlap: np.ndarray, normal: np.ndarray, limit: float = 0.3) -> np.ndarray:
    """(...,) area under the per-region overlap up to a false-positive rate of `limit`, divided by `limit`.

    overlap: every defect adds its pixels' counts divided by its area, so that all defects weigh the same; the curve
    is the mean share of a defect's pixels above the threshold (Bergmann et al. 2021).
    """
    rise = _over(overlap, overlap.sum(axis=-1, keepdims=True))
    run = _over(normal, normal.sum(axis=-1, keepdims=True))
    low, left = _above(rise) - rise, _above(run) - run
    # Each score is a straight piece of the curve; of the piece that crosses the limit only the first part counts.
    part = np.clip(np.divide(limit - left, run, out=np.zeros_like(run), where=run > 0), 0, 1)
    return (part * run * (low + part * rise / 2)).sum(axis=-1) / limit


def recall_precision(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision as the threshold falls past each score that occurs, of one case with anomalous samples."""
    occurs = (anomalous + normal) > 0
    hits = np.cumsum(anomalous[occurs][::-1])
    flagged = hits + np.cumsum(normal[occurs][::-1])
    return hits / hits[-1], hits / flagged


def auroc_error(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """How far ranking within the bins can move `auroc`: half the share of (anomalous, normal) pairs in one bin."""
    return float(_over((anomalous * normal).sum() / 2, anomalous.sum() * normal.sum()))


def average_precision_error(anomalous: np.ndarray, normal: np.ndarray) -> float:
    """How far ranking within the bins can move `average_precision`.

    The extremes are bins whose anomalous samples all come first, or all last; precision is monotone within either.
    """
    hits, flagged = _above(anomalous), _above(anomalous) + _above(normal)
    best = hits / np.maximum(flagged - normal, 1)
    worst = (hits - anomalous + 1) / np.maximum(flagged - anomalous + 1, 1)
    value = hits / np.maximum(flagged, 1)
    total = anomalous.sum()
    above, below = ((best - value) * anomalous).sum(), ((value - np.minimum(worst, value)) * anomalous).sum()
    return float(_over(max(above, below), total))


def aupro_error(overlap: np.ndarray, normal: np.ndarray, limit: float = 0.3) -> float:
    """How far ranking within the bins can move `aupro`: half the area of the rectangles the curve crosses."""
    counted = _above(normal) - normal < limit * normal.sum()
    return float(_over((overlap * normal)[counted].sum() / 2, overlap.sum() * normal.sum() * limit))


def _above(counts: np.ndarray) -> np.ndarray:
    """How many have each score or a higher one."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1]


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, np.float64), denominator)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)
