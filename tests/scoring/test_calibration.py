"""Thresholds from normal material."""

import dataclasses
import errno
import json
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inspect_gan.errors import InspectGanError
from inspect_gan.scoring.calibration import (
    MOVED,
    Calibration,
    CalibrationFile,
    calibrate,
    comfortable_samples,
    conformal_quantile,
    false_alarm_interval,
    needed_samples,
    smallest_rate,
)
from inspect_gan.scoring.maps import MapSettings
from inspect_gan.scoring.regions import measure

MAPS = MapSettings(stride=8)


@pytest.mark.parametrize(("n", "alpha", "k"), [(99, 0.05, 95), (1000, 0.01, 991)])
def test_order_statistic(n: int, alpha: float, k: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1, n + 1)).astype(float)
    assert conformal_quantile(values, alpha) == k


def test_too_few_samples_give_no_threshold() -> None:
    assert conformal_quantile(np.arange(18.0), 0.05) == np.inf
    assert conformal_quantile(np.arange(19.0), 0.05) == 18


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 200), st.floats(0.05, 0.5), st.integers(0, 10_000))
def test_coverage_holds_on_average(n: int, alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = [(rng.random(500) > conformal_quantile(rng.random(n), alpha)).mean() for _ in range(200)]
    # 200 repeats: the mean's standard error is below 0.005.
    assert np.mean(rates) <= alpha + 0.02


def test_pooled_values_use_the_independent_count() -> None:
    values = np.repeat(np.arange(1.0, 100.0), 10)
    assert conformal_quantile(values, 0.05, samples=99) == conformal_quantile(np.arange(1.0, 100.0), 0.05)
    assert conformal_quantile(values, 0.05, samples=10) == np.inf


def test_interval_contains_the_rate_and_narrows() -> None:
    wide, narrow = false_alarm_interval(100, 0.05), false_alarm_interval(10_000, 0.05)
    assert wide[0] < 0.05 < wide[1]
    assert wide[0] < narrow[0] < 0.05 < narrow[1] < wide[1]
    # One sample of one: the rate above the larger of nothing is uniform.
    assert false_alarm_interval(1, 0.5) == pytest.approx((0.025, 0.975))


def test_threshold_units_and_limits() -> None:
    rng = np.random.default_rng(1)
    raw = rng.random((128, 128)).astype(np.float32) * 0.5
    raw[10:14, 20:25] = 2.0
    found = calibrate([raw], "s", MAPS, 0.1, block=8)
    assert found.samples == 256
    units = found.normalise(raw)
    assert units.dtype == np.float32
    # k = ceil(257 · 0.9) = 232 of 256 samples.
    assert (units > 1).mean() == pytest.approx(1 - 232 / 256, abs=1e-4)
    assert found.peak_limit == pytest.approx(2.0 / found.threshold, rel=1e-6)
    assert found.area_limit >= 20
    assert found.normalise(np.array([found.threshold]))[0] == 1.0


@pytest.mark.parametrize("rate", [0.0, 1.0, 5.0, -0.1, math.nan])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    raw = np.random.default_rng(1).random((128, 128))
    with pytest.raises(InspectGanError, match=rf"rate of {rate:g} is not between 0 and 1: .*0\.01 for one percent"):
        calibrate([raw], "s", MAPS, rate, block=8)


def test_what_normal_material_shows_at_moved_thresholds() -> None:
    raw = np.random.default_rng(3).random((320, 320)).astype(np.float32)
    raw[:10, :10] = 3
    found = calibrate([raw, raw[:, ::-1]], "s", MAPS, 0.1, block=32)
    units = found.normalise(raw)
    shares, areas = zip(*found.moved, strict=True)
    assert MOVED[len(MOVED) // 2] == 1
    assert areas[len(MOVED) // 2] == found.area_limit
    for threshold, share, area in zip(MOVED, shares, areas, strict=True):
        assert share == pytest.approx((units > threshold).mean())
        assert area == max((area for area, _ in measure(units / threshold)), default=0)
    assert areas[-8] == 100  # 3 / 0.9 is the square alone
    assert Calibration.read(json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_flagged_share_of_normal_pixels_is_the_target() -> None:
    maps = [np.random.default_rng(seed).gamma(2, size=(320, 320)) for seed in range(5)]
    found = calibrate(maps[:4], "s", MAPS, 0.05, block=16)
    assert (found.normalise(maps[4]) > 1).mean() == pytest.approx(0.05, abs=0.005)


def test_scores_below_zero_keep_their_order_and_unit() -> None:
    raw = np.random.default_rng(0).normal(-3, 1, size=(320, 320))
    found = calibrate([raw], "critic", MAPS, 0.1, block=32)
    assert found.origin == pytest.approx(-3, abs=0.05)
    assert found.normalise(np.array([found.origin, found.threshold])) == pytest.approx([0, 1])


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.floats(2.0**-20, 1e6, width=32))
def test_rounding_takes_no_score_across_the_threshold(low: float, span: float) -> None:
    high = float(np.float32(low + span))
    assume(high > low)
    found = calibrate([np.tile(np.float32([low, low, low, high]), (8, 2))], "s", MAPS, 0.2, block=1)
    edge = np.float32(found.threshold)
    raw = np.array([np.nextafter(edge, np.float32(-np.inf)), edge, np.nextafter(edge, np.float32(np.inf))])
    kept = dataclasses.replace(found, **json.loads(json.dumps({"threshold": found.threshold, "origin": found.origin})))
    for calibration in (found, kept):
        units = calibration.normalise(raw)
        assert (units > 1).tolist() == [False, False, True]
        assert (np.diff(units) >= 0).all()


@pytest.mark.parametrize("sigma", [0, 2, 4])
def test_the_promise_holds_where_only_places_within_a_patch_are_alike(sigma: float) -> None:
    """Calibrate on one texture, count alarms on the next, 60 times."""
    block, alpha, rates, inside = 16, 0.05, [], 0
    for seed in range(60):
        held_out, fresh = texture(seed, 160, sigma), texture(1000 + seed, 320, sigma)
        found = calibrate([held_out], "s", MAPS, alpha, block)
        rates.append(float((found.normalise(fresh) > 1).mean()))
        inside += found.interval[0] <= rates[-1] <= found.interval[1]
    assert np.mean(rates) <= alpha + 3 * np.std(rates) / 60**0.5
    assert inside >= 51  # 95 % of 60 less three standard deviations


def texture(seed: int, side: int, sigma: float) -> np.ndarray:
    """Normal scores whose neighbourhoods of about sigma px are alike."""
    noise = np.random.default_rng(seed).standard_normal((side + 96, side + 96)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma) * 2 * sigma * np.pi**0.5 if sigma else noise
    return smooth[48:-48, 48:-48]


def test_constant_scores_are_refused() -> None:
    with pytest.raises(InspectGanError, match=r"'flat' is constant"):
        calibrate([np.full((320, 320), 0.3)], "flat", MAPS, 0.1, block=32)


def test_too_little_material_names_the_remedy() -> None:
    with pytest.raises(InspectGanError, match=r"needs at least 99 held-out normal patches, there are 4.*at least 0\.2"):
        calibrate([np.random.default_rng(0).random((64, 64))], "s", MAPS, 0.01, block=32)


def test_the_rate_that_is_proposed_is_supported_and_not_much_larger_than_the_smallest() -> None:
    for samples in range(1, 20_000, 7):
        rate = float(f"{smallest_rate(samples):g}")
        assert needed_samples(rate) <= samples
        assert 1 / (samples + 1) <= rate < 1.1 / (samples + 1)
    assert (smallest_rate(19), smallest_rate(4999), smallest_rate(5000)) == (0.05, 0.0002, 0.0002)


def made(rate: float = 0.1) -> Calibration:
    return calibrate([np.random.default_rng(0).random((320, 320))], "s", MAPS, rate, block=32)


def never() -> Calibration:
    raise AssertionError("it is stored already")


def test_file_keeps_one_entry_per_setting(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    first = CalibrationFile(path, "w").get("s", MAPS, 0.1, made)
    again = CalibrationFile(path, "w").get("s", MAPS, 0.1, never)
    other = CalibrationFile(path, "w").get("s", MAPS, 0.2, lambda: made(0.2))
    assert first == again
    assert other.threshold < first.threshold
    assert len(json.loads(path.read_text())["calibrations"]) == 2
    path.write_text("{")
    with pytest.raises(InspectGanError, match="damaged"):
        CalibrationFile(path, "w")


def test_calibrations_of_other_weights_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    CalibrationFile(path, "first").get("s", MAPS, 0.1, made)
    CalibrationFile(path, "longer").get("s", MAPS, 0.2, lambda: made(0.2))
    CalibrationFile(path, "longer").get("s", MAPS, 0.2, never)
    calls: list[int] = []
    CalibrationFile(path, "longer").get("s", MAPS, 0.1, lambda: calls.append(1) or made())  # type: ignore[func-returns-value]
    assert calls


def test_two_processes_keep_each_others_entries(tmp_path: Path) -> None:
    one, other = (CalibrationFile(tmp_path / "calibration.json", "w") for _ in range(2))
    one.get("s", MAPS, 0.1, made)
    other.get("s", MAPS, 0.2, lambda: made(0.2))
    third = CalibrationFile(tmp_path / "calibration.json", "w")
    assert third.get("s", MAPS, 0.1, never).target_fpr == 0.1
    assert third.get("s", MAPS, 0.2, never).target_fpr == 0.2


@pytest.mark.parametrize(("number", "kept_going"), [(errno.EROFS, True), (errno.EACCES, True), (errno.ENOSPC, False)])
def test_a_read_only_run_can_be_calibrated(
    number: int, kept_going: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    file = CalibrationFile(tmp_path / "calibration.json", "w")
    if kept_going:
        assert file.get("s", MAPS, 0.1, made) == made()
        assert "read-only" in caplog.text
    else:
        with pytest.raises(InspectGanError, match="No space left"):
            file.get("s", MAPS, 0.1, made)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.01, 0.003])
def test_comfortable_samples_bear_one_outlier(alpha: float) -> None:
    n = comfortable_samples(alpha)
    values = np.arange(n, dtype=np.float32)
    assert conformal_quantile(values, alpha) == n - 2
    assert conformal_quantile(values[:-1], alpha) == n - 2  # one fewer, and the highest of them it is
