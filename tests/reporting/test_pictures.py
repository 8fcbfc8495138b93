import tracemalloc

import numpy as np
import pytest
from matplotlib import colormaps

from inspect_gan.imaging.image import Image
from inspect_gan.reporting.pictures import CONTOUR, colours, heatmap, overlay
from inspect_gan.scoring.regions import Limits, find_regions, mask_of
from inspect_gan.scoring.verdict import Verdict


def grey(value: float, shape: tuple[int, int] = (80, 100), bit_depth: int = 8) -> Image:
    return Image(np.full((*shape, 1), value, dtype=np.float32), bit_depth)


def has_colour(picture: np.ndarray) -> np.ndarray:
    return (picture != picture[..., :1]).any(axis=-1)


def test_heatmap_scale_is_fixed():
    scores = np.array([[-3, 0, 1, 2, 70]], dtype=np.float32)
    table = colours()
    np.testing.assert_array_equal(heatmap(scores)[0], table[[0, 0, 128, 255, 255]])
    for other in (0.0, 5.0):  # the same value beside others
        assert (heatmap(np.array([[1.3, other]]))[0, 0] == heatmap(np.array([[1.3, 1.3]]))[0, 0]).all()


def test_scale_is_viridis():
    np.testing.assert_array_equal(colours(), np.rint(colormaps["viridis"](np.arange(256))[:, :3] * 255))


def test_overlay_colours_depend_on_the_value_only():
    weak, strong = (np.full((80, 100), base, dtype=np.float32) for base in (0.0, 9.0))
    weak[10, 10] = strong[40, 60] = 1.4
    first, second = overlay(grey(0.3), weak, ()), overlay(grey(0.3), strong, ())
    assert has_colour(first)[10, 10]
    np.testing.assert_array_equal(first[10, 10], second[40, 60])


@pytest.mark.parametrize("block", [1, 250, 1 << 16])
def test_blending_some_rows_at_a_time_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pixels, scores = rng.random((80, 100, 1), dtype=np.float32), 2 * rng.random((80, 100), dtype=np.float32)
    whole = np.repeat(np.rint(pixels * 255).astype(np.uint8), 3, axis=-1)
    opacity = 0.5 * np.clip((scores - 0.75) / 0.25, 0, 1)[..., None]
    whole = np.rint((1 - opacity) * whole + opacity * heatmap(scores)).astype(np.uint8)
    monkeypatch.setattr("inspect_gan.reporting.pictures._BLOCK", block)
    np.testing.assert_array_equal(overlay(Image(pixels, 8), scores, ()), whole)


def test_blending_takes_little_memory_however_much_is_flagged() -> None:
    image, scores = grey(0.3, (2000, 1000)), np.full((2000, 1000), 1.5, dtype=np.float32)
    tracemalloc.start()
    overlay(image, scores, ())
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 24 * scores.size


def test_unremarkable_map_leaves_the_image_grey():
    pixels = np.random.default_rng(0).random((80, 100, 1)).astype(np.float32)
    picture = overlay(Image(pixels, 8), np.full((80, 100), 0.7, dtype=np.float32), ())
    np.testing.assert_array_equal(picture, np.rint(pixels * 255).astype(np.uint8).repeat(3, axis=-1))


@pytest.mark.parametrize("verdict", list(CONTOUR))
def test_contour_surrounds_the_region_without_covering_it(verdict):
    scores = np.zeros((80, 100), dtype=np.float32)
    scores[50:60, 40:55] = 1.5
    regions = find_regions(scores, Limits(area=0, peak=1 if verdict is Verdict.NG else 2))
    assert [region.verdict for region in regions] == [verdict]
    picture = overlay(grey(0.5), scores, regions)
    drawn = (picture == CONTOUR[verdict]).all(axis=-1)
    ring = np.zeros_like(drawn)
    ring[49:61, 39:56] = True
    ring[50:60, 40:55] = False
    assert drawn[ring].all()
    inside = mask_of(scores, regions)
    np.testing.assert_array_equal(picture[inside], overlay(grey(0.5), scores, ())[inside])


def test_every_region_gets_a_number_where_there_is_room():
    scores = np.zeros((400, 600), dtype=np.float32)
    for row in (80, 200, 320):
        for column in (100, 300, 500):
            scores[row : row + 6, column : column + 6] = 1.5
    regions = find_regions(scores, Limits(area=0, peak=1))
    picture = overlay(grey(0.5, scores.shape), scores, regions)
    for region in regions:
        x0, y0, x1, _ = region.box
        above = picture[y0 - 20 : y0 - 4, x0 - 5 : x1 + 5]
        assert (above == CONTOUR[Verdict.NG]).all(axis=-1).sum() > 40
        assert (above.sum(axis=-1) < 100).any()  # the digit


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (8, 8), (32, 32), (700, 1024)])
def test_any_size_even_when_all_of_it_is_one_region(shape):
    scores = np.full(shape, 1.2, dtype=np.float32)
    for regions in ((), find_regions(scores, Limits(area=0, peak=1))):
        picture = overlay(grey(0.5, shape), scores, regions)
        assert (picture.shape, picture.dtype) == ((*shape, 3), np.uint8)
    assert heatmap(scores).shape == (*shape, 3)


def test_numbers_do_not_hide_a_small_picture():
    scores = np.zeros((32, 32), dtype=np.float32)
    scores[4:28, 4:28] = 1.5
    regions = find_regions(scores, Limits(area=0, peak=1))
    inside = mask_of(scores, regions)
    picture = overlay(grey(0.5, (32, 32)), scores, regions)
    np.testing.assert_array_equal(picture[inside], overlay(grey(0.5, (32, 32)), scores, ())[inside])


def test_deep_images_are_stretched_and_8_bit_ones_are_not():
    pixels = np.linspace(0.1, 0.11, 8000, dtype=np.float32).reshape(80, 100, 1)
    flat = np.zeros((80, 100), dtype=np.float32)
    stretched = overlay(Image(pixels, 16), flat, ())
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert (np.diff(stretched[..., 0].ravel().astype(int)) >= 0).all()
    assert np.ptp(overlay(Image(pixels, 8), flat, ())) <= 3


def test_a_constant_deep_image_is_shown_as_it_is():
    picture = overlay(grey(0.5, bit_depth=16), np.zeros((80, 100), dtype=np.float32), ())
    assert np.unique(picture).tolist() == [128]


def test_colour_images_are_shown_grey():
    pixels = np.zeros((80, 100, 3), dtype=np.float32)
    pixels[..., 0] = 1
    picture = overlay(Image(pixels, 8), np.zeros((80, 100), dtype=np.float32), ())
    assert not has_colour(picture).any()
    assert 70 < picture[0, 0, 0] < 80  # luminance of pure red, ITU-R BT.601: 0.299


def test_map_and_image_must_have_one_size():
    with pytest.raises(ValueError, match=r"\(80, 99\).*\(80, 100\)"):
        overlay(grey(0.5), np.zeros((80, 99), dtype=np.float32), ())
