import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from inspect_gan.evaluation import defects
from inspect_gan.evaluation.defects import Defects


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 10**6))
def test_equal_the_components_of_scikit_image(height: int, width: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < density
    found, regions = Defects(mask), regionprops(label(mask, connectivity=2))
    # scikit-image numbers components by their first pixel in reading order, too.
    np.testing.assert_array_equal(found.areas, [region.num_pixels for region in regions])
    boxes = [(x0, y0, x1, y1) for y0, x0, y1, x1 in (region.bbox for region in regions)]
    np.testing.assert_array_equal(found.boxes, np.reshape(boxes, (-1, 4)))
    detected = rng.random(mask.shape) < 0.5
    expected = [detected[tuple(region.coords.T)].mean() for region in regions]
    np.testing.assert_allclose(found.coverage(detected[mask]), expected)
    assert found.shares_of_pixels().sum() == pytest.approx(len(regions))


def test_components_across_the_blocks_the_mask_is_read_in(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((9, 7), dtype=bool)
    mask[:, 2] = mask[4, :] = mask[8, 6] = True
    whole = Defects(mask)
    monkeypatch.setattr(defects, "_BLOCK", 14)
    parts = Defects(mask)
    np.testing.assert_array_equal(parts.areas, whole.areas)
    np.testing.assert_array_equal(parts.areas, [15, 1])


def test_opposite_ends_of_neighbouring_rows_do_not_touch() -> None:
    mask = np.zeros((2, 5), dtype=bool)
    mask[0, 4] = mask[1, 0] = True
    assert len(Defects(mask)) == 2
    assert len(Defects(np.zeros((3, 3), dtype=bool))) == 0
