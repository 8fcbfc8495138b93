import math
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, regionprops

from inspect_gan.errors import InspectGanError
from inspect_gan.scoring.regions import Limits, Region, find_regions, mask_of, measure
from inspect_gan.scoring.verdict import Verdict

EVERYTHING = Limits(area=0, peak=1)
# few distinct values, so that pixels at the threshold, ties and touching corners are common
MAPS = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([-0.5, 0.0, 1.0, float(np.nextafter(np.float32(1), np.float32(2))), 1.5, 3.0]),
)


def zeros(height: int = 8, width: int = 10) -> np.ndarray:
    return np.zeros((height, width), dtype=np.float32)


def test_one_region_in_full():
    scores = zeros()
    scores[2:4, 3:7] = 1.5
    scores[3, 6] = 2.5
    scores[4, 3] = 1.25
    assert find_regions(scores, EVERYTHING, um_per_px=0.5) == (
        Region(
            label=1,
            verdict=Verdict.NG,
            box=(3, 2, 7, 5),
            centroid=((2 * (3 + 4 + 5 + 6) + 3) / 9, (4 * 2 + 4 * 3 + 4) / 9),
            area=9,
            area_um2=9 * 0.25,
            peak=2.5,
            peak_at=(6, 3),
            mean=(7 * 1.5 + 2.5 + 1.25) / 9,
        ),
    )


def test_diameter_is_that_of_a_circle_of_the_same_area():
    scores = zeros(120, 120)
    cv2.circle(scores, (60, 60), 40, 2.0, -1)
    (region,) = find_regions(scores, EVERYTHING, um_per_px=0.25)
    assert region.diameter == pytest.approx(80, rel=0.02)
    assert math.pi * region.diameter**2 / 4 == pytest.approx(region.area)
    assert region.diameter_um == pytest.approx(region.diameter / 4)
    (region,) = find_regions(scores, EVERYTHING)
    assert (region.area_um2, region.diameter_um) == (None, None)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_regions_do_not_depend_on_how_many_pixels_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    scores = np.random.default_rng(0).integers(0, 5, (20, 30)).astype(np.float32) / 2  # ties in and between blocks
    wanted = find_regions(scores, EVERYTHING)
    monkeypatch.setattr("inspect_gan.scoring.regions._BLOCK", block)
    assert find_regions(scores, EVERYTHING) == wanted


def test_a_map_that_is_above_all_over_takes_little_memory() -> None:
    scores = np.full((2000, 1000), 1.5, dtype=np.float32)
    tracemalloc.start()
    find_regions(scores, EVERYTHING)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 20 * scores.size


def test_diagonal_neighbours_are_one_region_and_a_gap_separates():
    scores = zeros()
    scores[1, 1] = scores[2, 2] = scores[3, 1] = 2
    assert measure(scores) == [(3, 2.0)]
    scores[3, 1], scores[4, 1] = 0, 2
    assert sorted(measure(scores)) == [(1, 2.0), (2, 2.0)]


def test_the_threshold_itself_is_not_above():
    scores = zeros()
    scores[1:5, 1:5] = 1.0
    assert measure(scores) == []
    assert find_regions(scores, EVERYTHING) == ()
    scores[2, 2] = np.nextafter(np.float32(1), np.float32(2))
    (region,) = find_regions(scores, EVERYTHING)
    assert (region.area, region.verdict) == (1, Verdict.NG)


@pytest.mark.parametrize(
    ("area", "peak", "verdict"),
    [
        (6, 1.5, None),
        (7, 1.5, Verdict.REVIEW),
        (6, float(np.nextafter(np.float32(1.5), np.float32(2))), Verdict.REVIEW),
        (7, float(np.nextafter(np.float32(1.5), np.float32(2))), Verdict.NG),
        (1, 50.0, Verdict.REVIEW),
        (10, 1.01, Verdict.REVIEW),
    ],
)
def test_verdict_at_the_limits(area, peak, verdict):
    scores = zeros()
    scores[3, :area] = 1.01
    scores[3, 0] = peak
    regions = find_regions(scores, Limits(area=6, peak=1.5))
    assert [region.verdict for region in regions] == ([] if verdict is None else [verdict])
    assert mask_of(scores, regions).sum() == (0 if verdict is None else area)


def test_material_that_gave_the_limits_is_good():
    scores = np.random.default_rng(0).normal(0.6, 0.3, (60, 60)).astype(np.float32)
    found = measure(scores)
    assert len(found) > 10
    limits = Limits(area=max(area for area, _ in found), peak=max(peak for _, peak in found))
    assert find_regions(scores, limits) == ()


def test_min_area_ignores_smaller_regions():
    scores = zeros()
    scores[1, 1:4] = 2
    scores[5, 1:3] = 9
    assert [region.area for region in find_regions(scores, Limits(0, 1, min_area=3))] == [3]
    assert sorted(measure(scores)) == [(2, 9.0), (3, 2.0)]


