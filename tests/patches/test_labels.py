import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_gan.patches.grid import Grid
from inspect_gan.patches.labels import defect_pixel_limit, patch_labels


@pytest.mark.parametrize(("size", "limit"), [(32, 20), (64, 80), (16, 5), (48, 45)])
def test_one_defect_pixel_above_the_limit_makes_a_patch_anomalous(size: int, limit: int) -> None:
    assert defect_pixel_limit(size) == limit
    grid = Grid(size, size, size, size)
    mask = np.zeros((size, size), dtype=bool)
    mask.flat[:limit] = True
    assert not patch_labels(mask, grid)[0]
    mask.flat[limit] = True
    assert patch_labels(mask, grid)[0]


@settings(deadline=None)
@given(
    height=st.integers(16, 50),
    width=st.integers(16, 50),
    stride=st.integers(1, 16),
    density=st.floats(0, 0.06),
    seed=st.integers(0, 99),
)
def test_equals_counting_patch_by_patch(height: int, width: int, stride: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    grid = Grid(height, width, 16, stride)
    expected = [mask[top:bottom, left:right].sum() > 5 for top, left, bottom, right in grid.boxes()]
    labels = patch_labels(mask, grid)
    assert labels.dtype == bool
    np.testing.assert_array_equal(labels, expected)


def test_mask_must_match_the_grid() -> None:
    with pytest.raises(ValueError, match="mask"):
        patch_labels(np.zeros((64, 63), dtype=bool), Grid(64, 64, 32, 32))
