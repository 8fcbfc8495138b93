from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from inspect_gan.evaluation.coverage import Coverage, defect_coverage
from inspect_gan.evaluation.curves import ScoreCurve


def coverage_at(samples: Iterable[tuple[np.ndarray, np.ndarray]], threshold: float) -> Coverage:
    return defect_coverage(samples, [threshold])[0]


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
    result = coverage_at([(scores, mask)], 1)
    np.testing.assert_allclose(result.values, [0.5, 0.2])
    assert result.median == pytest.approx(0.35)
    assert result.share_above_half == 0.5
    assert result.fpr == pytest.approx(3 / (120 - 13))
    assert result.threshold == 1
    np.testing.assert_array_equal(result.areas, [8, 5])
    np.testing.assert_array_equal(result.boxes, [[1, 1, 5, 5], [6, 7, 11, 8]])
    assert result.pixels == pytest.approx((5 / 8, 5 / 13, 10 / 21))


def test_two_passes_over_maps_that_are_not_kept() -> None:
    def samples() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(0)
        for _ in range(6):
            mask = np.zeros((60, 70), dtype=bool)
            mask[20:30, 10:40] = True
            yield (rng.normal(size=mask.shape) + 2 * mask).astype(np.float32), mask

    curve = ScoreCurve()
    for scores, mask in samples():
        curve.update(scores, mask)
    result = coverage_at(samples(), curve.threshold_at_fpr(0.05))
    assert 0.049 < result.fpr <= 0.05
    assert len(result.values) == 6
    # P(N(2, 1) > 1.645) = 0.639
    assert result.median == pytest.approx(0.639, abs=0.03)
    assert result.share_above_half == 1


def test_images_without_defects_count_for_the_false_alarms_only() -> None:
    clean = (np.array([[0.0, 2.0], [0.0, 0.0]]), np.zeros((2, 2), dtype=bool))
    found = (np.full((2, 2), 2.0), np.ones((2, 2), dtype=bool))
    result = coverage_at([clean, found], 1)
    np.testing.assert_array_equal(result.values, [1])
    assert result.fpr == 0.25
    only_clean = coverage_at([clean], 1)
    assert only_clean.values.shape == (0,)
    assert np.isnan(only_clean.median)
    assert np.isnan(only_clean.share_above_half)
    assert np.isnan(coverage_at([found], 1).fpr)
    assert np.isnan(coverage_at([], 1).median)


def test_map_and_mask_must_have_one_size() -> None:
    with pytest.raises(ValueError, match=r"map \(4, 4\) against mask \(4, 5\)"):
        defect_coverage([(np.zeros((4, 4)), np.zeros((4, 5), dtype=bool))], [1])


def test_several_thresholds_in_one_pass_and_missed_defects_by_size() -> None:
    mask = np.zeros((200, 300), dtype=bool)
    mask[0, :199] = mask[10:20, :20] = mask[40:60, :40] = mask[100:180, :40] = True  # 199, 200, 800, 3200 px
    scores = np.zeros(mask.shape, dtype=np.float32)
    scores[100:180, :40] = 3
    scores[40:60, :20] = 2
    scores[10, 0] = 1
    low, high = defect_coverage(iter([(scores, mask)]), [0.5, 2.5])
    assert [row["class"] for row in low.by_size()] == [
        "below 200 px",
        "200 to 799 px",
        "800 to 3199 px",
        "from 3200 px",
    ]
    assert [(row["defects"], row["missed"]) for row in low.by_size()] == [(1, 1), (1, 0), (1, 0), (1, 0)]
    assert [row["median"] for row in low.by_size()] == pytest.approx([0, 0.005, 0.5, 1])
    assert [row["missed"] for row in high.by_size()] == [1, 1, 1, 0]
    assert (low.missed, high.missed) == (1, 3)


def test_defects_remember_their_image() -> None:
    one, two = np.zeros((4, 9), dtype=bool), np.zeros((4, 9), dtype=bool)
    one[1, 1] = two[0, 3:5] = two[3, 8] = True
    result = coverage_at([(one * 1.0, one), (two * 1.0, two)], 0.5)
    np.testing.assert_array_equal(result.images, [0, 1, 1])
    np.testing.assert_array_equal(result.areas, [1, 2, 1])
