import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.holdout import Mode, Region, Split, split


def covered(regions: tuple[Region, ...], sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    """How often each pixel of each image is covered; regions that leave an image fail."""
    counts = [np.zeros(size, dtype=int) for size in sizes]
    for region in regions:
        part = counts[region.image][region.top :, region.left :][: region.height, : region.width]
        assert part.shape == (region.height, region.width)
        part += 1
    return counts


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.lists(st.tuples(st.integers(8, 60), st.integers(8, 90)), min_size=1, max_size=25),
    patch=st.sampled_from([8, 16]),
    mode=st.sampled_from(["auto", "image", "band"]),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_training_and_held_out_regions_share_no_pixel(
    sizes: list[tuple[int, int]], patch: int, mode: Mode, fraction: float, seed: int
) -> None:
    try:
        result = split(sizes, patch, mode, fraction, seed)
    except InspectGanError:
        # Only when it cannot be done: too small an image, one image to divide, or too wide a band.
        assert len(sizes) == 1 or min(map(min, sizes)) < patch or mode != "image"
        return
    assert result == split(sizes, patch, mode, fraction, seed)
    assert result.train
    assert result.held_out
    for region in result.train + result.held_out:
        assert min(region.height, region.width) >= patch
    for train, held_out in zip(covered(result.train, sizes), covered(result.held_out, sizes), strict=True):
        np.testing.assert_array_equal(train + held_out, 1)


def test_band_of_a_tenth_of_the_width_at_either_edge() -> None:
    result = split([(700, 1024)] * 12, 32, "band")
    assert {region.left for region in result.held_out} == {0, 1024 - 103}
    for train, held_out in zip(result.train, result.held_out, strict=True):
        assert (held_out.top, held_out.height, held_out.width) == (0, 700, 103)
        assert train.image == held_out.image
        assert train == Region(train.image, 0, 0 if held_out.left else 103, 700, 1024 - 103)


def test_band_is_never_narrower_than_a_patch() -> None:
    assert split([(64, 200)], 64, "band").held_out[0].width == 64


@pytest.mark.parametrize(("count", "fraction", "held_out"), [(2, 0.1, 1), (10, 0.3, 3), (3, 0.99, 2)])
def test_whole_images(count: int, fraction: float, held_out: int) -> None:
    result = split([(40, 50)] * count, 32, "image", fraction)
    assert len(result.held_out) == held_out
    assert len(result.train) == count - held_out


def test_auto_keeps_whole_images_when_there_are_many_or_one_is_narrow() -> None:
    def divides_images(result: Split) -> bool:
        return {r.image for r in result.train} == {r.image for r in result.held_out}

    assert divides_images(split([(100, 128)] * 19, 32))
    assert not divides_images(split([(100, 128)] * 20, 32))
    assert not divides_images(split([(100, 128), (100, 127)], 32))


def test_patch_files_as_large_as_a_patch() -> None:
    result = split([(32, 32)] * 50, 32)
    assert (len(result.train), len(result.held_out)) == (45, 5)


def test_the_seed_chooses() -> None:
    sizes = [(40, 200)] * 8
    for mode in ("band", "image"):
        assert len({split(sizes, 16, mode, 0.25, seed).held_out for seed in range(10)}) > 1


@pytest.mark.parametrize(
    ("sizes", "mode", "message"),
    [
        ([(100, 100)], "auto", "at least one more image"),
        ([(100, 100)], "image", "at least one more image"),
        ([], "auto", "no normal images"),
        ([(100, 200), (100, 63)], "band", "number 2 is 63 pixels wide"),
        ([(100, 200), (31, 200)], "auto", "number 2 has 31 x 200"),
    ],
)
def test_impossible_splits_say_what_to_do(sizes: list[tuple[int, int]], mode: Mode, message: str) -> None:
    with pytest.raises(InspectGanError, match=message):
        split(sizes, 32, mode)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 10, float("nan")])
def test_fraction_must_lie_between_none_and_all(fraction: float) -> None:
    with pytest.raises(InspectGanError, match="fraction"):
        split([(100, 200)], 32, "band", fraction)


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="stripes"):
        split([(100, 200)], 32, "stripes")  # type: ignore[arg-type]
