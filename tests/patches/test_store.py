import tempfile
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.store import PatchStore


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(13, 7, 1), (5, 9, 1), (11, 3, 1), (6, 8, 2)]
    images = [rng.random(shape, dtype=np.float32) for shape in shapes]
    return [*images[:3], images[3][:, :, 1:]]  # the last is not contiguous


@pytest.mark.parametrize("limit_mb", [0, 5e-4, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_behind_one_another_as_they_were(images: list[np.ndarray], channels: int, limit_mb: float) -> None:
    images = [image.repeat(channels, axis=2) for image in images]
    store = PatchStore([images[0], lambda: images[1], *images[2:]], limit_mb)
    assert store.on_disk == (limit_mb < 1)
    assert store.sizes == [(13, 7), (5, 9), (11, 3), (6, 8)]
    assert store.pixels.dtype == np.float32
    expected = np.concatenate([image.reshape(-1, channels) for image in images])
    np.testing.assert_array_equal(store.pixels, expected, strict=True)


@pytest.mark.parametrize("limit_mb", [0, 0.4, 10])
def test_filling_holds_no_more_than_the_limit_and_the_next_image(limit_mb: float) -> None:
    def image(value: int) -> np.ndarray:
        return np.full((100, 100, 1), value, dtype=np.float32)

    tracemalloc.start()
    store = PatchStore((partial(image, value) for value in range(50)), limit_mb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    one, everything = 0.04, 50 * 0.04
    # The next image is held twice for a moment; room to grow by an eighth is reserved.
    assert peak / 1e6 < 1.125 * (min(limit_mb, everything) + one) + one + 0.05
    assert store.pixels.reshape(50, -1).mean(axis=1).tolist() == list(range(50))


def test_nothing_is_left_in_the_temporary_directory(
    images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = PatchStore(images, 0)
    pixels = store.pixels
    del store
    np.testing.assert_array_equal(pixels[: 13 * 7], images[0].reshape(-1, 1))  # the pixels outlive their store
    assert list(tmp_path.iterdir()) == []


def test_unusable_temporary_directory_is_named(
    images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(InspectGanError, match=r"missing.*TMPDIR"):
        PatchStore(images, 0)


def test_grey_and_colour_do_not_mix() -> None:
    with pytest.raises(InspectGanError, match=r"number 2 has 3 channel\(s\) and the first 1"):
        PatchStore([np.zeros((4, 4, 1), np.float32), np.zeros((4, 4, 3), np.float32)], 1)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        PatchStore([], 1)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 1)), np.zeros((4, 4, 1), np.uint8)])
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="float32, got"):
        PatchStore([image], 1)
