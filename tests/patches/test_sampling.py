from collections import Counter

import numpy as np
import pytest
import torch

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.sampling import Augment, RandomPatches
from inspect_gan.patches.store import PatchStore


def numbered_images(*sizes: tuple[int, int], channels: int = 1) -> list[np.ndarray]:
    """Images whose pixels tell where they come from: 10000 * image + 100 * row + column, plus channel / 4."""
    return [
        (
            10_000 * number
            + 100 * np.arange(height)[:, None, None]
            + np.arange(width)[None, :, None]
            + np.arange(channels) / 4
        ).astype(np.float32)
        for number, (height, width) in enumerate(sizes)
    ]


def sampler(
    images: list[np.ndarray],
    size: int,
    augment: Augment = "none",
    *,
    batch: int = 64,
    seed: int = 7,
    limit_mb: float = 100,
) -> RandomPatches:
    return RandomPatches(PatchStore(images, limit_mb), size, batch, seed, augment)


def symmetries(patch: np.ndarray) -> list[np.ndarray]:
    """Four quarter turns of a patch (S, S, C), then the same of its mirror image; even numbers exchange no sides."""
    return [np.rot90(side, turns) for side in (patch, patch[:, ::-1]) for turns in range(4)]


@pytest.mark.parametrize("augment", ["none", "flips", "d4"])
def test_a_batch_depends_on_seed_and_step_alone(augment: Augment) -> None:
    images = numbered_images((40, 50), (30, 60))
    first = sampler(images, 8, augment)
    batches = [first.batch(step) for step in range(4)]
    assert batches[0].shape == (64, 8, 8, 1)
    assert batches[0].dtype == torch.float32
    resumed = sampler(images, 8, augment)
    assert torch.equal(resumed.batch(3), batches[3])
    assert torch.equal(resumed.batch(1), batches[1])
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(sampler(images, 8, augment, seed=8).batch(0), batches[0])


@pytest.mark.parametrize("limit_mb", [0, 100])
def test_every_corner_inside_the_images_is_equally_likely(limit_mb: float) -> None:
    images = numbered_images((6, 7), (4, 6), (3, 20), (4, 5))
    patches = sampler(images, 4, batch=22_000, limit_mb=limit_mb).batch(0).numpy()
    drawn = Counter(divmod(int(patch[0, 0, 0]), 10_000) for patch in patches)
    corners = {
        (number, 100 * row + column)
        for number, (height, width, _) in enumerate(image.shape for image in images)
        for row in range(height - 3)
        for column in range(width - 3)
    }
    assert len(corners) == 12 + 3 + 0 + 2
    assert set(drawn) == corners
    expected = 22_000 / len(corners)
    assert max(abs(count - expected) for count in drawn.values()) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("augment", ["none", "flips", "d4"])
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_crops_flipped_or_turned(augment: Augment, channels: int) -> None:
    images = numbered_images((9, 30), (40, 6), (5, 5), (20, 20), channels=channels)
    patches = sampler(images, 5, augment, batch=300).batch(0).numpy()
    assert patches.shape == (300, 5, 5, channels)
    for patch in patches:
        image, place = divmod(int(patch.min()), 10_000)
        row, column = divmod(place, 100)
        crop = images[image][row : row + 5, column : column + 5]
        assert any(np.array_equal(patch, symmetry) for symmetry in symmetries(crop))


def test_the_augmentation_does_not_change_which_crops_are_drawn() -> None:
    images = numbered_images((9, 30), (40, 6))
    crops, flipped, turned = (sampler(images, 5, augment).batch(2) for augment in ("none", "flips", "d4"))
    places = [batch.amin(dim=(1, 2, 3)).tolist() for batch in (crops, flipped, turned)]
    assert places[0] == places[1] == places[2]


@pytest.mark.parametrize(("augment", "variants"), [("none", 1), ("flips", 4), ("d4", 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_symmetries_are_equally_likely_and_independent(augment: Augment, variants: int, channels: int) -> None:
    image = np.random.default_rng(0).random((5, 5, channels), dtype=np.float32)
    patches = sampler([image], 5, augment, batch=4000).batch(0).numpy()
    counts = Counter(
        next(k for k, symmetry in enumerate(symmetries(image)) if np.array_equal(patch, symmetry)) for patch in patches
    )
    assert len(counts) == variants
    assert min(counts.values()) > 0.8 * 4000 / variants
    if augment == "flips":
        assert set(counts) == {0, 2, 4, 6}  # no quarter turn


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_cut_on_the_device(channels: int) -> None:
    # Tensors of the device "meta" hold no values: an operation that looked at one, or mixed devices, would fail.
    store = PatchStore(numbered_images((9, 30), (40, 6), channels=channels), 100)
    batch = RandomPatches(store, 5, 16, 0, "d4", "meta").batch(0)
    assert batch.is_meta
    assert batch.shape == (16, 5, 5, channels)


def test_images_without_room_for_a_patch_are_refused() -> None:
    with pytest.raises(InspectGanError, match="6 x 6"):
        sampler(numbered_images((9, 5), (5, 9)), 6)


def test_unknown_augmentation() -> None:
    with pytest.raises(ValueError, match="rotate"):
        sampler(numbered_images((9, 9)), 3, "rotate")  # type: ignore[arg-type]
