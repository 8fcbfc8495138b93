import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label
from sklearn import metrics as sklearn_metrics

from inspect_gan.evaluation import curves
from inspect_gan.evaluation.curves import ScoreCurve, aligned
from inspect_gan.evaluation.defects import Defects

two_classes = st.lists(st.tuples(st.booleans(), st.floats(-8, 8, width=32)), min_size=2, max_size=80).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def random_maps(seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Maps of both signs and many magnitudes, defects somewhat higher: (5, 40, 50) scores and masks."""
    rng = np.random.default_rng(seed)
    masks = rng.random((5, 40, 50)) < 0.1
    return (scale * (rng.normal(size=masks.shape) ** 3 + masks)).astype(np.float32), masks


def curve_of(maps: np.ndarray, masks: np.ndarray, limit: int | None = curves.BINS) -> ScoreCurve:
    curve = ScoreCurve(limit)
    for scores, mask in zip(maps, masks, strict=True):
        curve.update(scores, mask, Defects(mask).shares_of_pixels())
    return curve


def exact_aupro(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """By its definition: the mean share of the defects above every threshold, against the false-positive rate."""
    defects = []
    for scores, mask in zip(maps, masks, strict=True):
        components, count = label(mask, connectivity=2, return_num=True)
        defects += [scores[components == number] for number in range(1, count + 1)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        points.append(((normal >= threshold).mean(), np.mean([(d >= threshold).mean() for d in defects])))
    fpr, pro = np.array(points).T
    inside = fpr <= limit
    pro_at_limit = np.interp(limit, fpr, pro)
    return float(np.trapezoid(np.append(pro[inside], pro_at_limit), np.append(fpr[inside], limit)) / limit)


@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
def test_equals_scikit_learn_at_any_scale(scale: float) -> None:
    maps, masks = random_maps(0, scale)
    curve = curve_of(maps, masks)
    labels, scores = masks.ravel(), maps.ravel().astype(np.float64)
    assert curve.auroc() == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert curve.average_precision() == pytest.approx(sklearn_metrics.average_precision_score(labels, scores))
    assert curve.auroc_error() == curve.average_precision_error() == curve.aupro_error() == 0


@settings(deadline=None)
@given(two_classes, st.sampled_from([2, 5, 16]))
def test_binned_metrics_err_by_no_more_than_they_say(pairs: list[tuple[bool, float]], limit: int) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    exact, binned = ScoreCurve(None), ScoreCurve(limit)
    shares = np.random.default_rng(len(pairs)).uniform(0.1, 1, int(labels.sum()))
    for curve in (exact, binned):
        curve.update(scores, labels, shares)
    assert exact.auroc() == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))
    assert exact.average_precision() == pytest.approx(sklearn_metrics.average_precision_score(labels, scores))
    assert len(binned.normal) <= limit
    assert abs(binned.auroc() - exact.auroc()) <= binned.auroc_error() + 1e-9
    assert abs(binned.average_precision() - exact.average_precision()) <= binned.average_precision_error() + 1e-9
    assert abs(binned.aupro() - exact.aupro()) <= binned.aupro_error() + 1e-9


def test_a_few_thousand_bins_are_enough_for_two_digits() -> None:
    maps, masks = random_maps(2)
    exact, binned = curve_of(maps, masks, None), curve_of(maps, masks, 1 << 11)
    assert len(exact.normal) > 9000
    assert len(binned.normal) <= 1 << 11
    for name in ("auroc", "average_precision", "aupro"):
        assert 0 < getattr(binned, f"{name}_error")() < 0.02
        assert getattr(binned, name)() == pytest.approx(getattr(exact, name)(), abs=0.01)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.2, 0.5]), st.booleans())
def test_aupro_equals_its_definition(seed: int, density: float, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((2, 12, 9)) < density
    masks[0, 3:5, 3:5] = True
    maps = (rng.integers(0, 5, masks.shape) if ties else rng.normal(size=masks.shape)).astype(np.float32)
    assert curve_of(maps, masks).aupro() == pytest.approx(exact_aupro(maps, masks))


def test_aupro_of_a_worked_example() -> None:
    # Two defects of 4 and 1 pixels among 5 normal ones; the small one is found after two false alarms.
    scores = np.array([[9, 9, 9, 9, 8, 7, 6, 0, 0, 0]], dtype=np.float32)
    mask = np.array([[1, 1, 1, 1, 0, 0, 1, 0, 0, 0]], dtype=bool)
    curve = curve_of(scores[None], mask[None])
    # 1/2 of the mean overlap from the start, the other half at a false-positive rate of 0.4 and above.
    assert curve.aupro(0.3) == pytest.approx(0.5)
    assert curve.aupro(0.4) == pytest.approx(0.5)
    assert curve.aupro(1.0) == pytest.approx(0.4 * 0.5 + 0.6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_increasing_maps_change_nothing_and_metrics_stay_in_range(seed: int) -> None:
    maps, masks = random_maps(seed)
    curve = curve_of(maps, masks)
    ranks = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    for other in (maps * 4, ranks - 1000):
        moved = curve_of(other, masks)
        assert moved.auroc() == pytest.approx(curve.auroc())
        assert moved.average_precision() == pytest.approx(curve.average_precision())
        assert moved.aupro() == pytest.approx(curve.aupro())
    for value in (curve.auroc(), curve.average_precision(), curve.aupro()):
        assert 0 <= value <= 1


def test_perfect_random_and_constant_scores() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 100, 100), dtype=bool)
    masks[:, 10:40, 20:60] = masks[:, 70:75, 80:90] = True
    perfect = curve_of(masks + rng.random(masks.shape, dtype=np.float32) / 2, masks)
    assert (perfect.auroc(), perfect.average_precision(), perfect.aupro()) == pytest.approx((1, 1, 1))
    blind = curve_of(rng.random(masks.shape, dtype=np.float32), masks)
    assert blind.auroc() == pytest.approx(0.5, abs=0.02)
    assert blind.average_precision() == pytest.approx(masks.mean(), abs=0.02)
    assert blind.aupro() == pytest.approx(0.15, abs=0.03)  # the diagonal, whose mean up to 0.3 is 0.15
    constant = curve_of(np.ones(masks.shape), masks)
    assert (constant.auroc(), constant.average_precision(), constant.aupro()) == pytest.approx(
        (0.5, masks.mean(), 0.15)
    )


def test_blocks_and_merged_parts_count_like_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = random_maps(3)
    whole = curve_of(maps, masks, 500)
    monkeypatch.setattr(curves, "BLOCK", 17)
    in_blocks = curve_of(maps, masks, 500)
    merged = ScoreCurve(500)
    for scores, mask in zip(maps, masks, strict=True):
        part = merged.empty()
        part.update(scores, mask, Defects(mask).shares_of_pixels())
        merged.merge(part)
    for other in (in_blocks, merged):
        np.testing.assert_array_equal(other.upper, whole.upper)
        np.testing.assert_array_equal(other.normal, whole.normal)
        np.testing.assert_array_equal(other.anomalous, whole.anomalous)
        np.testing.assert_allclose(other.overlap, whole.overlap)


def test_memory_does_not_follow_the_number_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "BLOCK", 1 << 14)

    def peak(side: int) -> int:
        scores = np.random.default_rng(0).random((side, side), dtype=np.float32)
        mask = scores > 0.99
        tracemalloc.start()
        curve = ScoreCurve(1 << 10)
        curve.update(scores, mask)
        curve.auroc()
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(1200) < 1.2 * peak(300)


def test_curves_of_images_on_common_bins_sum_to_the_pooled_curve() -> None:
    maps, masks = random_maps(4)
    images = [curve_of(maps[i : i + 1], masks[i : i + 1], 64 << i) for i in range(len(maps))]
    pooled = ScoreCurve(32)
    for image in images:
        pooled.merge(image)
    table = aligned(images, 32)
    np.testing.assert_allclose(table.sum(axis=0), [pooled.anomalous, pooled.normal, pooled.overlap])
    np.testing.assert_array_equal(table[:, 1].sum(axis=1), (~masks).sum(axis=(1, 2)))


def test_coarsening_leaves_the_original_alone() -> None:
    curve = curve_of(*random_maps(5))
    before = curve.auroc()
    assert len(curve.coarsened(10).normal) <= 10
    assert curve.auroc() == before


def test_negative_zero_ties_with_zero() -> None:
    assert curve_of(np.array([[[-0.0, 0.0]]]), np.array([[[False, True]]])).auroc() == 0.5


@pytest.mark.parametrize("fpr", [0, 0.001, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("limit", [None, 1 << 11])
def test_threshold_keeps_the_false_positive_rate(fpr: float, sign: int, limit: int | None) -> None:
    maps, masks = random_maps(1, sign)
    threshold = curve_of(maps, masks, limit).threshold_at_fpr(fpr)
    normal = np.sort(maps[~masks])
    assert (normal > threshold).mean() <= fpr
    exact = normal[len(normal) - 1 - int(fpr * len(normal))]  # the lowest score that keeps the rate
    assert (normal > exact).mean() <= fpr
    assert 0 <= threshold - exact <= (abs(exact) * 0.02 if limit else 0)


def test_threshold_that_flags_everything() -> None:
    assert curve_of(*random_maps(1)).threshold_at_fpr(1) == -np.inf


def test_infinite_scores_are_above_and_below_all_others() -> None:
    curve = curve_of(np.array([[[-np.inf, 0, 1, np.inf]]]), np.array([[[False, False, False, True]]]))
    assert curve.auroc() == 1
    curve.update(np.full((1, 1), np.inf), np.zeros((1, 1), dtype=bool))
    assert curve.threshold_at_fpr(0) == np.inf
    assert curve.threshold_at_fpr(0.25) == 1
    assert curve.threshold_at_fpr(0.75) == -np.inf


@settings(deadline=None)
@given(two_classes)
def test_oracle_is_the_best_f1_of_all_thresholds(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    curve = ScoreCurve()
    curve.update(scores, labels)
    threshold, found = curve.oracle()
    assert found.f1 == pytest.approx(sklearn_metrics.f1_score(labels, scores.astype(np.float32) > threshold))
    others = [sklearn_metrics.f1_score(labels, scores > other) for other in [-np.inf, *scores]]
    assert found.f1 == pytest.approx(max(others))


def test_without_a_class_is_nan() -> None:
    normal = curve_of(np.zeros((1, 4, 4)), np.zeros((1, 4, 4), dtype=bool))
    assert np.isnan([normal.auroc(), normal.average_precision(), normal.aupro(), normal.oracle()[1].recall]).all()
    defect = curve_of(np.zeros((1, 4, 4)), np.ones((1, 4, 4), dtype=bool))
    assert np.isnan([defect.auroc(), defect.aupro(), defect.threshold_at_fpr(0.05)]).all()
    assert np.isnan(ScoreCurve().auroc())


def test_nan_and_other_shapes_are_refused() -> None:
    curve = ScoreCurve()
    with pytest.raises(ValueError, match="1 scores are NaN"):
        curve.update(np.array([[0, np.nan]]), np.zeros((1, 2), dtype=bool))
    with pytest.raises(ValueError, match=r"map \(4, 4\) against mask \(4, 5\)"):
        curve.update(np.zeros((4, 4)), np.zeros((4, 5), dtype=bool))
