import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.grid import Grid


@pytest.mark.parametrize("height", [700, 696])
def test_counts_of_the_sem_frame(height: int) -> None:
    classic = Grid(height, 1024, 32, 16, flush_edges=False)
    assert (len(classic.cols), len(classic.rows), len(classic)) == (63, 41, 2583)
    assert 40 * len(classic) == 103_320  # the test images
    assert classic.rows[-1] + 32 == 672
    flush = Grid(height, 1024, 32, 16)
    # One more whole stride fits below 672, then one row is shifted inward.
    assert flush.rows == (*classic.rows, 656, height - 32)
    assert flush.cols == classic.cols
    assert len(flush) == 2709


def test_without_flush_edges_no_position_is_shifted() -> None:
    assert Grid(70, 99, 32, 24, flush_edges=False).rows == (0, 24)
    assert Grid(70, 99, 32, 24, flush_edges=False).cols == (0, 24, 48)


def test_dense_count() -> None:
    grid = Grid(696, 1024, 32, 1)
    assert (len(grid.rows), len(grid.cols), len(grid)) == (665, 993, 660_345)


def test_boxes_are_row_major_and_inside() -> None:
    assert list(Grid(5, 6, 3, 2).boxes()) == [
        (0, 0, 3, 3),
        (0, 2, 3, 5),
        (0, 3, 3, 6),
        (2, 0, 5, 3),
        (2, 2, 5, 5),
        (2, 3, 5, 6),
    ]


@given(size=st.integers(1, 9), extra=st.integers(0, 30), data=st.data())
def test_flush_edges_cover_every_pixel_with_real_patches(size: int, extra: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, size))
    grid = Grid(size + extra, size, size, stride)
    covered = {top + offset for top in grid.rows for offset in range(size)}
    assert covered == set(range(grid.height))
    assert len(set(grid.rows)) == len(grid.rows)
    assert len(list(grid.boxes())) == len(grid)


def test_image_smaller_than_a_patch_names_both_sizes() -> None:
    with pytest.raises(InspectGanError, match=r"20 x 40 pixels .* 32 x 32"):
        Grid(20, 40, 32, 16)


@pytest.mark.parametrize("stride", [0, -4, 33])
def test_strides_that_leave_gaps_are_refused(stride: int) -> None:
    with pytest.raises(InspectGanError, match=f"stride {stride} .* from 1 to 32"):
        Grid(64, 64, 32, stride)


def test_patch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Grid(64, 64, 0, 1)
