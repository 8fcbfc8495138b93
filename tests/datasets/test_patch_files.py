"""Images cut into files."""

from pathlib import Path

import numpy as np
import pytest

from inspect_gan.datasets.patch_files import write_patches
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import read_raw, write_png, write_tiff


def test_patches_are_the_pixels_of_the_grid(tmp_path: Path) -> None:
    image = np.arange(20 * 16, dtype=np.uint16).reshape(20, 16)
    write_png(tmp_path / "good" / "a.png", image)
    assert write_patches(tmp_path / "good", tmp_path / "out", size=8, stride=6) == 9
    np.testing.assert_array_equal(read_raw(tmp_path / "out" / "a_00012_00008.png").array[..., 0], image[12:, 8:])


def test_nothing_is_written_where_an_image_cannot_be_cut(tmp_path: Path) -> None:
    """So that the same call with a smaller size, or with the image mended, finds an empty folder."""
    folder, out = tmp_path / "good", tmp_path / "out"
    write_png(folder / "a.png", np.zeros((32, 32), np.uint8))
    write_png(folder / "b.png", np.zeros((32, 20), np.uint8))
    with pytest.raises(InspectGanError, match=r"b\.png is 32×20 px.*use a smaller --size"):
        write_patches(folder, out, size=32, stride=32)
    write_tiff(folder / "c.tiff", np.zeros((32, 32), np.float32))
    with pytest.raises(InspectGanError, match=r"c\.tiff is a floating-point image"):
        write_patches(folder, out, size=16, stride=16)
    (folder / "c.tiff").unlink()
    assert write_patches(folder, out, size=16, stride=16) == 8
