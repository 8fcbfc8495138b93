import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher, Window, iterate_patches, window_weights

WINDOWS: tuple[Window, ...] = ("uniform", "hann", "gaussian")


def stitch(grid: Grid, values: np.ndarray, window: Window = "uniform", batch: int = 1000) -> np.ndarray:
    stitcher = Stitcher(grid, window)
    for start in range(0, len(grid), batch):
        stitcher.add(start, values[start : start + batch])
    return stitcher.finalize()


def stitch_by_loops(grid: Grid, values: np.ndarray, window: Window) -> np.ndarray:
    """The definition, pixel weights accumulated beside the values."""
    line = window_weights(grid.size, window)
    weights = line[:, None] * line[None, :]
    total = np.zeros((grid.height, grid.width))
    weight = np.zeros_like(total)
    for value, (top, left, bottom, right) in zip(values, grid.boxes(), strict=True):
        total[top:bottom, left:right] += weights * value
        weight[top:bottom, left:right] += weights
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)


def test_closed_form_one_row() -> None:
    grid = Grid(3, 5, 3, 1)
    expected = np.tile([1, 1.5, 2, 2.5, 3], (3, 1))
    np.testing.assert_allclose(stitch(grid, np.array([1.0, 2.0, 3.0])), expected)


def test_closed_form_two_dimensions() -> None:
    expected = [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(stitch(Grid(3, 3, 2, 1), scores), expected)
    maps = np.broadcast_to(scores[:, None, None], (4, 2, 2))
    np.testing.assert_allclose(stitch(Grid(3, 3, 2, 1), maps), expected)


def coverage(grid: Grid) -> np.ndarray:
    """How many patches cover each pixel, (H, W), from what one patch alone contributes to the mean."""
    counts = np.zeros((grid.height, grid.width))
    for index, (top, left, bottom, right) in enumerate(grid.boxes()):
        alone = np.zeros(len(grid))
        alone[index] = 1
        inside = np.s_[top:bottom, left:right]
        share = stitch(grid, alone)
        assert share.sum() == pytest.approx(share[inside].sum())
        counts[inside] = 1 / share[inside]
    return counts


def test_counts_of_covering_patches() -> None:
    np.testing.assert_allclose(coverage(Grid(3, 5, 3, 1))[0], [1, 2, 3, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(coverage(Grid(3, 3, 2, 1)), [[1, 2, 1], [2, 4, 2], [1, 2, 1]], rtol=1e-6)


@pytest.mark.parametrize(("stride", "count"), [(16, 4), (8, 16), (1, 1024)])
def test_patches_over_a_pixel_of_the_interior(stride: int, count: int) -> None:
    grid = Grid(96, 96, 32, stride)
    one = np.zeros(len(grid))
    one[len(grid) // 2] = 1
    assert stitch(grid, one)[48, 48] == pytest.approx(1 / count)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("height", "width", "stride"), [(67, 101, 16), (67, 101, 7), (32, 32, 32), (32, 45, 5), (70, 64, 1)]
)
@pytest.mark.parametrize(("gain", "offset"), [(1, 0), (2, 0), (1, 1)])
def test_pixelwise_predictors_reproduce_the_image(
    window: Window, height: int, width: int, stride: int, gain: float, offset: float
) -> None:
    image = np.random.default_rng(0).random((height, width, 1), dtype=np.float32)
    grid = Grid(height, width, 32, stride)
    stitcher = Stitcher(grid, window)
    for start, patches in iterate_patches(image, grid, 50):
        stitcher.add(start, gain * patches[..., 0] + offset)
    result = stitcher.finalize()
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, gain * image[..., 0] + offset, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_half_precision_values_do_not_saturate_under_1024_overlaps(window: Window) -> None:
    image = np.random.default_rng(0).uniform(100, 200, (65, 66)).astype(np.float16)
    grid = Grid(65, 66, 32, 1)
    maps = np.lib.stride_tricks.sliding_window_view(image, (32, 32)).reshape(-1, 32, 32)
    np.testing.assert_allclose(stitch(grid, maps, window), image.astype(np.float32), rtol=1e-6)
    constant = np.full(len(grid), 777.0, dtype=np.float16)
    np.testing.assert_allclose(stitch(grid, constant, window), np.full((65, 66), 777.0), rtol=1e-6)


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 40])
def test_rows_are_taken_as_soon_as_no_missing_patch_reaches_them(batch: int, per_pixel: bool) -> None:
    grid = Grid(41, 30, 8, 3)
    values = np.random.default_rng(0).random((len(grid), 8, 8) if per_pixel else len(grid))
    stitcher = Stitcher(grid, "hann")
    bands, taken = [], 0
    for start in range(0, len(grid), batch):
        stitcher.add(start, values[start : start + batch])
        added = min(start + batch, len(grid))
        known = grid.height if added == len(grid) else list(grid.boxes())[added][0]
        assert stitcher.ready == known - taken
        bands.append(stitcher.take())
        taken += len(bands[-1])
    assert stitcher.take().shape == (0, grid.width)
    np.testing.assert_array_equal(np.concatenate(bands), stitch(grid, values, "hann"))


def test_patches_that_came_early_wait_for_those_before_them() -> None:
    grid = Grid(12, 4, 4, 4)
    stitcher = Stitcher(grid)
    stitcher.add(1, np.array([2.0, 3.0]))
    assert stitcher.ready == 0
    stitcher.add(0, np.ones(1))
    assert stitcher.ready == 12
    np.testing.assert_array_equal(stitcher.take()[::4, 0], [1, 2, 3])


@pytest.mark.parametrize("per_pixel", [False, True])
def test_memory_does_not_grow_with_the_height_of_a_map_that_is_taken_on_the_way(per_pixel: bool) -> None:
    width, peaks = 1000, []
    for height in (2_000, 8_000):
        grid = Grid(height, width, 50, 25)
        values = np.ones((len(grid.cols), 50, 50) if per_pixel else len(grid.cols))
        tracemalloc.start()
        stitcher = Stitcher(grid)
        for start in range(0, len(grid), len(grid.cols)):
            stitcher.add(start, values)
            stitcher.take()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peaks.append(peak)
    # Left is what each patch takes, less than 1 / 50 of a float32 map.
    assert peaks[1] - peaks[0] < 6_000 * width * 4 / 50


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(1, 9),
    extra=st.tuples(st.integers(0, 14), st.integers(0, 14)),
    window=st.sampled_from(WINDOWS),
    flush_edges=st.booleans(),
    per_pixel=st.booleans(),
    data=st.data(),
)
def test_equals_the_definition_however_the_adds_are_split_and_ordered(
    size: int,
    extra: tuple[int, int],
    window: Window,
    flush_edges: bool,
    per_pixel: bool,
    data: st.DataObject,
) -> None:
    stride = data.draw(st.integers(1, size))
    grid = Grid(size + extra[0], size + extra[1], size, stride, flush_edges)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = rng.normal(size=(len(grid), size, size) if per_pixel else len(grid)).astype(np.float32)
    cuts = data.draw(st.sets(st.integers(1, len(grid)), max_size=8))
    starts = [0, *sorted(cuts - {len(grid)})]
    runs = list(zip(starts, [*starts[1:], len(grid)], strict=True))
    stitcher = Stitcher(grid, window)
    for start, stop in data.draw(st.permutations(runs)):
        stitcher.add(start, values[start:stop])
    np.testing.assert_allclose(stitcher.finalize(), stitch_by_loops(grid, values, window), atol=1e-6)


