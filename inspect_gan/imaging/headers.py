"""What the first bytes of an image file promise (format, size) and whether its last bytes arrived.

Decoders allocate what the header asks for and some fill missing rows with grey without a word, so both are
checked before a decoder runs. Only PNG has checksums: in the other formats a flipped bit may pass as another picture.
Layouts: PNG (ISO/IEC 15948), JPEG (ITU-T T.81), BMP (BITMAPINFOHEADER), WebP (RFC 9649), TIFF (6.0, and BigTIFF).
"""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import require_memory

HEAD_BYTES = 1 << 16  # enough for every header but a JPEG's behind a large EXIF block
FORMATS = ("PNG", "TIFF", "JPEG", "BMP", "WebP")
MAX_PIXELS = 2**30  # the largest image that is decoded, whatever its header announces
# More pixels than this for a byte of the file are not there: a block of 64 takes a bit or more of a JPEG's first scan,
# a run of up to 255 two bytes of a run-length coded BMP.
MAX_PIXELS_PER_BYTE = {"JPEG": 512, "BMP": 128}
# Each pass over a progressive JPEG costs time whatever its length; encoders make some ten of them.
MAX_SCANS = 100

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_FILES = {
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"v/1\x01": "an OpenEXR image",
    b"\0\0\0\x0cjP": "a JPEG 2000 image",
}

# A marker is not a stuffed 0xFF (00), a fill byte (FF) or a restart marker inside the entropy-coded data.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_JPEG_END = 0xD9
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEQUENTIAL = frozenset({0xC0, 0xC1})
_JPEG_SCAN = 0xDA
# Codes of ones alone, which no JPEG uses: a decoder may look ahead at them, and fails when it needs more than them.
_JPEG_FILLER = b"\xff\0" * 8


def sniff(head: bytes) -> str | None:
    """The format a file's first bytes belong to, one of `FORMATS`; None when it is none of them."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(_TIFF_MAGIC):
        return "TIFF"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"BM"):
        return "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    return None


def describe(head: bytes) -> str:
    """What a file that is no image looks like, in words, with its first bytes."""
    first = repr(head[:16])[1:]
    for magic, name in _OTHER_FILES.items():
        if head.startswith(magic):
            return f"{name} (first bytes {first})"
    has_control_bytes = re.search(rb"[\x00-\x08\x0e-\x1f]", head[:512])
    return f"{'unknown data' if has_control_bytes else 'text'} (first bytes {first})"


def declared_size(form: str, data: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels from the header of a PNG, JPEG, BMP or WebP; None when `data` ends before it.

    data: the whole file or its first bytes.
    """
    return _SIZES[form](data)


def is_complete(form: str, data: bytes) -> bool:
    """Whether a whole PNG, JPEG, BMP or WebP file holds every byte its structure announces.

    For PNG the checksum of every chunk must agree too; the other formats carry none.
    """
    return _COMPLETE[form](data)


def is_animated(form: str, data: bytes) -> bool:
    """Whether a PNG or WebP holds several frames (a decoder would silently take the first)."""
    if form == "PNG":
        return any(kind == b"acTL" for kind, _, _ in _png_chunks(data))
    return form == "WebP" and data[12:16] == b"VP8X" and len(data) > 20 and bool(data[20] & 0x02)


def png_density(data: bytes) -> tuple[int, int] | None:
    """Pixels per metre across and down that a PNG tells; None when it tells none in metres."""
    for kind, start, end in _png_chunks(data):
        if kind == b"pHYs" and end - start == 9 and data[end - 1] == 1:
            return int.from_bytes(data[start : start + 4], "big"), int.from_bytes(data[start + 4 : start + 8], "big")
    return None


def samples(form: str, data: bytes) -> tuple[int, int]:
    """(channels, bytes per sample) that a PNG, JPEG, BMP or WebP decodes to at most; 4 channels of a JPEG are CMYK."""
    if form == "PNG":
        depth, colour = data[24], data[25]
        return {0: 1, 2: 3, 4: 4, 6: 4}.get(colour, 3), 2 if depth == 16 else 1
    if form == "JPEG":
        return next((data[start + 7] for _, start in _jpeg_frames(data)), 1), 1
    return 4, 1


