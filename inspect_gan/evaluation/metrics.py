"""Detection metrics. Label True is anomalous (the positive class), a higher score is more anomalous.

Every metric depends on the order of the scores alone, ties included: any strictly increasing map of the
scores leaves it unchanged. A metric that the data do not define, such as an AUROC without anomalous samples,
is NaN.
"""

from typing import NamedTuple

import numpy as np

from inspect_gan.evaluation import counts


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that an anomalous sample scores above a normal one (ties 1/2).

    labels: (n,) bool; scores: (n,). NaN when a class is missing. Raises ValueError for NaN scores.
    """
    return float(counts.auroc(*_counts_by_score(labels, scores)))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """sum_k (R_k - R_{k-1}) P_k over the distinct scores, descending; equal scores enter together.

    labels: (n,) bool; scores: (n,). NaN without anomalous samples. Raises ValueError for NaN scores.
    """
    return float(counts.average_precision(*_counts_by_score(labels, scores)))


def trapezoid_pr_area(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under straight lines between the (recall, precision) points, from (0, 1) on.

    Straight lines overrate a precision-recall curve; it is here for comparison with work that reports it. The
    headline figure is `average_precision`. NaN without anomalous samples; ValueError for NaN scores.
    """
    anomalous, normal = _counts_by_score(labels, scores)
    if not anomalous.sum():
        return float("nan")
    recall, precision = counts.recall_precision(anomalous, normal)
    return float(np.trapezoid(np.append(1.0, precision), np.append(0.0, recall)))


class PrecisionRecallF1(NamedTuple):
    """Of the anomalous class; NaN where the denominator is zero."""

    precision: float
    recall: float
    f1: float


def precision_recall_f1(labels: np.ndarray, predicted: np.ndarray) -> PrecisionRecallF1:
    """Precision, recall and their harmonic mean. labels, predicted: (n,) bool."""
    labels, predicted = _flat_pair(labels, predicted)
    return prf_of_counts(int((labels & predicted).sum()), int(predicted.sum()), int(labels.sum()))


def prf_of_counts(hits: int, flagged: int, anomalous: int) -> PrecisionRecallF1:
    """The same from counts: anomalous samples flagged, samples flagged, anomalous samples."""
    return PrecisionRecallF1(_ratio(hits, flagged), _ratio(hits, anomalous), _ratio(2 * hits, flagged + anomalous))


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
    return np.bincount(rank[labels], minlength=len(distinct)), np.bincount(rank[~labels], minlength=len(distinct))


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")
