"""ROC, precision-recall and per-region-overlap curves of any number of scores, in bounded memory."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from inspect_gan.evaluation import counts
from inspect_gan.evaluation.metrics import PrecisionRecallF1, prf_of_counts

BINS = 1 << 18  # about 7 MiB per curve
BLOCK = 1 << 21  # scores counted at a time: what `update` needs beyond its arguments does not grow with them
_SIGN = np.uint32(0x80000000)
_KEY_OF_INFINITY = 0xFF800000
_DENSE = 8  # a span of keys this many times their number is still counted in an array over the span


class ScoreCurve:
    """How many anomalous and normal samples have each score, ready for every metric that depends on order alone.

    Scores are counted exactly, as float32, until more than `limit` different ones have occurred. Then neighbours
    are merged: bins are ranges of the leading bits of the float32 in an order-preserving form, as many bits as keep
    the number of occupied bins within the limit. No range has to be chosen, and scores of any magnitude fit. Within a
    bin samples count as ties; each metric has an `..._error`, the farthest that can have moved it (0 before any merge).

    limit: bins, None: never merge; memory then grows with the number of different scores.
    """

    def __init__(self, limit: int | None = BINS) -> None:
        self.limit = limit
        self._shift = 0  # trailing bits dropped from the float32 keys
        self._keys = np.empty(0, dtype=np.uint32)  # ascending
        self._counts = np.empty((3, 0))  # anomalous, normal, overlap; float64 counts exactly up to 2^53

    def update(self, scores: np.ndarray, labels: np.ndarray, shares: np.ndarray | None = None) -> None:
        """Count scores, a block at a time.

        scores: any shape, float. labels: of the same shape, bool, True = anomalous. shares: (number of anomalous
        samples,) each one's weight in the overlap, in the order of `scores[labels]`, see `Defects.shares_of_pixels`.
        Raises ValueError when the shapes differ or a score is NaN.
        """
        if scores.shape != labels.shape:
            raise ValueError(f"map {scores.shape} against mask {labels.shape}")
        flat, truth = scores.reshape(-1), labels.reshape(-1)
        used = 0
        for start in range(0, len(flat), BLOCK):
            part, anomalous = flat[start : start + BLOCK], truth[start : start + BLOCK].astype(bool, copy=False)
            if np.isnan(part).any():
                raise ValueError(f"{np.isnan(scores).sum()} scores are NaN")
            shift = self._shift
            keys = _keys_of(part) >> np.uint32(shift)
            positive = keys[anomalous]
            weights = np.zeros(len(positive)) if shares is None else shares[used : used + len(positive)]
            used += len(positive)
            self._add(shift, *_grouped(keys[~anomalous], [None], rows=(1,)))
            self._add(shift, *_grouped(positive, [None, weights], rows=(0, 2)))

    def merge(self, other: "ScoreCurve") -> None:
        """Add all that another curve has counted."""
        self._add(other._shift, other._keys, other._counts)

    def empty(self) -> Self:
        """A curve that has counted nothing, with the bins of this one: quick to count into and to merge."""
        curve = type(self)(self.limit)
        curve._shift = self._shift
        return curve

    def coarsened(self, limit: int) -> Self:
        """A copy with at most `limit` bins."""
        copy = type(self)(limit)
        copy._shift, copy._keys, copy._counts = self._shift, self._keys, self._counts
        copy._fit()
        return copy

    @property
    def anomalous(self) -> np.ndarray:
        """(K,) anomalous samples in each occupied bin, ascending scores."""
        return self._counts[0]

    @property
    def normal(self) -> np.ndarray:
        """(K,) normal samples."""
        return self._counts[1]

    @property
    def overlap(self) -> np.ndarray:
        """(K,) summed shares of the anomalous samples."""
        return self._counts[2]

    @property
    def upper(self) -> np.ndarray:
        """(K,) float32, the largest score that falls in each bin."""
        keys = ((self._keys.astype(np.int64) + 1) << self._shift) - 1
        return _scores_of(np.minimum(keys, _KEY_OF_INFINITY).astype(np.uint32))

    def auroc(self) -> float:
        """NaN when a class is missing."""
        return float(counts.auroc(self.anomalous, self.normal))

    def average_precision(self) -> float:
        """NaN without anomalous samples."""
        return float(counts.average_precision(self.anomalous, self.normal))

    def aupro(self, limit: float = 0.3) -> float:
        """Area under the per-region overlap up to a false-positive rate of `limit`; NaN without defects or normals."""
        return float(counts.aupro(self.overlap, self.normal, limit))

    def auroc_error(self) -> float:
        return counts.auroc_error(self.anomalous, self.normal) if self._shift else 0.0

    def average_precision_error(self) -> float:
        return counts.average_precision_error(self.anomalous, self.normal) if self._shift else 0.0

    def aupro_error(self, limit: float = 0.3) -> float:
        return counts.aupro_error(self.overlap, self.normal, limit) if self._shift else 0.0

    def threshold_at_fpr(self, fpr: float) -> float:
        """The lowest upper end t of a bin such that at most a share `fpr` of normal samples has score > t.

        The bound holds exactly for the counted samples. -inf when all may be flagged; NaN without normal samples.
        """
        total = self.normal.sum()
        if not total:
            return float("nan")
        if fpr >= 1:
            return float("-inf")
        above = total - np.cumsum(self.normal)
        return float(self.upper[np.argmax(above <= fpr * total)])

    def oracle(self) -> tuple[float, PrecisionRecallF1]:
        """The threshold (flagged means score > threshold) with the best F1, chosen with the labels, and its figures."""
        hits = self.anomalous.sum() - np.cumsum(self.anomalous)
        flagged = hits + self.normal.sum() - np.cumsum(self.normal)
        hits, flagged = np.append(self.anomalous.sum(), hits), np.append(self._counts[:2].sum(), flagged)
        edges = np.append(np.float32(-np.inf), self.upper)
        best = int(np.argmax(hits / np.maximum(flagged + self.anomalous.sum(), 1)))
        found = prf_of_counts(int(hits[best]), int(flagged[best]), int(self.anomalous.sum()))
        return float(edges[best]), found

    def _add(self, shift: int, keys: np.ndarray, columns: np.ndarray) -> None:
        """Add columns (3, n) of keys (n,) that have lost `shift` bits."""
        self._coarsen(shift)
        both = np.concatenate([self._keys, keys >> np.uint32(self._shift - shift)])
        self._keys, self._counts = _grouped(both, list(np.concatenate([self._counts, columns], axis=1)), rows=(0, 1, 2))
        self._fit()

    def _fit(self) -> None:
        while self.limit is not None and len(self._keys) > self.limit:
            self._coarsen(self._shift + 1)

    def _coarsen(self, shift: int) -> None:
        if shift > self._shift:
            keys = self._keys >> np.uint32(shift - self._shift)
            self._keys, self._counts = _grouped(keys, list(self._counts), rows=(0, 1, 2))
            self._shift = shift


def aligned(curves: Sequence[ScoreCurve], limit: int) -> np.ndarray:
    """(n, 3, K) counts (anomalous, normal, overlap) of the curves in at most `limit` bins common to all."""
    pooled = ScoreCurve(limit)
    for curve in curves:
        pooled.merge(curve)
    table = np.zeros((len(curves), 3, len(pooled._keys)))
    for row, curve in zip(table, curves, strict=True):
        bins = np.searchsorted(pooled._keys, curve._keys >> np.uint32(pooled._shift - curve._shift))
        for column, values in zip(row, curve._counts, strict=True):
            column += np.bincount(bins, weights=values, minlength=len(column))
    return table


def _grouped(
    keys: np.ndarray, weights: Sequence[np.ndarray | None], rows: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The different keys, ascending, and (3, n) sums: of each of the weights (None: counts) in its row, 0 elsewhere."""
    low = keys.min(initial=np.uint32(0xFFFFFFFF))
    span = int(keys.max(initial=np.uint32(0))) - int(low) + 1
    if 0 < span <= _DENSE * len(keys):
        places = (keys - low).astype(np.int64)
        occupied = np.flatnonzero(np.bincount(places, minlength=1))
        distinct = occupied.astype(np.uint32) + low
        sums = [np.bincount(places, weights=column, minlength=span)[occupied] for column in weights]
    else:
        distinct, places = np.unique(keys, return_inverse=True)
        sums = [np.bincount(places, weights=column, minlength=len(distinct)) for column in weights]
    table = np.zeros((3, len(distinct)))
    table[list(rows)] = sums
    return distinct, table


def _keys_of(scores: np.ndarray) -> np.ndarray:
    """uint32 in the order of the scores as float32; -0.0 has the key of 0.0."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _scores_of(keys: np.ndarray) -> np.ndarray:
    """float32 scores of their keys."""
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).astype(np.uint32).view(np.float32)
