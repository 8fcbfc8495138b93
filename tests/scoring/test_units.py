"""Maps in files, and from the units of one rate to those of another."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import read, write_tiff
from inspect_gan.scoring.calibration import Calibration, calibrate
from inspect_gan.scoring.maps import MapSettings
from inspect_gan.scoring.units import ROUNDING, Units, converted, read_map, write_map


def calibrated(seed: int, shift: float, *rates: float) -> tuple[np.ndarray, list[Calibration]]:
    """Raw scores and their calibrations, at rates of which the last one follows from others."""
    raw = (np.random.default_rng(seed).gamma(2, size=(160, 160)) + shift).astype(np.float32)
    return raw, [calibrate([raw], "s", MapSettings(8), rate, 16) for rate in rates]


def units_of(calibration: Calibration) -> Units:
    return Units(calibration.threshold, calibration.origin)


def test_a_map_comes_back_with_its_units(tmp_path: Path) -> None:
    raw, (calibration,) = calibrated(0, -3, 0.1)
    map = calibration.normalise(raw)
    write_map(tmp_path / "a.tiff", map, calibration)
    found, units = read_map(tmp_path / "a.tiff")
    np.testing.assert_array_equal(found, map)
    assert units == units_of(calibration) and units.origin != 0
    write_tiff(tmp_path / "b.tiff", map)
    with pytest.raises(InspectGanError, match=r"b\.tiff is no readable map"):
        read_map(tmp_path / "b.tiff")
    (tmp_path / "c.tiff").write_bytes((tmp_path / "a.tiff").read_bytes()[:500])
    with pytest.raises(InspectGanError, match=r"c\.tiff is no readable map"):
        read_map(tmp_path / "c.tiff")
    light = np.clip(map, 0, 1)
    write_map(tmp_path / "d.tiff", light, calibration)  # any program can still read it
    np.testing.assert_array_equal(read(tmp_path / "d.tiff").pixels[..., 0], light)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shift=st.sampled_from([0.0, -3.0, 1000.0]),
    rates=st.lists(st.sampled_from([0.011, 0.03, 0.1, 0.25, 0.5]), min_size=2, max_size=6),
)
def test_converted_maps_say_what_those_of_the_raw_scores_do(seed: int, shift: float, rates: list[float]) -> None:
    """The raw scores hold the thresholds and the highest normal value themselves, which are at them and not beyond."""
    raw, calibrations = calibrated(seed, shift, *rates)
    map = calibrations[0].normalise(raw)
    for before, after in pairwise(calibrations):
        map = converted(map, units_of(before), after)
    fresh, last = calibrations[-1].normalise(raw), calibrations[-1]
    np.testing.assert_allclose(map, fresh, rtol=2 * ROUNDING, atol=0)
    for limit in (1, last.peak_limit):
        beyond = fresh > np.float32(limit)
        assert not (map > np.float32(limit))[~beyond].any()
        assert (map > np.float32(limit))[fresh > limit * (1 + 2 * ROUNDING)].all()
    assert map.dtype == np.float32


def test_the_same_units_change_nothing() -> None:
    raw, (calibration,) = calibrated(1, 0, 0.1)
    map = calibration.normalise(raw)
    map[0, 0] = np.nextafter(np.float32(1), np.float32(2))
    assert converted(map.copy(), units_of(calibration), calibration).tobytes() == map.tobytes()


def test_maps_of_other_weights_are_refused() -> None:
    raw, (calibration,) = calibrated(1, 0, 0.1)
    other = replace(calibration, threshold=9.0, origin=0.5)
    with pytest.raises(InspectGanError, match="other weights"):
        converted(calibration.normalise(raw), units_of(calibration), other)
