from collections.abc import Iterator

import numpy as np
import pytest

from inspect_gan.evaluation.coverage import defect_coverage
from inspect_gan.evaluation.metrics import PixelCurve


def test_share_of_each_defect_above_the_threshold() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[1:3, 1:3] = True  # 4 pixels and, touching at a corner, 4 more: one defect of 8
    mask[3:5, 3:5] = True
    mask[7, 6:11] = True  # 5 pixels
    scores = np.zeros((10, 12))
    scores[1:3, 1:3] = 2
    scores[7, 6] = 2
    scores[7, 7:] = 1  # at the threshold is not above it
    scores[9, :3] = 2  # false alarms
    result = defect_coverage([(scores, mask)], threshold=1)
    np.testing.assert_allclose(result.values, [0.5, 0.2])
    assert result.median == pytest.approx(0.35)
    assert result.share_above_half == 0.5
    assert result.fpr == pytest.approx(3 / (120 - 13))
    assert result.threshold == 1


def test_two_passes_over_maps_that_are_not_kept() -> None:
    def samples() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(0)
        for _ in range(6):
            mask = np.zeros((60, 70), dtype=bool)
            mask[20:30, 10:40] = True
            yield (rng.normal(size=mask.shape) + 2 * mask).astype(np.float32), mask

    curve = PixelCurve()
    for scores, mask in samples():
        curve.update(scores, mask)
    result = defect_coverage(samples(), curve.threshold_at_fpr(0.05))
    assert 0.049 < result.fpr <= 0.05
    assert len(result.values) == 6
    # P(N(2, 1) > 1.645) = 0.639
    assert result.median == pytest.approx(0.639, abs=0.03)
    assert result.share_above_half == 1


def test_images_without_defects_count_for_the_false_alarms_only() -> None:
    clean = (np.array([[0.0, 2.0], [0.0, 0.0]]), np.zeros((2, 2), dtype=bool))
    found = (np.full((2, 2), 2.0), np.ones((2, 2), dtype=bool))
    result = defect_coverage([clean, found], threshold=1)
    np.testing.assert_array_equal(result.values, [1])
    assert result.fpr == 0.25
    only_clean = defect_coverage([clean], threshold=1)
    assert only_clean.values.shape == (0,)
    assert np.isnan(only_clean.median)
    assert np.isnan(only_clean.share_above_half)
    assert np.isnan(defect_coverage([found], threshold=1).fpr)
    assert np.isnan(defect_coverage([], threshold=1).median)


def test_map_and_mask_must_have_one_size() -> None:
    with pytest.raises(ValueError, match=r"map \(4, 4\) against mask \(4, 5\)"):
        defect_coverage([(np.zeros((4, 4)), np.zeros((4, 5), dtype=bool))], 1)
