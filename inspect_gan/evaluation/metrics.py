"""Detection metrics. Label True is anomalous (the positive class), a higher score is more anomalous.

Every metric depends on the order of the scores alone, ties included: any strictly increasing map of the
scores leaves it unchanged. A metric that the data do not define, such as an AUROC without anomalous samples,
is NaN.
"""

from typing import NamedTuple

import numpy as np

MANTISSA_BITS = 12  # of the 23 of a float32 that PixelCurve keeps
_SHIFT = 23 - MANTISSA_BITS
_BINS = 1 << (32 - _SHIFT)
_SIGN = np.uint32(0x80000000)
_KEY_OF_INFINITY = 0xFF800000


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that an anomalous sample scores above a normal one (ties 1/2).

    labels: (n,) bool; scores: (n,). NaN when a class is missing. Raises ValueError for NaN scores.
    """
    return _auroc(*_counts_by_score(labels, scores))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """sum_k (R_k - R_{k-1}) P_k over the distinct scores, descending; equal scores enter together.

    labels: (n,) bool; scores: (n,). NaN without anomalous samples. Raises ValueError for NaN scores.
    """
    return _average_precision(*_counts_by_score(labels, scores))


def trapezoid_pr_area(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under straight lines between the (recall, precision) points, from (0, 1) on.

    Straight lines overrate a precision-recall curve; it is here for comparison with work that reports it. The
    headline figure is `average_precision`. NaN without anomalous samples; ValueError for NaN scores.
    """
    anomalous, normal = _counts_by_score(labels, scores)
    if not anomalous.sum():
        return float("nan")
    recall, precision = _recall_precision(anomalous, normal)
    return float(np.trapezoid(np.append(1.0, precision), np.append(0.0, recall)))


class PrecisionRecallF1(NamedTuple):
    """Of the anomalous class; NaN where the denominator is zero."""

    precision: float
    recall: float
    f1: float


def precision_recall_f1(labels: np.ndarray, predicted: np.ndarray) -> PrecisionRecallF1:
    """Precision, recall and their harmonic mean. labels, predicted: (n,) bool."""
    labels, predicted = _flat_pair(labels, predicted)
    hits, alarms, anomalous = (int((labels & predicted).sum()), int(predicted.sum()), int(labels.sum()))
    return PrecisionRecallF1(_ratio(hits, alarms), _ratio(hits, anomalous), _ratio(2 * hits, alarms + anomalous))


def above_percentile(scores: np.ndarray, q: float) -> np.ndarray:
    """(n,) bool: scores at or above their own q-th percentile (linear interpolation).

    This fixes the number of alarms from the test set itself, so it serves comparisons with published
    precision and recall, not inspection.
    """
    return scores >= np.percentile(scores, q)


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """(n,) bool: the k highest scores, of equal ones the earlier. For a known number of anomalous samples."""
    flagged = np.zeros(len(scores), dtype=bool)
    flagged[np.argsort(-scores, kind="stable")[:k]] = True
    return flagged


class PixelCurve:
    """ROC and precision-recall curves pooled over the pixels of any number of maps, in fixed memory (32 MiB).

    Pixels are counted in bins whose number is the leading bits of the float32 value in an order-preserving
    form: sign, exponent and 12 bits of the mantissa. Scores of any magnitude fit without choosing a range,
    and two scores share a bin only when they differ by less than a relative 2^-12 (denormals aside). Within a
    bin they count as ties, so the AUROC errs by at most half the share of (anomalous, normal) pairs that
    share a bin.
    """

    def __init__(self) -> None:
        self._anomalous = np.zeros(_BINS, dtype=np.int64)
        self._normal = np.zeros(_BINS, dtype=np.int64)

    def update(self, scores: np.ndarray, mask: np.ndarray) -> None:
        """Count the pixels of one image. scores: (H, W) float map; mask: (H, W) bool, True on defects.

        Raises ValueError when the shapes differ or a score is NaN.
        """
        if scores.shape != mask.shape:
            raise ValueError(f"map {scores.shape} against mask {mask.shape}")
        if np.isnan(scores).any():
            raise ValueError(f"{np.isnan(scores).sum()} scores are NaN")
        bins = _bin_numbers(scores)
        mask = mask.astype(bool)
        self._anomalous += np.bincount(bins[mask], minlength=_BINS)
        self._normal += np.bincount(bins[~mask], minlength=_BINS)

    def auroc(self) -> float:
        """As the function `auroc`; NaN when a class is missing."""
        return _auroc(self._anomalous, self._normal)

    def average_precision(self) -> float:
        """As the function `average_precision`; NaN without defect pixels."""
        return _average_precision(self._anomalous, self._normal)

    def threshold_at_fpr(self, fpr: float) -> float:
        """The lowest threshold t, a bin edge, such that at most a share `fpr` of normal pixels has score > t.

        The bound holds exactly for the counted pixels; t lies less than a relative 2^-12 above the exact
        quantile. -inf when every pixel may be flagged; NaN without normal pixels.
        """
        total = self._normal.sum()
        if not total:
            return float("nan")
        if fpr >= 1:
            return float("-inf")
        above = total - np.cumsum(self._normal)
        return _upper_edge(int(np.argmax(above <= fpr * total)))


def _flat_pair(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, values = np.asarray(labels), np.asarray(values)
    if labels.shape != values.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} against {values.shape}, both must be (n,)")
    return labels.astype(bool), values


def _counts_by_score(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of anomalous and of normal samples at each distinct score, ascending."""
    labels, scores = _flat_pair(labels, scores)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN")
    distinct, rank = np.unique(scores, return_inverse=True)
    count = len(distinct)
    return np.bincount(rank[labels], minlength=count), np.bincount(rank[~labels], minlength=count)


def _auroc(anomalous: np.ndarray, normal: np.ndarray) -> float:
    normal_below = np.cumsum(normal) - normal
    # Floats, for products of pixel counts exceed 64-bit integers.
    wins = np.dot(anomalous.astype(np.float64), normal_below + normal / 2)
    return _ratio(wins, float(anomalous.sum()) * float(normal.sum()))


def _average_precision(anomalous: np.ndarray, normal: np.ndarray) -> float:
    if not anomalous.sum():
        return float("nan")
    recall, precision = _recall_precision(anomalous, normal)
    return float(np.dot(np.diff(recall, prepend=0.0), precision))


def _recall_precision(anomalous: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision as the threshold falls past each score that occurs."""
    occurs = (anomalous + normal) > 0
    hits = np.cumsum(anomalous[occurs][::-1])
    alarms = hits + np.cumsum(normal[occurs][::-1])
    return hits / hits[-1], hits / alarms


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")


def _bin_numbers(scores: np.ndarray) -> np.ndarray:
    """Bins in ascending order of the scores; -0.0 falls in the bin of 0.0."""
    values = scores.astype(np.float32) + np.float32(0)
    bits = values.view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN) >> np.uint32(_SHIFT)


def _upper_edge(number: int) -> float:
    """The largest float32 of a bin."""
    key = min(((number + 1) << _SHIFT) - 1, _KEY_OF_INFINITY)
    bits = key ^ 0x80000000 if key & 0x80000000 else ~key & 0xFFFFFFFF
    return float(np.array(bits, dtype=np.uint32).view(np.float32))
