import numpy as np
import pytest

from inspect_gan.evaluation.curves import ScoreCurve
from inspect_gan.evaluation.published import published_protocols

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], dtype=bool)
SCORES = np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.8, 0.45, 0.6, 0.7, 0.9])


def test_protocols_of_a_worked_example() -> None:
    curve = ScoreCurve()
    curve.update(SCORES, LABELS)
    found = published_protocols(LABELS, SCORES, curve, curve)
    rows = {row["percentile"]: row for row in found["thesis_percentile"]["percentiles"]}
    assert list(rows) == [80, 85, 90, 95, 96, 97, 98, 99, 99.1, 99.2, 99.3, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9]
    assert (rows[80]["precision"], rows[80]["recall"], rows[80]["f1"]) == pytest.approx((0.5, 0.25, 1 / 3))
    assert (rows[90]["precision"], rows[90]["recall"], rows[90]["f1"]) == pytest.approx((1, 0.25, 0.4))
    assert found["thesis_percentile"]["trapezoid_pr_area"] == pytest.approx(0.766667, abs=1e-6)
    top = found["contamination_top_k"]
    assert (top["k"], top["precision"], top["recall"], top["f1"]) == (4, 0.75, 0.75, 0.75)
    # The best of all thresholds lies between 0.4 and 0.45: 4 of 5 flagged patches are anomalous.
    assert found["oracle_f1"]["patch"]["f1"] == pytest.approx(8 / 9)
    assert found["oracle_f1"]["patch"]["threshold"] == pytest.approx(0.4)
