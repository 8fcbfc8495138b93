"""Protocols of published work, under their names. All of them set a threshold with the test set itself, so they serve
comparisons with published figures and are never the headline."""

from typing import Any

import numpy as np

from inspect_gan.evaluation.curves import ScoreCurve
from inspect_gan.evaluation.metrics import above_percentile, precision_recall_f1, top_k, trapezoid_pr_area

PERCENTILES = (80, 85, 90, 95, 96, 97, 98, 99, *(round(99 + tenth / 10, 1) for tenth in range(1, 10)))


def published_protocols(
    labels: np.ndarray, scores: np.ndarray, patches: ScoreCurve, pixels: ScoreCurve
) -> dict[str, Any]:
    """Figures by protocol, of the patches' labels (n,) bool and scores (n,), and of the curves of both levels.

    thesis_percentile: flagged are the patches at or above a percentile of all test scores, and the area under straight
    lines between precision-recall points. contamination_top_k: as many patches as are anomalous, so that precision,
    recall and F1 are equal (Zenati et al. 2018, with the true contamination). oracle_f1: the best F1 of all thresholds.
    """
    anomalous = int(labels.sum())
    return {
        "thesis_percentile": {
            "level": "patch",
            "trapezoid_pr_area": trapezoid_pr_area(labels, scores),
            "percentiles": [
                {"percentile": q, **precision_recall_f1(labels, above_percentile(scores, q))._asdict()}
                for q in PERCENTILES
            ],
        },
        "contamination_top_k": {
            "level": "patch",
            "k": anomalous,
            **precision_recall_f1(labels, top_k(scores, anomalous))._asdict(),
        },
        "oracle_f1": {"patch": _oracle(patches), "pixel": _oracle(pixels)},
    }


def _oracle(curve: ScoreCurve) -> dict[str, float]:
    threshold, found = curve.oracle()
    return {"threshold": threshold, **found._asdict()}
