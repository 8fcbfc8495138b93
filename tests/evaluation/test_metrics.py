import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from inspect_gan.evaluation.metrics import (
    above_percentile,
    auroc,
    average_precision,
    precision_recall_f1,
    top_k,
    trapezoid_pr_area,
)

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], dtype=bool)
SCORES = np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.8, 0.45, 0.6, 0.7, 0.9])

two_classes = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def test_ranking_metrics_of_a_worked_example() -> None:
    assert auroc(LABELS, SCORES) == pytest.approx(0.875)
    assert average_precision(LABELS, SCORES) == pytest.approx(0.804167, abs=1e-6)
    assert trapezoid_pr_area(LABELS, SCORES) == pytest.approx(0.766667, abs=1e-6)


@pytest.mark.parametrize(
    ("q", "threshold", "expected"),
    [
        (50, 0.425, (0.8, 1, 0.888889)),
        (60, 0.51, (0.75, 0.75, 0.75)),
        (80, 0.72, (0.5, 0.25, 0.333333)),
        (90, 0.81, (1, 0.25, 0.4)),
    ],
)
def test_percentile_thresholds_of_a_worked_example(q: float, threshold: float, expected: tuple[float, ...]) -> None:
    np.testing.assert_array_equal(above_percentile(SCORES, q), threshold <= SCORES)
    result = precision_recall_f1(LABELS, above_percentile(SCORES, q))
    assert result == pytest.approx(expected, abs=1e-6)


def test_top_k_of_a_worked_example() -> None:
    assert precision_recall_f1(LABELS, top_k(SCORES, 4)) == pytest.approx((0.75, 0.75, 0.75))


def test_top_k_takes_the_earlier_of_equal_scores() -> None:
    np.testing.assert_array_equal(top_k(np.array([1.0, 2.0, 1.0, 1.0]), 2), [True, True, False, False])


@settings(deadline=None)
@given(two_classes)
def test_agrees_with_scikit_learn_under_ties(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    assert auroc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))
    assert average_precision(labels, scores) == pytest.approx(sklearn_metrics.average_precision_score(labels, scores))
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    assert trapezoid_pr_area(labels, scores) == pytest.approx(sklearn_metrics.auc(recall, precision))
    predicted = scores > 0
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, average="binary", zero_division=np.nan
    )[:3]
    assert precision_recall_f1(labels, predicted) == pytest.approx(expected, nan_ok=True)


@settings(deadline=None)
@given(two_classes)
def test_strictly_increasing_maps_change_nothing(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    for other in (scores / 8 + 0.5, np.exp(scores), scores.astype(float) ** 3):
        for metric in (auroc, average_precision, trapezoid_pr_area):
            assert metric(labels, other) == metric(labels, scores)
        np.testing.assert_array_equal(top_k(other, 3), top_k(scores, 3))


def test_constant_scores_are_worth_nothing() -> None:
    assert auroc(LABELS, np.ones(10)) == 0.5
    assert average_precision(LABELS, np.ones(10)) == pytest.approx(0.4)


@pytest.mark.parametrize("label", [True, False])
def test_undefined_metrics_are_nan(label: bool) -> None:
    labels = np.full(10, label)
    assert np.isnan(auroc(labels, SCORES))
    assert average_precision(labels, SCORES) == pytest.approx(1 if label else np.nan, nan_ok=True)
    assert trapezoid_pr_area(labels, SCORES) == pytest.approx(1 if label else np.nan, nan_ok=True)
    assert np.isnan(auroc(np.empty(0), np.empty(0)))
    nothing = np.zeros(10, dtype=bool)
    assert precision_recall_f1(nothing, nothing) == pytest.approx((np.nan,) * 3, nan_ok=True)
    assert precision_recall_f1(LABELS, nothing) == pytest.approx((np.nan, 0, 0), nan_ok=True)


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of 10 scores are NaN"):
        auroc(LABELS, np.array([np.nan, np.nan, *SCORES[2:]]))
    with pytest.raises(ValueError, match=r"\(10,\) against \(9,\)"):
        average_precision(LABELS, SCORES[1:])
    with pytest.raises(ValueError, match=r"\(10,\) against \(10, 1\)"):
        precision_recall_f1(LABELS, SCORES[:, None] > 0)
