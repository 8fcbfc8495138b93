"""Means, intervals, paired tests: against hand-worked numbers and SciPy's own tests."""

import numpy as np
import pytest
from scipy import stats

from inspect_gan.ablation.statistics import Measurement, Summary, best, differences, holm

AXES = {"detector": ("a", "b"), "noise": ("off", "on"), "soft": ("off", "on")}


def measurement(seed: int, value: float, score: str = "s", **labels: str) -> Measurement:
    full = {"detector": "a", "noise": "off", "soft": "off"} | labels
    return Measurement("cloth", full, score, seed, {"pixel_ap": value})


def test_summary_by_hand() -> None:
    found = Summary.of([0.5, 0.6, 0.7])
    assert (found.n, found.mean, found.std) == (3, pytest.approx(0.6), pytest.approx(0.1))
    # t(0.975, 2 degrees of freedom) = 4.3027
    assert found.high == pytest.approx(0.6 + 4.3027 * 0.1 / 3**0.5, abs=1e-5)
    assert found.low == pytest.approx(0.6 - 4.3027 * 0.1 / 3**0.5, abs=1e-5)
    alone = Summary.of([0.5])
    assert (alone.n, alone.mean, alone.std, alone.low, alone.high) == (1, 0.5, None, None, None)


def summary(mean: float, half: float | None) -> Summary:
    return Summary(5, mean, 0.1, None if half is None else mean - half, None if half is None else mean + half)


@pytest.mark.parametrize(
    ("summaries", "winner"),
    [
        ([summary(0.5, 0.04), summary(0.6, 0.04)], 1),
        ([summary(0.6, 0.06), summary(0.5, 0.06)], None),  # overlap
        ([summary(0.5, 0.01), summary(0.7, 0.04), summary(0.6, 0.09)], None),  # the second overlaps, not the third
        ([summary(0.9, None), summary(0.5, 0.01)], None),  # one seed
        ([summary(0.9, 0.01), summary(0.5, None)], None),
        ([summary(0.5, 0.01)], None),
        ([], None),
    ],
)
def test_only_a_best_whose_interval_parts_is_bold(summaries: list[Summary], winner: int | None) -> None:
    assert best(summaries) == winner


def test_paired_test_is_scipys() -> None:
    rng = np.random.default_rng(0)
    off, on = rng.normal(0.6, 0.1, 5), rng.normal(0.65, 0.1, 5)
    measured = [measurement(seed, value) for seed, value in enumerate(off)]
    measured += [measurement(seed, value, noise="on") for seed, value in reversed(list(enumerate(on)))]
    (found,) = [one for one in differences(measured, AXES) if one.axis == "noise"]
    reference = stats.ttest_rel(on, off)
    interval = reference.confidence_interval(0.95)
    assert found.p == pytest.approx(reference.pvalue)
    assert found.p_holm == pytest.approx(reference.pvalue)  # the only comparison of its family
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.mean == pytest.approx((on - off).mean())
    assert found.effect_size == pytest.approx((on - off).mean() / (on - off).std(ddof=1))
    assert (found.reference, found.value, found.n) == ("off", "on", 5)
    assert found.fixed == {"detector": "a", "soft": "off"}


def test_effects_average_the_other_axes_within_a_seed() -> None:
    measured = []
    for seed in (0, 1):
        for soft, gain in (("off", 0.1), ("on", 0.3 + seed / 10)):
            measured += [measurement(seed, 0.5, soft=soft), measurement(seed, 0.5 + gain, soft=soft, noise="on")]
    (found,) = [one for one in differences(measured, AXES, keep=["detector"]) if one.axis == "noise"]
    assert found.n == 2  # seeds, not cells
    assert found.mean == pytest.approx((0.2 + 0.25) / 2)
    assert found.fixed == {"detector": "a"}
    one_by_one = [one for one in differences(measured, AXES) if one.axis == "noise"]
    assert [one.mean for one in one_by_one] == [pytest.approx(0.1), pytest.approx(0.35)]


def test_pairs_with_a_missing_half_are_left_out() -> None:
    measured = [measurement(seed, 0.5) for seed in (0, 1, 2)]
    measured += [measurement(seed, 0.6, noise="on") for seed in (1, 2, 3)]
    measured.append(measurement(0, 0.9, score="other", noise="on"))
    (found,) = [one for one in differences(measured, AXES) if one.axis == "noise"]
    assert found.n == 2
    # Equal differences have no spread to test against.
    assert (found.mean, found.p, found.p_holm, found.effect_size) == (pytest.approx(0.1), None, None, None)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.6]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_holm_counts_the_comparisons_of_a_family() -> None:
    rng = np.random.default_rng(2)
    measured = [
        measurement(seed, rng.uniform(), detector=detector, noise=noise)
        for seed in range(4)
        for detector in ("a", "b")
        for noise in ("off", "on")
    ]
    found = [one for one in differences(measured, AXES) if one.axis == "noise"]
    assert len(found) == 2
    assert [one.p_holm for one in found] == holm([one.p for one in found])
    assert min(one.p_holm or 0 for one in found) == pytest.approx(2 * min(one.p or 0 for one in found))
