"""The bar below a microscope's picture is found to the row, and nothing else is taken for one."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import read, write_png
from inspect_gan.imaging.info_bar import find_info_bar, info_bar_of, without_info_bar

TEXT = "HV 5.00 kV   WD 4.6 mm   x5.00k"
ROWS = (20, 40, 64, 100)


def texture(height: int = 360, width: int = 480) -> np.ndarray:
    rng = np.random.default_rng(4)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width), dtype=np.uint8), (0, 0), 1.5) * 4


def bar(rows: int, background: int = 0, ink: int = 255, frame: int = 0, width: int = 480) -> np.ndarray:
    drawn = np.full((rows, width), background, np.uint8)
    cv2.putText(drawn, TEXT, (10, rows // 2 + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, 1, cv2.LINE_AA)
    if frame:
        cv2.rectangle(drawn, (0, 0), (width - 1, rows - 1), ink, 2 * frame - 1)
    return drawn


def found(image: np.ndarray) -> int:
    top = np.iinfo(image.dtype).max
    return find_info_bar((image if image.ndim == 3 else image[..., None]).astype(np.float32) / np.float32(top))


def real(folder: str) -> list[Path]:
    images = sorted((Path(os.environ.get("INSPECT_GAN_DATA", "")) / folder).rglob("*"))
    images = [path for path in images if path.suffix in (".tif", ".png", ".jpg") and "gt" not in path.parts]
    if not images:
        pytest.skip(f"set INSPECT_GAN_DATA to the folder of {folder}")
    return [path for path in images if "ground_truth" not in path.parts]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("background", "ink"), [(0, 255), (255, 0), (20, 220), (128, 255)])
@pytest.mark.parametrize("frame", [0, 2])
def test_a_bar_is_found_to_the_row(rows: int, background: int, ink: int, frame: int) -> None:
    assert found(np.vstack([texture(), bar(rows, background, ink, frame)])) == rows


@pytest.mark.parametrize("rows", ROWS)
def test_in_a_jpeg_it_is_found_to_two_rows(rows: int) -> None:
    image = np.vstack([texture(), bar(rows)])
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert abs(found(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)) - rows) <= 2


def test_colour_and_a_camera_of_twelve_bits() -> None:
    image = np.vstack([texture(), bar(40)])
    assert found(np.repeat(image[..., None], 3, axis=2)) == 40
    assert found(image.astype(np.uint16) * 16) == 40


def test_rows_of_anything_at_the_very_edge() -> None:
    assert found(np.vstack([texture(), bar(40), texture()[:1]])) == 41


@pytest.mark.parametrize(
    "below",
    [
        np.zeros((40, 480), np.uint8),  # plain: the edge of a part
        np.tile(np.linspace(0, 255, 480).astype(np.uint8), (40, 1)),
        bar(40)[:, ::-1] // 8,  # hardly visible
        bar(300),  # more than a third
        bar(8),
    ],
    ids=["plain", "ramp", "faint", "too high", "too low"],
)
def test_what_is_no_bar_stays(below: np.ndarray) -> None:
    image = np.vstack([texture(), below])
    assert found(image) == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 1), (200, 200)])
def test_small_and_constant_images(shape: tuple[int, int]) -> None:
    assert found(np.full(shape, 7, np.uint8)) == 0


def test_a_bar_on_top_is_none_at_the_bottom() -> None:
    assert found(np.vstack([bar(40), texture()])) == 0


@pytest.mark.parametrize("folder", ["nanotwice", "textures_skimage", "magnetic_tile", "mvtec_grid_512"])
def test_real_surfaces_have_none(folder: str) -> None:
    assert [path.name for path in real(folder)[::5] if find_info_bar(read(path).pixels)] == []


def test_real_bars() -> None:
    assert [find_info_bar(read(path).pixels) for path in real("sem_fibresem_mit")] == [166, 166]


def test_the_picture_and_its_bar_are_the_whole(tmp_path: Path) -> None:
    image = np.vstack([texture(), bar(40)])
    write_png(tmp_path / "a.png", image)
    whole = read(tmp_path / "a.png")
    cut = read(tmp_path / "a.png", info_bar="auto")
    assert (whole.info_bar_rows, cut.info_bar_rows, cut.height) == (0, 40, 360)
    for one, wanted in ((cut, whole), (cut.converted(3), whole.converted(3))):
        np.testing.assert_array_equal(np.concatenate([one.pixels, one.info_bar]), wanted.pixels)
    write_png(tmp_path / "b.png", texture())
    assert cut.digest == read(tmp_path / "b.png", info_bar="auto").digest


def test_a_fixed_number_of_rows(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", texture())
    assert read(tmp_path / "a.png", info_bar=60).height == 300
    with pytest.raises(InspectGanError, match=r"a\.png has 360 rows, data\.info_bar=360 leaves none"):
        read(tmp_path / "a.png", info_bar=360)


@pytest.mark.parametrize(
    ("size", "rows"), [((480, 320), 40), ((480, 1), 0), ((240, 320), 0), ((480, 500), 0), ((480, 360), 0)]
)
def test_fei_metadata_tell_the_height_of_the_picture(tmp_path: Path, size: tuple[int, int], rows: int) -> None:
    data = f"[Image]\nResolutionX={size[0]}\nResolutionY={size[1]}\0".encode()
    tifffile.imwrite(tmp_path / "a.tif", texture(), extratags=[(34682, 2, len(data), data, True)])
    assert read(tmp_path / "a.tif", info_bar="auto").info_bar_rows == rows
    assert read(tmp_path / "a.tif", info_bar=25).info_bar_rows == 25
    assert read(tmp_path / "a.tif").info_bar_rows == 0


def test_nothing_is_cut_unless_asked_for(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.vstack([texture(), bar(40)]))
    image = read(tmp_path / "a.png")
    assert without_info_bar(image, "none", told=40) is image


def test_options_say_what_settings_say() -> None:
    assert [info_bar_of(text) for text in ("none", "auto", "60")] == ["none", "auto", 60]
    for text in ("", "0", "-3", "1.5", "Auto", "9" * 5000):
        with pytest.raises(InspectGanError, match="none, auto or a number of rows from 1"):
            info_bar_of(text)
