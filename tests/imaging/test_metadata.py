"""The size of a pixel: as microscopes and ImageJ write it, never from what screens, printers and scanners write."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from inspect_gan.imaging import read
from inspect_gan.imaging.metadata import MAX_TAG_BYTES
from inspect_gan.imaging.pixel_size import PixelSize, chosen

GREY = np.random.default_rng(3).integers(0, 256, (48, 64), dtype=np.uint8)
FEI, HELIOS, ZEISS, TVIPS, OLYMPUS = 34680, 34682, 34118, 37706, 33560


def fei(width: int = 64, pixel: str = "2.5e-008", height: str = "2.5e-008") -> bytes:
    lines = ("[Scan]", f"PixelWidth={pixel}", f"PixelHeight={height}", "[Image]", f"ResolutionX={width}")
    return "\r\n".join(lines).encode() + b"\0"


def zeiss(*pairs: tuple[str, str]) -> bytes:
    lines = ["0", "0", "9.765625e-008", *(line for pair in pairs for line in pair)]
    return ("\r\n".join(lines) + "\r\n").encode("cp1252")


def zeiss_pixel(size: str) -> bytes:
    return zeiss(
        ("DP_IMAGE_STORE", "Store resolution = 64 * 48"), ("AP_IMAGE_PIXEL_SIZE", f"Image Pixel Size = {size}")
    )


def pixel_size(tmp_path: Path, *tags: tuple[int, bytes], **options: Any) -> PixelSize | None:
    path = tmp_path / "a.tif"
    given: list[Any] = [(code, 1 if code == TVIPS else 2, len(data), data, True) for code, data in tags]
    tifffile.imwrite(path, options.pop("image", GREY), photometric="minisblack", extratags=given, **options)
    image = read(path, page=options.pop("page", None))
    assert image.pixels.shape[:2] == GREY.shape
    return image.pixel_size


@pytest.mark.parametrize("code", [FEI, HELIOS])
def test_fei(tmp_path: Path, code: int) -> None:
    assert pixel_size(tmp_path, (code, fei())) == PixelSize(pytest.approx(0.025), "FEI metadata")


def test_a_pixel_that_is_not_square_keeps_its_area(tmp_path: Path) -> None:
    found = pixel_size(tmp_path, (FEI, fei(pixel="4e-9", height="9e-9")))
    assert found is not None
    assert found.um**2 == pytest.approx(0.004 * 0.009)


@pytest.mark.parametrize(
    ("written", "um"), [("9.766 nm", 0.009766), ("1.25 µm", 1.25), ("1.25 um", 1.25), ("800 pm", 0.0008)]
)
def test_zeiss(tmp_path: Path, written: str, um: float) -> None:
    assert pixel_size(tmp_path, (ZEISS, zeiss_pixel(written))) == PixelSize(pytest.approx(um), "Zeiss metadata")


@pytest.mark.parametrize(("width", "um"), [(1024, 0.5), (64, None)])
def test_zeiss_pixels_of_the_screen_hold_for_its_width_only(tmp_path: Path, width: int, um: float | None) -> None:
    path = tmp_path / "a.tif"
    data = zeiss(("AP_PIXEL_SIZE", "Pixel Size = 500.0 nm"))
    tifffile.imwrite(path, np.zeros((8, width), np.uint8), extratags=[(ZEISS, 2, len(data), data, True)])
    found = read(path).pixel_size
    assert (found and found.um) == um


def test_tvips(tmp_path: Path) -> None:
    first = np.zeros(1, tifffile.TIFF.TVIPS_HEADER_V1)
    second = np.zeros(1, tifffile.TIFF.TVIPS_HEADER_V2)
    first["Version"], second["Magic"] = 2, 0xAAAAAAAA
    second["PixelSizeX"] = second["PixelSizeY"] = 1.5  # nm
    found = pixel_size(tmp_path, (TVIPS, first.tobytes() + second.tobytes()))
    assert found == PixelSize(pytest.approx(0.0015), "TVIPS metadata")


def test_olympus(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, extratags=[(OLYMPUS, 4, 1, 8, True)])
    block = len(path.read_bytes())
    header = struct.pack("<4s6xhhhhh6x32sHhhI", b"SIS0", 0, 0, 1, 0, 120, b"name", 1, 1, 1, block + 68)
    general = struct.pack("<10xhdd8xd2x34s32s", -9, 75.0, 75.0, 1000.0, b"camera", b"grey").ljust(112, b"\0")
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.tags[OLYMPUS].offset + 8
    data = bytearray(path.read_bytes() + header + general)
    data[at : at + 4] = struct.pack("<I", block)
    path.write_bytes(bytes(data))
    assert read(path).pixel_size == PixelSize(pytest.approx(0.075), "Olympus SIS metadata")


@pytest.mark.parametrize(
    ("unit", "per_unit", "um"),
    [("um", 4, 0.25), ("\\u00B5m", 4, 0.25), ("micron", 4, 0.25), ("nm", 0.05, 0.02), ("mm", 50, 20.0)],
)
def test_imagej(tmp_path: Path, unit: str, per_unit: float, um: float) -> None:
    found = pixel_size(tmp_path, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    assert found == PixelSize(pytest.approx(um), "ImageJ metadata")


@pytest.mark.parametrize("unit", ["pixel", "inch", "cm", "sec", "5"])
def test_imagej_units_that_are_no_scale(tmp_path: Path, unit: str) -> None:
    assert pixel_size(tmp_path, imagej=True, resolution=(72, 72), metadata={"unit": unit}) is None


@pytest.mark.parametrize("dpi", [1, 72, 96, 150, 300, 600, 1200, 4800, 9600, 19200])
def test_the_resolution_of_a_screen_printer_or_scanner_is_no_scale(tmp_path: Path, dpi: int) -> None:
    assert pixel_size(tmp_path, resolution=(dpi, dpi), resolutionunit="INCH") is None
    assert pixel_size(tmp_path, resolution=(dpi / 2.54, dpi / 2.54), resolutionunit="CENTIMETER") is None


@pytest.mark.parametrize(("unit", "um"), [("INCH", 0.1), ("CENTIMETER", 0.1), ("NONE", None)])
def test_resolution_finer_than_those_is_a_scale(tmp_path: Path, unit: str, um: float | None) -> None:
    per_unit = {"INCH": 254_000, "CENTIMETER": 100_000}.get(unit, 100_000)
    found = pixel_size(tmp_path, resolution=(per_unit, per_unit), resolutionunit=unit)
    assert (found and found.um) == (um and pytest.approx(um))
    assert pixel_size(tmp_path, resolution=(per_unit, per_unit / 2), resolutionunit=unit) is None, "not square"


@pytest.mark.parametrize(
    ("per_metre", "unit", "um"), [(10_000_000, 1, 0.1), (2835, 1, None), (10_000_000, 0, None), (0, 1, None)]
)
def test_png_resolution_follows_the_same_rule(tmp_path: Path, per_metre: int, unit: int, um: float | None) -> None:
    ok, encoded = cv2.imencode(".png", GREY)
    assert ok
    chunk = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, unit)
    whole = struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = encoded.tobytes()
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + whole + data[33:])
    found = read(path).pixel_size
    assert (found and found.um) == (um and pytest.approx(um))
    np.testing.assert_array_equal(np.rint(read(path).pixels[..., 0] * 255), GREY)


def test_a_real_image() -> None:
    path = Path(os.environ.get("INSPECT_GAN_DATA", "")) / "sem_fibresem_mit" / "sample.01_img08.tif"
    if not path.is_file():
        pytest.skip("set INSPECT_GAN_DATA to the folder of sem_fibresem_mit")
    # The bar below the picture says that its 2048 px are 20 µm wide.
    assert read(path).pixel_size == PixelSize(pytest.approx(20 / 2048, rel=1e-3), "Zeiss metadata")


def test_a_file_that_tells_nothing(tmp_path: Path) -> None:
    assert pixel_size(tmp_path) is None
    cv2.imwrite(str(tmp_path / "a.jpg"), GREY)
    assert read(tmp_path / "a.jpg").pixel_size is None


def test_the_microscope_goes_before_the_plain_resolution(tmp_path: Path) -> None:
    plain = {"resolution": (1e6, 1e6), "resolutionunit": "CENTIMETER"}
    assert pixel_size(tmp_path, (FEI, fei()), **plain) == PixelSize(pytest.approx(0.025), "FEI metadata")
    broken = pixel_size(tmp_path, (FEI, fei(pixel="?")), **plain)
    assert broken == PixelSize(pytest.approx(0.01), "TIFF resolution")


def test_the_size_holds_for_the_width_it_was_written_for(tmp_path: Path) -> None:
    assert pixel_size(tmp_path, (FEI, fei(width=1024))) is None
    resized = zeiss(("DP_IMAGE_STORE", "Store resolution = 128 * 96"), ("AP_IMAGE_PIXEL_SIZE", "x = 5 nm"))
    assert pixel_size(tmp_path, (ZEISS, resized)) is None


def test_metadata_of_the_first_page_hold_for_pages_of_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        data = fei()
        writer.write(GREY, extratags=[(FEI, 2, len(data), data, True)], metadata=None)
        writer.write(GREY, metadata=None)
        writer.write(GREY[:24, :32], metadata=None)
    sizes = [read(path, page=page).pixel_size for page in (1, 2, 3)]
    assert [size and size.um for size in sizes] == [pytest.approx(0.025), pytest.approx(0.025), None]


HOSTILE = {
    "not a number": (FEI, fei(pixel="wide")),
    "infinite": (FEI, fei(pixel="inf")),
    "nan": (FEI, fei(pixel="nan")),
    "negative": (FEI, fei(pixel="-1e-9")),
    "zero": (FEI, fei(pixel="0")),
    "a kilometre": (FEI, fei(pixel="1000")),
    "smaller than an atom": (FEI, fei(pixel="1e-30")),
    "section missing": (FEI, b"[Beam]\nHV=5000\0"),
    "key before any section": (FEI, b"PixelWidth=1e-9\0"),
    "a section that is a key": (FEI, b"[Image]\n[Scan]\nPixelWidth\0"),
    "no text": (FEI, bytes(range(128, 256))),
    "unit missing": (ZEISS, zeiss_pixel("5")),
    "unit unknown": (ZEISS, zeiss_pixel("5 parsec")),
    "empty": (ZEISS, b"\0"),
    "many lines": (ZEISS, zeiss_pixel("5 nm") + b"1\n" * MAX_TAG_BYTES),
    "cut short": (TVIPS, b"\x02\0\0\0"),
    "wrong magic": (OLYMPUS, b"XXX0" + bytes(100)),
}


@pytest.mark.parametrize("tag", HOSTILE.values(), ids=HOSTILE)
def test_what_is_broken_or_absurd_is_not_said(tmp_path: Path, tag: tuple[int, bytes]) -> None:
    assert pixel_size(tmp_path, tag) is None


def test_a_given_size_wins_and_tells_what_the_file_says_where_they_differ() -> None:
    found = PixelSize(0.05, "Zeiss metadata")
    assert chosen(None, found) is found
    assert chosen(None, None) is None
    assert chosen(0.05049, found) == PixelSize(0.05049, "given")
    assert chosen(0.0506, found) == PixelSize(0.0506, "given; Zeiss metadata: 0.05")
    assert chosen(2.0, None) == PixelSize(2.0, "given")
