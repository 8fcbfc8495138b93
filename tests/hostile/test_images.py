"""No image file crashes the reader, takes memory without bound, or loses pixels without a word."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from PIL import Image as PillowImage

from inspect_gan import hardware
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import read, read_raw, read_size
from tests.hostile.conftest import damaged, refused, tries

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (21, 34), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (21, 34, 3), dtype=np.uint8)


def encoded(suffix: str, array: np.ndarray, *options: int) -> bytes:
    ok, data = cv2.imencode(suffix, array, list(options))
    assert ok
    return bytes(data.tobytes())


def tiff(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def pillow_tiff(mode: str, compression: str) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(COLOUR).convert(mode).save(file, "TIFF", compression=compression)
    return file.getvalue()


def originals() -> list[bytes]:
    found = [
        encoded(".jpg", GREY),
        encoded(".jpg", COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".bmp", COLOUR),
        encoded(".webp", GREY, cv2.IMWRITE_WEBP_QUALITY, 101),
        encoded(".webp", COLOUR, cv2.IMWRITE_WEBP_QUALITY, 50),
        tiff(GREY, tile=(16, 16)),
        tiff(GREY, rowsperstrip=4, compression="zlib"),
        tiff(GREY, compression="lzma"),
        tiff(GREY, bigtiff=True),
        tiff(np.stack([GREY, GREY]), photometric="minisblack"),
        tiff(GREY.astype(np.float32) / 255),
        pillow_tiff("RGB", "jpeg"),
        pillow_tiff("1", "group4"),
        pillow_tiff("P", "tiff_lzw"),
    ]
    for array in (GREY, COLOUR, GREY.astype(np.uint16) * 257):
        found += [encoded(".png", array), encoded(".tif", array, cv2.IMWRITE_TIFF_COMPRESSION, 5)]
    return found


@tries(120)
@given(damaged(originals()))
def test_damaged_images_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(data)
    refused(lambda: read_size(path), path)
    refused(lambda: read(path), path)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(width: int, height: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bmp(width: int, height: int, bits: int, compression: int, pixels: bytes, first: int = 1078) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(pixels), 0, 0, first) + info + bytes(1024) + pixels


def webp(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body)) + body


Tag = tuple[int, int, int, int]  # number, type, count, value


def raw_tiff(width: int, height: int, *more: Tag, pixels: bytes = bytes(200), **tags: int) -> bytes:
    """A TIFF of one strip behind its only directory; `more` replaces other tags."""
    values = {
        **{256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, tags.get("compression", 1))},
        **{262: (3, 1, 1), 273: (4, 1, 400), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, len(pixels))},
        **{tag: (kind, count, value) for tag, kind, count, value in more},
    }
    entries = [struct.pack("<HHII", tag, *value) for tag, value in sorted(values.items()) if value[1]]
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries)
    return (head + struct.pack("<I", tags.get("following", 0))).ljust(400, b"\0") + pixels


def jpeg(width: int, height: int) -> bytes:
    """64 x 64 pixels that claim to be more."""
    data = encoded(".jpg", np.arange(4096, dtype=np.uint8).reshape(64, 64))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


BIG = 100_000
TINY_TILES = ((322, 4, 1, 1), (323, 4, 1, 1), (324, 4, 1, 400), (325, 4, 1, 200))
BOMBS = {
    "png header": (png(BIG, BIG, bytes(99)), "100000 x 100000"),
    "bmp header": (bmp(BIG, BIG, 8, 0, bytes(99)), "100000 x 100000"),
    "webp header": (webp(BIG, BIG), "100000 x 100000"),
    "jpeg header": (jpeg(65_000, 65_000), "65000 x 65000"),
    "tiff header": (raw_tiff(BIG, BIG), "100000 x 100000"),
    "png rows": (png(BIG // 5, BIG // 5, bytes(99)), "cannot be decoded"),
    "jpeg of 64 rows for 30,000": (jpeg(30_000, 30_000), "cut short"),
    "bmp run of two bytes for 30,000 rows": (bmp(30_000, 30_000, 8, 1, b"\0\1"), "cut short"),
    "tiff strip": (raw_tiff(5, 5, compression=8, pixels=zlib.compress(bytes(1 << 24))), "more than its pixels"),
    "tiff tiles of one pixel": (raw_tiff(5000, 5000, *TINY_TILES), "cut short"),
    "tiff strips listed beyond its end": (raw_tiff(9, 9, (273, 4, 2**30, 8), (279, 4, 2**30, 8)), "TIFF"),
    "tiff pages in a circle": (raw_tiff(9, 9, following=8), "circle"),
    "tiff of 2^31 slices": (raw_tiff(9, 9, (32997, 4, 1, 2**31)), "slices"),
    "tiff of 65,535 channels": (raw_tiff(9, 9, (277, 3, 1, 65_535)), "65535"),
    "gif": (b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(20), "a GIF"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "JPEG 2000"),
    "icon": (b"\0\0\1\0\1\0" + bytes(60), "unknown data"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_headers_that_promise_too_much_are_refused_without_the_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="the peak of memory is known on Unix only")
    monkeypatch.setattr(hardware, "memory_left", lambda: 1e15)  # not what refuses them
    data, words = BOMBS[name]
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = refused(lambda: read_raw(path), path)
    assert said is not None
    assert words in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"


@pytest.mark.parametrize("length", range(8, 34))
def test_a_png_cut_anywhere_in_its_header_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", GREY)[:length])
    assert refused(lambda: read_raw(path), path) is not None


def test_text_in_a_png_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    path.write_bytes(png(34, 21, rows, chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(1 << 26)))))
    np.testing.assert_array_equal(read_raw(path).array[..., 0], GREY)


def test_an_image_that_memory_does_not_hold_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", COLOUR))
    monkeypatch.setattr(hardware, "memory_left", lambda: COLOUR.size * 5)
    assert "of memory" in str(refused(lambda: read_raw(path), path))
    monkeypatch.setattr(hardware, "memory_left", lambda: COLOUR.size * 7)
    assert refused(lambda: read_raw(path), path) is None


def test_memory_that_runs_out_while_decoding_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", GREY))

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cv2, "imdecode", fail)
    assert "not enough memory" in str(refused(lambda: read(path), path))


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_RST_INTERVAL, 3), (cv2.IMWRITE_JPEG_OPTIMIZE, 1)])
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_jpeg_that_ends_too_early_is_refused_whatever_its_last_bytes(
    tmp_path: Path, array: np.ndarray, options: tuple[int, ...]
) -> None:
    """Decoders fill the rest with grey."""
    path = tmp_path / "a.jpg"
    data = encoded(".jpg", np.tile(array, (4, 4, 1)[: array.ndim]), *options)
    path.write_bytes(data)
    assert refused(lambda: read_raw(path), path) is None
    plain = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    plain = plain[..., None] if plain.ndim == 2 else plain[..., ::-1]
    np.testing.assert_array_equal(read_raw(path).array, plain)
    path.write_bytes(data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9")
    assert "cannot be decoded" in str(refused(lambda: read_raw(path), path))


def test_a_jpeg_of_endless_passes_is_refused(tmp_path: Path) -> None:
    data = encoded(".jpg", np.tile(GREY, (9, 9)), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scan = data[data.rindex(b"\xff\xda") : -2]
    path = tmp_path / "a.jpg"
    for passes, words in ((50, None), (5000, "cut short")):
        path.write_bytes(data[:-2] + scan * passes + b"\xff\xd9")
        said = refused(lambda: read_raw(path), path)
        assert said is None if words is None else words in str(said)


def test_cmyk_is_refused_in_every_format(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(COLOUR).convert("CMYK").save(path, "JPEG")
    assert "CMYK" in str(refused(lambda: read_raw(path), path))
    path.write_bytes(pillow_tiff("CMYK", "tiff_lzw"))
    assert "SEPARATED" in str(refused(lambda: read_raw(path), path))


def test_samples_packed_into_12_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(raw_tiff(9, 9, (258, 3, 1, 12)))
    assert "12-bit" in str(refused(lambda: read_raw(path), path))


def test_damage_in_lzw_is_not_taken_for_black(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = pillow_tiff("L", "tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start = file.pages[0].dataoffsets[0]
    path.write_bytes(data[:start] + b"\xff" * 60 + data[start + 60 :])
    assert "cannot be undone" in str(refused(lambda: read_raw(path), path))


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"])
def test_colour_comes_back_whoever_decodes_it(tmp_path: Path, compression: str) -> None:
    smooth = cv2.GaussianBlur(COLOUR, (0, 0), 9)
    path = tmp_path / "a.tif"
    PillowImage.fromarray(smooth).save(path, "TIFF", compression=compression)
    assert np.abs(read_raw(path).array.astype(int) - smooth).max() <= (12 if compression == "jpeg" else 0)


def test_pixels_that_begin_within_a_bmps_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(bmp(8, 8, 8, 0, bytes(64), first=1))
    assert "damaged" in str(refused(lambda: read_raw(path), path))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_thin_images_are_read_and_then_refused_as_smaller_than_a_patch(tmp_path: Path, shape: tuple[int, int]) -> None:
    from inspect_gan.imaging.preprocess import Preprocess

    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", np.zeros(shape, np.uint8)))
    image = read(path)
    with pytest.raises(InspectGanError, match=r"a\.png is .* px, smaller than the patch of 32 px"):
        Preprocess(size=32, channels=1).image(image)
