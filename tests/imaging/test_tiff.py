"""TIFF: every common way to store grey and RGB comes back exactly; other contents are named and refused."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from inspect_gan.base_inspector import size_of
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import read, read_raw, read_size, to_float

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (13, 21), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (13, 21), dtype=np.uint16)
RGB = RNG.integers(0, 256, (13, 21, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (13, 21, 3), dtype=np.uint16)


def encode(path: Path, array: np.ndarray, codec: int) -> Path:
    """Write with OpenCV, which has codecs tifffile lacks; colour is RGB, codec a TIFF compression tag."""
    stored = array[..., ::-1] if array.ndim == 3 else array
    ok, data = cv2.imencode(".tif", np.ascontiguousarray(stored), [cv2.IMWRITE_TIFF_COMPRESSION, codec])
    assert ok
    path.write_bytes(data.tobytes())
    return path


def turned(path: Path, orientation: int) -> None:
    """Give a file of one page an orientation tag: its tags are written again, behind everything else."""
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    tags = [bytes(data[at : at + 12]) for at in range(start + 2, start + 2 + 12 * count, 12)]
    tags.append(struct.pack("<HHIHH", 274, 3, 1, orientation, 0))
    data += b"\0" * (len(data) % 2)
    struct.pack_into("<I", data, 4, len(data))
    data += struct.pack("<H", len(tags)) + b"".join(sorted(tags, key=lambda tag: struct.unpack_from("<H", tag)))
    path.write_bytes(bytes(data) + bytes(4))


def refused(path: Path, *words: str, page: int | None = None) -> None:
    with pytest.raises(InspectGanError) as caught:
        read_raw(path, page)
    for word in (str(path), ";", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("array", [GREY, GREY16, RGB, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
@pytest.mark.parametrize("codec", [1, 5, 8, 32773], ids=["none", "lzw", "deflate", "packbits"])
def test_tiff_compressions(tmp_path: Path, array: np.ndarray, codec: int) -> None:
    path = encode(tmp_path / "a.tif", array, codec)
    np.testing.assert_array_equal(read_raw(path).array, array.reshape(13, 21, -1))


@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"rowsperstrip": 4}, {"bigtiff": True}, {"byteorder": ">"}])
def test_tiff_storage_variants(tmp_path: Path, options: dict) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY16, photometric="minisblack", **options)
    raw = read_raw(tmp_path / "a.tif")
    np.testing.assert_array_equal(raw.array[..., 0], GREY16)
    assert raw.array.dtype == np.dtype(np.uint16), "native byte order"
    assert raw.array.dtype.isnative


@pytest.mark.parametrize("array", [RGB, RGB16], ids=["8", "16"])
def test_tiff_planar_colour(tmp_path: Path, array: np.ndarray) -> None:
    planes = np.moveaxis(array, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").array, array)


@pytest.mark.parametrize("array", [GREY, GREY16], ids=["8", "16"])
def test_tiff_white_is_zero_is_turned_round(tmp_path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").array[..., 0], np.iinfo(array.dtype).max - array)


@pytest.mark.parametrize("array", [GREY, GREY16], ids=["8", "16"])
def test_tiff_white_is_zero_with_lzw(tmp_path: Path, array: np.ndarray) -> None:
    path = encode(tmp_path / "a.tif", array, 5)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags["PhotometricInterpretation"].valueoffset
    data[tag] = 0
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(read_raw(path).array[..., 0], np.iinfo(array.dtype).max - array)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("codec", ["none", "lzw"])
@pytest.mark.parametrize("array", [GREY, GREY16, RGB, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
def test_tiff_orientation_is_not_applied(tmp_path: Path, array: np.ndarray, codec: str, orientation: int) -> None:
    path = encode(tmp_path / "a.tif", array, 5 if codec == "lzw" else 1)
    turned(path, orientation)
    np.testing.assert_array_equal(read_raw(path).array, array.reshape(13, 21, -1))


@pytest.mark.parametrize("orientation", [6, 8])
def test_tiff_orientation_is_not_applied_to_jpeg_compression(tmp_path: Path, orientation: int) -> None:
    ramp = np.tile(np.arange(0, 240, 3, dtype=np.uint8), (40, 1))
    path = encode(tmp_path / "a.tif", ramp, 7)
    turned(path, orientation)
    assert np.abs(read_raw(path).array[..., 0].astype(int) - ramp).max() < 16


@pytest.mark.parametrize(("photometric", "white"), [("minisblack", True), ("miniswhite", False)])
def test_tiff_of_one_bit_becomes_black_and_white(tmp_path: Path, photometric: str, white: bool) -> None:
    bits = GREY > 127
    tifffile.imwrite(tmp_path / "a.tif", bits, photometric=photometric)
    raw = read_raw(tmp_path / "a.tif")
    assert raw.bit_depth == 8
    np.testing.assert_array_equal(raw.array[..., 0], np.where(bits == white, 255, 0))


@pytest.mark.parametrize("scale", [257, 1], ids=["16-bit entries", "8-bit entries"])
def test_tiff_palette(tmp_path: Path, scale: int) -> None:
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=colours * np.uint16(scale))
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").array, colours.T[GREY])


def test_tiff_jpeg_compression(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 240, 3, dtype=np.uint8), (40, 1))
    raw = read_raw(encode(tmp_path / "a.tif", ramp, 7))
    assert np.abs(raw.array[..., 0].astype(int) - ramp).max() < 16


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_tiff_floats_in_unit_range(tmp_path: Path, dtype: type) -> None:
    array = np.linspace(0, 1, 12 * 7).reshape(12, 7).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    raw = read_raw(tmp_path / "a.tif")
    assert (raw.array.dtype, raw.bit_depth) == (np.float32, 32)
    np.testing.assert_array_equal(raw.array[..., 0], array.astype(np.float32))
    assert read(tmp_path / "a.tif").bit_depth == 32


@pytest.mark.parametrize(
    ("value", "word"),
    [(np.nan, "NaN"), (np.inf, "infinite"), (1.5, "1.5"), (-0.25, "-0.25"), (255.0, "255")],
)
def test_tiff_floats_outside_are_refused(tmp_path: Path, value: float, word: str) -> None:
    array = np.full((4, 5), 0.5, np.float32)
    array[1, 2] = value
    tifffile.imwrite(tmp_path / "a.tif", array)
    refused(tmp_path / "a.tif", word)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.complex64])
def test_tiff_of_other_types_is_refused(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), dtype))
    refused(tmp_path / "a.tif", np.dtype(dtype).name, "16-bit")


def test_tiff_pages(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    stack = RNG.integers(0, 256, (5, 9, 8), dtype=np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack")
    refused(path, "5 pages", "data.page=N")
    for page in (1, 3, 5):
        np.testing.assert_array_equal(read_raw(path, page).array[..., 0], stack[page - 1])
        np.testing.assert_array_equal(read(path, page=page).pixels, to_float(stack[page - 1])[..., None])
        assert read_size(path, page) == (9, 8)
    refused(path, "page 0", "1 to 5", page=0)
    refused(path, "page 6", "1 to 5", page=6)


def test_tiff_pages_with_lzw(tmp_path: Path) -> None:
    stack = [RNG.integers(0, 256, (9, 8), dtype=np.uint8) for _ in range(3)]
    ok, data = cv2.imencodemulti(".tif", stack, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert ok
    (tmp_path / "stack.tif").write_bytes(data.tobytes())
    np.testing.assert_array_equal(read_raw(tmp_path / "stack.tif", 2).array[..., 0], stack[1])


def test_tiff_thumbnail_is_not_a_page(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(GREY[::4, ::4], photometric="minisblack", subfiletype=1)
        writer.write(GREY, photometric="minisblack", subfiletype=0)
    np.testing.assert_array_equal(read_raw(path).array[..., 0], GREY)
    assert read_size(path) == GREY.shape


def test_tiff_pages_of_several_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(GREY[::4, ::4], photometric="minisblack", subfiletype=1)
        for page in (GREY[:5], GREY):
            writer.write(page, photometric="minisblack", subfiletype=0)
    assert read_size(path) == read_size(path, 1) == (5, 21)
    assert read_size(path, 2) == size_of(path, 2) == read_raw(path, 2).array.shape[:2] == GREY.shape
    with pytest.raises(InspectGanError, match="page 3 does not exist"):
        read_size(path, 3)


@pytest.mark.parametrize(
    ("shape", "options", "word"),
    [
        ((9, 8, 5), {"photometric": "minisblack", "planarconfig": "contig"}, "5 channels"),
        ((9, 8, 2), {"photometric": "minisblack", "planarconfig": "contig"}, "2 channels"),
        ((9, 8, 4), {"photometric": "separated"}, "SEPARATED"),
        ((4, 16, 16), {"volumetric": True, "tile": (4, 16, 16), "photometric": "minisblack"}, "4 slices"),
    ],
)
def test_tiff_of_other_contents_is_refused(tmp_path: Path, shape: tuple, options: dict, word: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), **options)
    refused(tmp_path / "a.tif", word)


def test_a_tiff_strip_that_was_never_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, rowsperstrip=5, metadata=None)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags["StripByteCounts"].valueoffset
    data = bytearray(path.read_bytes())
    data[tag + 2 : tag + 4] = b"\0\0"
    path.write_bytes(bytes(data))
    refused(path, "cut short")