def for_decoder(form: str, data: bytes) -> bytes:
    """What a decoder is to be given of a complete file. A JPEG of one scan loses its end: with it, decoders take a scan
    that ends too early for a grey rest of the image; without it they fail."""
    if form != "JPEG":
        return data
    segments = list(_jpeg_segments(data))
    kinds = [marker for marker, _ in segments]
    if kinds.count(_JPEG_SCAN) != 1 or not _JPEG_SEQUENTIAL & set(kinds):
        return data
    end = next(start for marker, start in segments if marker == _JPEG_END) - 2
    return data[:end] + _JPEG_FILLER


def check_size(path: Path, height: int, width: int, channels: int, sample_bytes: int) -> None:
    """Raise InspectGanError unless the image has between 1 and `MAX_PIXELS` pixels and fits the memory that is left: as
    it is decoded, a copy of that, and as float32."""
    if not 0 < height * width <= MAX_PIXELS:
        raise InspectGanError(
            f"{path}: the header says {width} x {height} pixels, 1 to {MAX_PIXELS} in all can be read; "
            "export it again, cropped or in parts"
        )
    require_memory(path, height * width * channels * (2 * sample_bytes + 4))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the payload of every chunk whose payload and checksum lie inside `data`."""
    position = 8
    while position + 12 <= len(data):
        start = position + 8
        end = start + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            return
        yield data[position + 4 : start], start, end
        position = end + 4


def _png_complete(data: bytes) -> bool:
    view = memoryview(data)
    for kind, start, end in _png_chunks(data):
        if zlib.crc32(view[start - 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
    return False


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 26:
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, start of its payload) up to the end-of-image marker; payloads (thumbnails) are jumped over."""
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        start = found.end()
        yield found[1][0], start
        if found[1][0] == _JPEG_END:
            return
        position = start + max(int.from_bytes(data[start : start + 2], "big"), 2)


def _jpeg_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """The segments that tell the size."""
    return (
        (marker, start) for marker, start in _jpeg_segments(data) if marker in _JPEG_FRAMES and start + 8 <= len(data)
    )


def _jpeg_complete(data: bytes) -> bool:
    scans = 0
    for marker, _ in _jpeg_segments(data):
        scans += marker == _JPEG_SCAN
        if marker == _JPEG_END:
            return 0 < scans <= MAX_SCANS and _is_dense("JPEG", data)
    return False


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for _, start in _jpeg_frames(data):
        height = int.from_bytes(data[start + 3 : start + 5], "big")
        return height, int.from_bytes(data[start + 5 : start + 7], "big")
    return None


def _is_dense(form: str, data: bytes) -> bool:
    """Whether the file can hold all the pixels it announces."""
    height, width = _SIZES[form](data) or (0, 0)
    return height * width <= MAX_PIXELS_PER_BYTE[form] * len(data)


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 26:
        return None
    if int.from_bytes(data[14:18], "little") == 12:  # OS/2 header
        return int.from_bytes(data[20:22], "little"), int.from_bytes(data[18:20], "little")
    # A negative height means rows from the top down.
    height = abs(int.from_bytes(data[22:26], "little", signed=True))
    return height, int.from_bytes(data[18:22], "little")


def _bmp_complete(data: bytes) -> bool:
    size = _bmp_size(data)
    if size is None or len(data) < 34:
        return False
    first = int.from_bytes(data[10:14], "little")
    if first < 14 + int.from_bytes(data[14:18], "little"):  # the pixels would begin within the header
        return False
    if int.from_bytes(data[30:34], "little") in (1, 2) and data[14] != 12:  # run-length: rows have no fixed length
        return len(data) >= int.from_bytes(data[2:6], "little") and _is_dense("BMP", data)
    bits = int.from_bytes(data[24:26] if data[14] == 12 else data[28:30], "little")
    row = (size[1] * bits + 31) // 32 * 4
    return len(data) >= first + row * size[0]


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        height, width = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (27, 24))
        return height, width
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    height, width = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (28, 26))
    return height, width


def _webp_complete(data: bytes) -> bool:
    return len(data) >= int.from_bytes(data[4:8], "little") + 8


_SIZES = {"PNG": _png_size, "JPEG": _jpeg_size, "BMP": _bmp_size, "WebP": _webp_size}
_COMPLETE = {"PNG": _png_complete, "JPEG": _jpeg_complete, "BMP": _bmp_complete, "WebP": _webp_complete}
