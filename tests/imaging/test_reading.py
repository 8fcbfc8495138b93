"""Reading: pixels come back exactly as written; what cannot be read is named, not guessed."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspect_gan.errors import InspectGanError, printable
from inspect_gan.imaging import (
    IMAGE_SUFFIXES,
    headers,
    read,
    read_mask,
    read_raw,
    read_size,
    to_float,
    write_png,
)

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (13, 21), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (13, 21), dtype=np.uint16)
RGB = RNG.integers(0, 256, (13, 21, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (13, 21, 3), dtype=np.uint16)
LOSSLESS_WEBP = [cv2.IMWRITE_WEBP_QUALITY, 101]


def encode(path: Path, array: np.ndarray, options: tuple[int, ...] | list[int] = ()) -> Path:
    """Write with OpenCV, colour given as RGB."""
    stored = array[..., ::-1] if array.ndim == 3 and array.shape[2] == 3 else array
    ok, data = cv2.imencode(path.suffix, np.ascontiguousarray(stored), list(options))
    assert ok
    path.write_bytes(data.tobytes())
    return path


def chunk(kind: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(kind + payload)
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refused(path: Path, *words: str, page: int | None = None) -> None:
    """The file cannot be read; the message is one line with the path, the given words and a remedy."""
    with pytest.raises(InspectGanError) as caught:
        read_raw(path, page)
    for word in (printable(path), ";", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("array", [GREY, GREY16, RGB, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_files_come_back_exactly(tmp_path: Path, array: np.ndarray, suffix: str) -> None:
    raw = read_raw(encode(tmp_path / f"a{suffix}", array))
    assert raw.array.dtype == array.dtype
    assert raw.bit_depth == 8 * array.dtype.itemsize
    np.testing.assert_array_equal(raw.array, array.reshape(13, 21, -1))


@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize(("suffix", "options"), [(".bmp", []), (".webp", LOSSLESS_WEBP)])
def test_eight_bit_formats_come_back_exactly(
    tmp_path: Path, array: np.ndarray, suffix: str, options: list[int]
) -> None:
    raw = read_raw(encode(tmp_path / f"a{suffix}", array, options))
    np.testing.assert_array_equal(raw.array, array.reshape(13, 21, -1))


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_grey_and_colour(tmp_path: Path, progressive: int) -> None:
    ramp = np.tile(np.arange(0, 240, 3, dtype=np.uint8), (40, 1))
    colour = np.dstack([ramp, np.full_like(ramp, 60), ramp[:, ::-1]])
    for array in (ramp, colour):
        path = encode(tmp_path / "a.jpg", array, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
        raw = read_raw(path)
        assert read_size(path) == (40, 80)
        assert np.abs(raw.array.squeeze().astype(int) - array).max() < 16


def test_orientation_tag_is_not_applied(tmp_path: Path) -> None:
    image = np.tile(np.arange(32, dtype=np.uint8) * 4, (16, 1))
    data = encode(tmp_path / "plain.jpg", image).read_bytes()
    turned = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + b"\0\0\0\0"
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(turned) + 2) + turned + data[2:])
    np.testing.assert_array_equal(read_raw(path).array, read_raw(tmp_path / "plain.jpg").array)
    assert read_size(path) == (16, 32)


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.png", GREY16)
    renamed = path.rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_raw(renamed).array[..., 0], GREY16)


@pytest.mark.parametrize("name", ["grüße 測定 #1 [x].png", "ñ/Ω.tif"])
def test_any_path_can_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    np.testing.assert_array_equal(read_raw(encode(path, GREY)).array[..., 0], GREY)
    np.testing.assert_array_equal(read_raw(str(path)).array[..., 0], GREY)


@pytest.mark.parametrize("array", [RGB, RGB16], ids=["8", "16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped(tmp_path: Path, array: np.ndarray, suffix: str) -> None:
    alpha = np.arange(13 * 21, dtype=array.dtype).reshape(13, 21, 1)
    bgra = np.concatenate([array[..., ::-1], alpha], axis=2)
    np.testing.assert_array_equal(read_raw(encode(tmp_path / f"a{suffix}", bgra)).array, array)


def test_grey_with_alpha_is_grey(tmp_path: Path) -> None:
    pairs = np.dstack([GREY, 255 - GREY])
    path = tmp_path / "a.png"
    path.write_bytes(png(21, 13, 8, 4, b"".join(b"\0" + row.tobytes() for row in pairs)))
    np.testing.assert_array_equal(read_raw(path).array, GREY[..., None])
    tifffile.imwrite(
        tmp_path / "a.tif",
        pairs,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").array, GREY[..., None])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_colour_file_with_equal_channels_is_grey(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a{suffix}", np.dstack([GREY] * 3))
    np.testing.assert_array_equal(read_raw(path).array, GREY[..., None])
    almost = np.dstack([GREY] * 3)
    almost[4, 5, 2] ^= 1
    assert read_raw(encode(tmp_path / f"b{suffix}", almost)).array.shape == (13, 21, 3)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_of_few_bits_fills_eight(tmp_path: Path, depth: int) -> None:
    levels = RNG.integers(0, 1 << depth, (4, 8))
    rows = b""
    for row in levels:
        rows += b"\0" + int("".join(f"{value:0{depth}b}" for value in row), 2).to_bytes(depth, "big")
    grey, palette = tmp_path / "grey.png", tmp_path / "palette.png"
    grey.write_bytes(png(8, 4, depth, 0, rows))
    np.testing.assert_array_equal(read_raw(grey).array[..., 0], levels * 255 // ((1 << depth) - 1))
    colours = RNG.integers(0, 256, (1 << depth, 3), dtype=np.uint8)
    palette.write_bytes(png(8, 4, depth, 3, rows, extra=chunk(b"PLTE", colours.tobytes())))
    np.testing.assert_array_equal(read_raw(palette).array, colours[levels])


# Refusals


def test_page_of_a_single_image(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(read_raw(path, 1).array[..., 0], GREY)
    refused(path, "page 2", page=2)


def test_missing_file_folder_and_empty_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.png", "no such file")
    refused(tmp_path, "folder")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "empty")
    refused(tmp_path / ("x" * 300), "no such file")
    refused(tmp_path / "nul\0.png", "no such file")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "not a regular file")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"hello world, no image", "text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "text (first bytes 'version https://"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04" + bytes(20), "zip"),
        (bytes(64), "unknown data"),
        (b"BA", "text"),
    ],
)
def test_files_of_other_kinds_are_described(tmp_path: Path, data: bytes, word: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", word, "PNG, TIFF, JPEG, BMP or WebP")
    with pytest.raises(InspectGanError, match="not an image"):
        read_size(tmp_path / "a.png")


FORMATS: dict[str, list[int]] = {".png": [], ".jpg": [], ".bmp": [], ".webp": LOSSLESS_WEBP, ".tif": []}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_truncation_is_refused(tmp_path: Path, suffix: str) -> None:
    data = encode(tmp_path / f"whole{suffix}", RGB, FORMATS[suffix]).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in range(1, len(data), 7):
        path.write_bytes(data[:length])
        refused(path)
    path.write_bytes(data[:-1])
    if suffix != ".tif":  # a TIFF may end in its directory, whose last bytes nobody needs
        refused(path, "cut short")


def test_a_thumbnail_does_not_hide_a_truncated_jpeg(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.jpg", RGB).read_bytes()
    thumbnail = encode(tmp_path / "thumb.jpg", GREY[:4, :4]).read_bytes()
    path = tmp_path / "b.jpg"
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    path.write_bytes(with_thumbnail)
    np.testing.assert_array_equal(read_raw(path).array, read_raw(tmp_path / "a.jpg").array)
    assert read_size(path) == (13, 21)
    path.write_bytes(with_thumbnail[:-40])
    refused(path, "cut short")


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path / "a.png", GREY).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(bytes(data))
    refused(tmp_path / "a.png", "damaged")


def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    side = 1 << 16
    (tmp_path / "a.png").write_bytes(png(side, side, 8, 0, bytes(1000)))
    refused(tmp_path / "a.png", f"{side} x {side}", str(headers.MAX_PIXELS))
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        for name in ("ImageWidth", "ImageLength"):
            tif.pages[0].tags[name].overwrite(side - 1)
    refused(tmp_path / "a.tif", str(side - 1), str(headers.MAX_PIXELS))


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_images_without_pixels_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png(*size, 8, 0, b""))
    refused(tmp_path / "a.png")


def test_animations_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1, 1, 8, 0, b"\0\7", extra=chunk(b"acTL", struct.pack(">II", 2, 0))))
    refused(tmp_path / "a.png", "animation")


# Sizes and conversion


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (40, 2)])
def test_size_from_the_header_is_the_decoded_size(tmp_path: Path, suffix: str, shape: tuple[int, int]) -> None:
    path = encode(tmp_path / f"a{suffix}", np.full(shape, 90, np.uint8), FORMATS[suffix])
    assert read_size(path) == shape == read_raw(path).array.shape[:2]


@pytest.mark.parametrize("channels", [3, 4])
def test_lossy_webp(tmp_path: Path, channels: int) -> None:
    ramp = np.tile(np.arange(0, 240, 3, dtype=np.uint8), (40, 1))
    stored = np.dstack([ramp] * channels)
    path = encode(tmp_path / "a.webp", stored, [cv2.IMWRITE_WEBP_QUALITY, 90])
    assert read_size(path) == (40, 80) == read_raw(path).array.shape[:2]
    assert np.abs(read_raw(path).array.astype(int) - stored[..., :3]).max() < 40
    path.write_bytes(path.read_bytes()[:-3])
    refused(path, "cut short")


def bmp(info: bytes, palette: bytes, pixels: bytes) -> bytes:
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + palette + pixels


def test_bmp_variants(tmp_path: Path) -> None:
    """The old OS/2 header, rows from the top down, and run-length coding, each 3 x 2 pixels."""
    path = tmp_path / "a.bmp"
    expected = [[10, 20, 30], [40, 50, 60]]
    rows = [bytes(row) + b"\0" for row in expected]
    levels = range(256)
    windows = b"".join(bytes([level] * 3 + [0]) for level in levels)
    run = b"".join(bytes([1, value]) for value in expected[1]) + b"\0\0"
    run += b"".join(bytes([1, value]) for value in expected[0]) + b"\0\1"
    variants = {
        "os2": bmp(struct.pack("<IHHHH", 12, 3, 2, 1, 8), b"".join(bytes([v] * 3) for v in levels), rows[1] + rows[0]),
        "top down": bmp(struct.pack("<IiiHHIIiiII", 40, 3, -2, 1, 8, 0, 0, 0, 0, 0, 0), windows, rows[0] + rows[1]),
        "run length": bmp(struct.pack("<IiiHHIIiiII", 40, 3, 2, 1, 8, 1, len(run), 0, 0, 0, 0), windows, run),
    }
    for name, data in variants.items():
        path.write_bytes(data)
        assert read_size(path) == (2, 3), name
        assert read_raw(path).array[..., 0].tolist() == expected, name
        path.write_bytes(data[:-1])
        refused(path, "cut short")


def test_size_behind_a_long_comment(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.jpg", GREY).read_bytes()
    comments = (b"\xff\xfe" + struct.pack(">H", 60_002) + bytes(60_000)) * 2
    (tmp_path / "a.jpg").write_bytes(data[:2] + comments + data[2:])
    assert read_size(tmp_path / "a.jpg") == GREY.shape


@given(arrays(st.sampled_from([np.uint8, np.uint16]), (5, 4)))
def test_to_float_spans_the_unit_range_and_loses_nothing(array: np.ndarray) -> None:
    values = to_float(array)
    top = np.iinfo(array.dtype).max
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.max() <= 1
    np.testing.assert_array_equal(np.rint(values.astype(np.float64) * top), array)


def test_to_float_ends_and_refusals() -> None:
    assert to_float(np.array([0, 255], np.uint8)).tolist() == [0, 1]
    assert to_float(np.array([0, 65535], np.uint16)).tolist() == [0, 1]
    assert to_float(np.array([0.25])).dtype == np.float32
    with pytest.raises(ValueError, match="int32"):
        to_float(np.zeros(3, np.int32))


def test_channels_can_be_forced(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    write_png(tmp_path / "rgb.png", colours)
    luma = read(tmp_path / "rgb.png", channels=1).pixels
    assert luma.shape == (1, 4, 1)
    np.testing.assert_allclose(luma[0, :, 0], [0.299, 0.587, 0.114, 1.0], atol=1e-6)
    assert luma.max() <= 1
    write_png(tmp_path / "grey.png", GREY)
    replicated = read(tmp_path / "grey.png", channels=3).pixels
    np.testing.assert_array_equal(replicated, np.dstack([to_float(GREY)] * 3))
    image = read(tmp_path / "grey.png")
    assert (image.height, image.width, image.channels, image.bit_depth) == (13, 21, 1, 8)
    assert image.path == tmp_path / "grey.png"
    with pytest.raises(ValueError, match="channels"):
        read(tmp_path / "grey.png", channels=2)


def test_suffixes_are_lower_case_with_dot() -> None:
    assert {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp"} == IMAGE_SUFFIXES


# Masks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mask_is_what_lies_above_half_range(tmp_path: Path, dtype: type) -> None:
    half = np.iinfo(dtype).max // 2
    write_png(tmp_path / "m.png", np.array([[0, half, half + 1, np.iinfo(dtype).max]], dtype))
    mask = read_mask(tmp_path / "m.png", (1, 4))
    assert mask.dtype == bool
    assert mask.tolist() == [[False, False, True, True]]


def test_mask_of_one_bit_and_of_floats(tmp_path: Path) -> None:
    bits = GREY > 127
    tifffile.imwrite(tmp_path / "bits.tif", bits, photometric="minisblack")
    tifffile.imwrite(tmp_path / "floats.tif", bits.astype(np.float32))
    for name in ("bits.tif", "floats.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, bits.shape), bits)


def test_empty_mask_is_allowed(tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.zeros((3, 4), np.uint8))
    assert not read_mask(tmp_path / "m.png").any()


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(InspectGanError, match="4 x 3 pixels, its image 5 x 3;"):
        read_mask(tmp_path / "m.png", (3, 5))
    with pytest.raises(InspectGanError, match="turned by 90 degrees"):
        read_mask(tmp_path / "m.png", (4, 3))


def test_mask_that_would_silently_be_empty_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.array([[0, 1, 1]], np.uint8))
    with pytest.raises(InspectGanError, match="largest value is 1 "):
        read_mask(tmp_path / "m.png")


def test_coloured_mask_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
    with pytest.raises(InspectGanError, match="coloured"):
        read_mask(tmp_path / "m.png")
