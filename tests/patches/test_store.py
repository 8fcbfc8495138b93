import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.store import PatchStore


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 255, (13, 7, 1), dtype=np.uint8),
        rng.integers(0, 65535, (5, 9, 1), dtype=np.uint16),
        rng.random((11, 3, 1), dtype=np.float32),
        rng.integers(0, 255, (6, 8, 2), dtype=np.uint8)[:, :, 1:],
    ]


@pytest.mark.parametrize("limit_mb", [0, 1e-4, 1])
def test_images_come_back_as_they_were(images: list[np.ndarray], limit_mb: float) -> None:
    store = PatchStore([images[0], lambda: images[1], *images[2:]], limit_mb)
    assert store.on_disk == (limit_mb < 1)
    assert len(store) == 4
    assert store.sizes == ((13, 7), (5, 9), (11, 3), (6, 8))
    for index, image in enumerate(images):
        assert store[index].dtype == image.dtype
        assert store[index].flags.aligned
        np.testing.assert_array_equal(store[index], image)
        with pytest.raises(ValueError, match="read-only"):
            store[index][0, 0, 0] = 1


def test_memory_is_shared_with_the_given_arrays(images: list[np.ndarray]) -> None:
    assert np.shares_memory(PatchStore(images[:1], 1)[0], images[0])
    assert images[0].flags.writeable


@pytest.mark.parametrize(("limit_mb", "most_alive"), [(0, 1), (0.025, 2), (1, 10)])
def test_filling_holds_no_more_than_the_limit_and_the_next_image(limit_mb: float, most_alive: int) -> None:
    loaded: list[weakref.ref[np.ndarray]] = []
    seen = []

    def loader(value: int) -> Callable[[], np.ndarray]:
        def load() -> np.ndarray:
            seen.append(sum(image() is not None for image in loaded))
            image = np.full((100, 100, 1), value, dtype=np.uint8)  # 0.01 MB
            loaded.append(weakref.ref(image))
            return image

        return load

    store = PatchStore((loader(value) for value in range(11)), limit_mb)
    assert max(seen) == most_alive
    assert [int(store[index][50, 50, 0]) for index in range(11)] == list(range(11))


def test_nothing_is_left_in_the_temporary_directory(
    images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = PatchStore(images, 0)
    held = store[0]
    store.close()
    assert len(store) == 0
    np.testing.assert_array_equal(held, images[0])  # a view outlives its store
    del held, store
    assert list(tmp_path.iterdir()) == []


def test_unusable_temporary_directory_is_named(
    images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(InspectGanError, match=r"missing.*TMPDIR"):
        PatchStore(images, 0)


def test_grey_and_colour_do_not_mix() -> None:
    with pytest.raises(InspectGanError, match=r"number 2 has 3 channel\(s\) and the first 1"):
        PatchStore([np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 3), np.uint8)], 1)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1)), np.zeros((4, 4, 1), bool)])
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8, uint16 or float32"):
        PatchStore([image], 1)
