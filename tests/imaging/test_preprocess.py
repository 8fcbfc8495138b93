"""Preprocessing is settled once, on the training images."""

from pathlib import Path

import numpy as np
import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import Image
from inspect_gan.imaging.preprocess import Preprocess


def grey(low: float, high: float, depth: int = 16, shape: tuple[int, int] = (50, 60)) -> Image:
    values = np.linspace(low, high, shape[0] * shape[1], dtype=np.float32)
    return Image(values.reshape(*shape, 1), depth, Path("x.tif"))


def test_full_range_for_images_that_fill_it() -> None:
    fitted = Preprocess.fit([grey(0.1, 0.9, 8)], size=32)
    assert (fitted.low, fitted.high, fitted.channels, fitted.bit_depth) == (0.0, 1.0, 1, 8)
    assert fitted.tensor(np.zeros((1, 32, 32, 1), np.float32)).unique().tolist() == [-1]
    assert fitted.tensor(np.ones((1, 32, 32, 1), np.float32)).unique().tolist() == [1]


def test_twelve_bit_data_in_sixteen_bit_files_are_stretched_without_clipping() -> None:
    fitted = Preprocess.fit([grey(0, 1 / 16)], size=32)
    assert fitted.high == pytest.approx(1 / 16, rel=0.01)
    pixels = fitted.image(grey(0, 1 / 8))
    assert pixels.max() == pytest.approx(2, rel=0.01)


def test_other_bit_depth_is_refused_where_the_range_came_from_the_data() -> None:
    fitted = Preprocess.fit([grey(0, 1 / 16)], size=32)
    with pytest.raises(InspectGanError, match=r"x\.tif has 8 bits, the training images had 16"):
        fitted.image(grey(0, 1, 8))
    with pytest.raises(InspectGanError, match="differ in bit depth"):
        Preprocess.fit([grey(0, 0.1), grey(0, 0.1, 8)], size=32)


def test_channels_follow_the_images_unless_set() -> None:
    colour = Image(np.random.default_rng(0).random((50, 60, 3), dtype=np.float32), 8)
    assert Preprocess.fit([grey(0, 1, 8), colour], size=32).channels == 3
    fitted = Preprocess.fit([grey(0, 1, 8), colour], size=32, channels=1)
    luma = colour.pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    np.testing.assert_allclose(fitted.image(colour)[..., 0], luma, atol=1e-6)
    assert Preprocess.fit([colour], size=32).image(grey(0, 1, 8)).shape == (50, 60, 3)


def test_per_patch_standardisation() -> None:
    fitted = Preprocess(size=32, channels=1, scaling="per_patch_std")
    patches = np.random.default_rng(0).random((4, 32, 32, 1), dtype=np.float32) * [
        [[[1]]],
        [[[2]]],
        [[[3]]],
        [[[4]]],
    ]
    x = fitted.tensor(patches.astype(np.float32))
    assert x.mean(dim=(2, 3)).abs().max() < 1e-5
    assert x.std(dim=(2, 3), correction=0).numpy() == pytest.approx(1, abs=1e-5)
    assert fitted.tensor(np.full((1, 32, 32, 1), 0.3, np.float32)).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.7])
def test_footprint_is_the_smallest_usable_image(scale: float) -> None:
    fitted = Preprocess(size=32, channels=1, scale=scale)
    side = fitted.footprint
    assert min(fitted.image(grey(0, 1, 8, (side, side))).shape[:2]) >= 32
    with pytest.raises(InspectGanError, match=r"x\.tif is \d+×\d+ px, smaller than the patch"):
        fitted.image(grey(0, 1, 8, (side - int(2 / scale), side + 50)))


def test_flat_and_missing_images_are_refused() -> None:
    with pytest.raises(InspectGanError, match=r"one grey value 0\.25"):
        Preprocess.fit([grey(0.25, 0.25)], size=32)
    with pytest.raises(InspectGanError, match="no training images"):
        Preprocess.fit([], size=32)