def test_worst_first():
    scores = zeros(12, 12)
    scores[0, 0:6] = 1.2  # large only
    scores[2, 0] = 8  # strong only
    scores[4, 0:6] = 2  # both
    scores[6, 0:6] = 3  # both, stronger
    scores[8, 0:7] = 2  # both, larger
    scores[10, 0:6] = 2  # like the one above it in the picture
    regions = find_regions(scores, Limits(area=3, peak=1.5))
    assert [region.box[1] for region in regions] == [6, 8, 4, 10, 2, 0]
    assert [region.verdict for region in regions] == [Verdict.NG] * 4 + [Verdict.REVIEW] * 2
    assert [region.label for region in regions] == [1, 2, 3, 4, 5, 6]


def test_mask_has_the_listed_regions_only():
    scores = zeros()
    scores[1:4, 1:4] = 2
    scores[6, 6] = 1.2
    regions = find_regions(scores, Limits(area=4, peak=1.5))
    expected = np.zeros((8, 10), dtype=bool)
    expected[1:4, 1:4] = True
    np.testing.assert_array_equal(mask_of(scores, regions), expected)
    assert mask_of(scores, ()).shape == (8, 10)
    assert not mask_of(scores, ()).any()


def test_regions_of_another_map_are_refused():
    scores = zeros()
    scores[1:4, 1:4] = 2
    regions = find_regions(scores, EVERYTHING)
    with pytest.raises(ValueError, match="another map"):
        mask_of(zeros(), regions)


@settings(deadline=None)
@given(MAPS)
def test_agrees_with_an_independent_labelling(scores):
    expected = {
        (
            p.bbox[1],
            p.bbox[0],
            p.bbox[3],
            p.bbox[2],
            p.area,
            p.intensity_max,
            p.intensity_mean,
            *p.centroid[::-1],
        )
        for p in regionprops(label(scores > 1, connectivity=2), intensity_image=scores)
    }
    regions = find_regions(scores, EVERYTHING)
    found = {(*r.box, r.area, r.peak, r.mean, *r.centroid) for r in regions}
    assert len(regions) == len(found) == len(expected)
    np.testing.assert_allclose(sorted(found), sorted(expected), rtol=1e-6)
    assert sorted(measure(scores)) == sorted((r.area, r.peak) for r in regions)
    for region in regions:
        highest = np.argwhere(mask_of(scores, [region]) & (scores == region.peak))
        assert region.peak_at == tuple(highest[0][::-1])  # argwhere follows the reading order


@settings(deadline=None)
@given(MAPS, st.integers(0, 6), st.sampled_from([1.0, 1.5, 2.0]), st.integers(1, 3))
def test_mask_regions_and_verdict_agree(scores, area, peak, min_area):
    regions = find_regions(scores, Limits(area, peak, min_area))
    mask = mask_of(scores, regions)
    assert mask.sum() == sum(region.area for region in regions)
    assert (scores[mask] > 1).all()
    union = np.zeros(scores.shape, dtype=bool)
    for region in regions:
        own = mask_of(scores, [region])
        assert (own.sum(), scores[own].max()) == (region.area, region.peak)
        assert (region.area > area) + (region.peak > peak) == {Verdict.NG: 2, Verdict.REVIEW: 1}[region.verdict]
        assert not (own & union).any()
        union |= own
    np.testing.assert_array_equal(mask, union)


@settings(deadline=None)
@given(MAPS)
def test_float64_and_views_give_the_same_regions(scores):
    wide = np.zeros((scores.shape[0], 2 * scores.shape[1]), dtype=np.float64)
    wide[:, ::2] = scores
    assert find_regions(wide[:, ::2], EVERYTHING) == find_regions(scores, EVERYTHING)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_map_is_never_called_good(value):
    scores = zeros()
    scores[3, 3] = value
    for use in (measure, lambda broken: find_regions(broken, EVERYTHING)):
        with pytest.raises(InspectGanError, match="not finite"):
            use(scores)


def test_a_map_has_two_axes():
    with pytest.raises(ValueError, match=r"\(1, 8, 10\)"):
        measure(zeros()[None])


@pytest.mark.parametrize("values", [{"area": -1}, {"peak": 0.99}, {"min_area": 0}, {"area": np.nan}, {"peak": np.nan}])
def test_limits_out_of_range(values):
    (name,) = values
    with pytest.raises(InspectGanError, match=name):
        Limits(**{"area": 3, "peak": 1.2, **values})


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_a_scale_is_positive(scale):
    with pytest.raises(InspectGanError, match="micrometres"):
        find_regions(zeros(), EVERYTHING, um_per_px=scale)