def test_pixels_beyond_a_classic_grid_are_nan() -> None:
    result = stitch(Grid(10, 9, 4, 4, flush_edges=False), np.ones(4))
    expected = np.full((10, 9), np.nan)
    expected[:8, :8] = 1
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [1, 2, 5, 32])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_are_symmetric_positive_and_highest_in_the_middle(window: Window, size: int) -> None:
    weights = window_weights(size, window)
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-12)
    assert weights.min() >= 1e-3
    assert weights.max() == weights[size // 2] <= 1
    assert (np.diff(weights[: (size + 1) // 2]) >= 0).all()


def test_tapered_windows_trust_the_middle_of_a_patch() -> None:
    grid = Grid(4, 6, 4, 2)
    uniform, hann = (stitch(grid, np.array([0.0, 1.0]), window) for window in ("uniform", "hann"))
    np.testing.assert_allclose(uniform[0], [0, 0, 0.5, 0.5, 1, 1])
    assert hann[0, 2] < 0.5 < hann[0, 3]


def test_incomplete_repeated_and_misplaced_adds_are_refused() -> None:
    stitcher = Stitcher(Grid(8, 8, 4, 4))
    stitcher.add(0, np.ones(3))
    with pytest.raises(ValueError, match="1 of 4 positions are missing, first 3"):
        stitcher.finalize()
    with pytest.raises(ValueError, match="added before"):
        stitcher.add(2, np.ones(2))
    with pytest.raises(ValueError, match="not all in the grid"):
        stitcher.add(3, np.ones(2))
    with pytest.raises(ValueError, match=r"got \(1, 4, 3\)"):
        stitcher.add(3, np.ones((1, 4, 3)))
    with pytest.raises(ValueError, match=r"got \(1, 4\)"):
        stitcher.add(3, np.ones((1, 4)))
    stitcher.add(3, np.ones((1, 4, 4)))
    np.testing.assert_array_equal(stitcher.finalize(), np.ones((8, 8)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_do_not_become_a_map(bad: float) -> None:
    with pytest.raises(InspectGanError, match="NaN or infinite"):
        stitch(Grid(8, 8, 4, 4), np.array([0, bad, 0, 0]))


def test_unknown_window() -> None:
    with pytest.raises(ValueError, match="hanning"):
        Stitcher(Grid(8, 8, 4, 4), "hanning")  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
def test_iterate_patches_visits_the_grid_in_order(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (11, 14, channels), dtype=np.uint8)
    grid = Grid(11, 14, 4, 3)
    boxes = list(grid.boxes())
    position = 0
    for start, patches in iterate_patches(image, grid, 7):
        assert start == position
        assert patches.dtype == np.float32
        assert patches.flags.c_contiguous
        assert len(patches) == min(7, len(grid) - start)
        for patch in patches:
            top, left, bottom, right = boxes[position]
            np.testing.assert_array_equal(patch, image[top:bottom, left:right])
            position += 1
    assert position == len(grid)


def test_iterate_patches_refuses_another_image_size() -> None:
    with pytest.raises(ValueError, match="grid"):
        next(iterate_patches(np.zeros((8, 9, 1)), Grid(8, 8, 4, 4), 1))
