from collections import Counter

import numpy as np
import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.holdout import Region, split
from inspect_gan.patches.sampling import Augment, RandomPatches
from inspect_gan.patches.store import PatchStore


def numbered_images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Images whose pixels tell where they come from: 10000 * image + 100 * row + column."""
    return [
        (10_000 * number + 100 * np.arange(height)[:, None, None] + np.arange(width)[None, :, None]).astype(np.float32)
        for number, (height, width) in enumerate(sizes)
    ]


def unchanged(crop: np.ndarray) -> np.ndarray:
    return crop


def sampler(
    images: list[np.ndarray], regions: list[Region], size: int, augment: Augment = "none", batch: int = 64
) -> RandomPatches:
    return RandomPatches(PatchStore(images, 100), regions, size, batch, 7, unchanged, augment)


@pytest.mark.parametrize("augment", ["none", "flips", "d4"])
def test_a_batch_depends_on_seed_and_step_alone(augment: Augment) -> None:
    images = numbered_images((40, 50), (30, 60))
    regions = [Region(0, 0, 0, 40, 50), Region(1, 0, 0, 30, 60)]
    first = sampler(images, regions, 8, augment)
    batches = [first.batch(step) for step in range(4)]
    assert batches[0].shape == (64, 8, 8, 1)
    assert batches[0].dtype == np.float32
    resumed = sampler(images, regions, 8, augment)
    np.testing.assert_array_equal(resumed.batch(3), batches[3])
    np.testing.assert_array_equal(resumed.batch(1), batches[1])
    assert not np.array_equal(batches[0], batches[1])
    other_seed = RandomPatches(PatchStore(images, 100), regions, 8, 64, 8, unchanged, augment)
    assert not np.array_equal(other_seed.batch(0), batches[0])


def test_every_corner_inside_the_regions_is_equally_likely() -> None:
    images = numbered_images((9, 12), (7, 7), (20, 20))
    regions = [Region(0, 2, 3, 6, 7), Region(2, 0, 0, 3, 20), Region(1, 1, 1, 4, 6), Region(2, 16, 15, 4, 5)]
    patches = sampler(images, regions, 4, batch=22_000).batch(0)
    drawn = Counter(divmod(int(patch[0, 0, 0]), 10_000) for patch in patches)
    corners = {
        (r.image, 100 * row + col)
        for r in regions
        for row in range(r.top, r.top + r.height - 3)
        for col in range(r.left, r.left + r.width - 3)
    }
    assert len(corners) == 12 + 0 + 3 + 2
    assert set(drawn) == corners
    expected = 22_000 / len(corners)
    assert max(abs(count - expected) for count in drawn.values()) < 5 * np.sqrt(expected)
    for patch in patches[:200]:
        image, place = divmod(int(patch[0, 0, 0]), 10_000)
        row, col = divmod(place, 100)
        np.testing.assert_array_equal(patch, images[image][row : row + 4, col : col + 4])


@pytest.mark.parametrize(("augment", "variants"), [("none", 1), ("flips", 4), ("d4", 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_symmetries_are_equally_likely_and_independent(augment: Augment, variants: int, channels: int) -> None:
    image = np.random.default_rng(0).random((5, 5, channels), dtype=np.float32)
    turns = [np.rot90(image, k) for k in range(4)]
    symmetries = [*turns, *(turn[:, ::-1] for turn in turns)]
    patches = sampler([image], [Region(0, 0, 0, 5, 5)], 5, augment, batch=4000).batch(0)
    counts = Counter(
        next(k for k, symmetry in enumerate(symmetries) if np.array_equal(patch, symmetry)) for patch in patches
    )
    assert len(counts) == variants
    assert min(counts.values()) > 0.8 * 4000 / variants
    if augment == "flips":
        assert set(counts) == {0, 2, 4, 6}  # no quarter turn


def test_files_of_different_bit_depth_are_scaled_each_by_its_own() -> None:
    def to_float(crop: np.ndarray) -> np.ndarray:
        return crop.astype(np.float32) / np.iinfo(crop.dtype).max

    images = [np.full((8, 8, 1), 51, np.uint8), np.full((8, 8, 1), 52_428, np.uint16)]
    regions = [Region(0, 0, 0, 8, 8), Region(1, 0, 0, 8, 8)]
    patches = RandomPatches(PatchStore(images, 1), regions, 4, 50, 0, to_float, "flips").batch(0)
    assert set(np.unique(patches)) == {np.float32(0.2), np.float32(0.8)}


def test_patch_files_are_drawn_whole() -> None:
    images = numbered_images(*[(8, 8)] * 30)
    result = split([image.shape[:2] for image in images], 8)
    patches = sampler(images, list(result.train), 8, batch=1000).batch(0)
    drawn = {int(patch[0, 0, 0]) for patch in patches}
    assert drawn == {10_000 * region.image for region in result.train}
    assert len(drawn) == 27


def test_regions_without_room_for_a_patch_are_refused() -> None:
    for regions in ([], [Region(0, 0, 0, 9, 5)]):
        with pytest.raises(InspectGanError, match="6 x 6"):
            sampler(numbered_images((9, 9)), regions, 6)


def test_regions_outside_their_image_are_refused() -> None:
    for region in (Region(0, 0, 1, 9, 9), Region(0, -1, 0, 5, 5)):
        with pytest.raises(ValueError, match="leaves its image"):
            sampler(numbered_images((9, 9)), [region], 3)


def test_unknown_augmentation() -> None:
    with pytest.raises(ValueError, match="rotate"):
        sampler(numbered_images((9, 9)), [Region(0, 0, 0, 9, 9)], 3, "rotate")  # type: ignore[arg-type]
