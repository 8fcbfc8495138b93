"""Read image and mask files: 8- and 16-bit PNG, TIFF, JPEG, BMP and WebP, and floating-point TIFF in [0, 1].

Conventions, the same for every format and for images and masks alike:

- The content decides the format, not the suffix.
- Pixels come in the order they are stored. An orientation tag (EXIF, TIFF) is not applied, so maps, masks and
  coordinates always refer to the stored rows and columns.
- Alpha is dropped. A colour file whose three channels are equal everywhere is grey.
- Samples keep the range of their type: a 12-bit camera that writes 16-bit files uses a sixteenth of [0, 1].
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np

from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import require_memory
from inspect_gan.imaging import headers
from inspect_gan.imaging.image import Image
from inspect_gan.imaging.info_bar import InfoBar, without_info_bar
from inspect_gan.imaging.metadata import NOTHING, Metadata, png_metadata
from inspect_gan.imaging.sidecar import sidecar_pixel_size
from inspect_gan.imaging.tiff import read_tiff, tiff_size

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp"})


@dataclass(frozen=True, eq=False)
class RawImage:
    """Samples as stored: (H, W, C) uint8, uint16 or float32 in [0, 1]; C = 1 (grey) or 3 (RGB)."""

    array: np.ndarray
    path: Path
    metadata: Metadata = NOTHING

    @property
    def bit_depth(self) -> int:
        """8, 16 or 32 (floating point) bits per sample."""
        return self.array.dtype.itemsize * 8


def read(path: Path | str, channels: int | None = None, page: int | None = None, info_bar: InfoBar = "none") -> Image:
    """Read an image as float32 in [0, 1] (see `to_float`).

    channels: None keeps the file's own; 1 turns colour into Rec. 601 luma; 3 repeats grey three times.
    page: which page of a multi-page TIFF, counted from 1. info_bar: what is cut off at the bottom.

    Raises InspectGanError as `read_raw` and `without_info_bar` do.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be None, 1 or 3, not {channels}")
    with _enough_memory(path):
        raw = read_raw(path, page)
        pixel_size = raw.metadata.pixel_size or sidecar_pixel_size(raw.path, raw.array.shape[1])
        image = Image(to_float(raw.array), raw.bit_depth, raw.path, pixel_size=pixel_size)
        image = without_info_bar(image, info_bar, raw.metadata.info_bar)
        return image if channels is None else image.converted(channels)


def read_raw(path: Path | str, page: int | None = None) -> RawImage:
    """Read an image with the samples its file stores.

    page: which page of a multi-page TIFF, counted from 1.

    Raises InspectGanError for a file that is missing, empty, no image, cut short, of more than 2^30 pixels or than
    memory holds, animated, of several pages without a choice, or whose samples are not 8-bit, 16-bit or floats in
    [0, 1].
    """
    path = Path(path)
    head = _head(path)
    form = _format(path, head)
    with _enough_memory(path):
        if form == "TIFF":
            array, metadata = read_tiff(path, page)
        else:
            if page not in (None, 1):
                raise InspectGanError(f"{path}: page {page} does not exist, a {form} file has one; leave the page out")
            array, metadata = _decode(path, form)
        if array.dtype.kind == "f":
            array = _checked_float(path, array)
        return RawImage(_drop_equal_channels(array), path, metadata)


def read_mask(path: Path | str, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a ground-truth mask: (H, W) bool, True (defective) above half of the sample type's range.

    shape: (H, W) of the image the mask belongs to.

    Raises InspectGanError as `read_raw` and `to_mask` do.
    """
    return to_mask(read_raw(path), shape)


def to_mask(raw: RawImage, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Samples of a mask file as (H, W) bool, True above half range.

    Raises InspectGanError when the size differs from `shape`, the mask is coloured, or it marks something but
    nothing above half range (labels 0 and 1 saved as 8-bit grey levels), which would read as "no defect".
    """
    height, width, channels = raw.array.shape
    if shape is not None and (height, width) != tuple(shape):
        turned = " (turned by 90 degrees: orientation tags are not applied)" if (width, height) == shape else ""
        raise InspectGanError(
            f"{raw.path}: the mask has {width} x {height} pixels, its image {shape[1]} x {shape[0]}{turned}; "
            "draw or export the mask at the image's own size"
        )
    if channels != 1:
        raise InspectGanError(
            f"{raw.path}: the mask is coloured; save it grey, 0 for normal and 255 for defective pixels"
        )
    half = 0.5 if raw.bit_depth == 32 else np.iinfo(raw.array.dtype).max // 2
    mask = raw.array[..., 0] > half
    if raw.array.any() and not mask.any():
        raise InspectGanError(
            f"{raw.path}: the mask's largest value is {raw.array.max()} and only values above {half} mark a "
            "defect; save 0 for normal and 255 for defective pixels"
        )
    return mask


def read_size(path: Path | str, page: int | None = None) -> tuple[int, int]:
    """(height, width) in pixels from the header alone.

    page: which page of a multi-page TIFF, counted from 1; by default the first.

    Raises InspectGanError for a file that is missing, empty, no image, or ends within its header, and for a page that
    does not exist.
    """
    path = Path(path)
    head = _head(path)
    form = _format(path, head)
    if form == "TIFF":
        return tiff_size(path, page)
    size = headers.declared_size(form, head)
    if size is None and len(head) == headers.HEAD_BYTES:
        size = headers.declared_size(form, _bytes(path))
    return size or _cut_short(path, form)


def to_float(array: np.ndarray) -> np.ndarray:
    """uint8 / 255 or uint16 / 65535 as float32 in [0, 1]; floating samples become float32 unscaled."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected uint8, uint16 or floating samples, not {array.dtype}")
    return np.divide(array, np.iinfo(array.dtype).max, dtype=np.float32)  # without a second image on the way


def to_samples(pixels: np.ndarray, bit_depth: int) -> np.ndarray:
    """The inverse of `to_float`: float32 in [0, 1] as uint8, uint16, or unchanged for a bit depth of 32."""
    if bit_depth == 32:
        return pixels
    return np.rint(pixels * (2**bit_depth - 1)).astype(np.uint8 if bit_depth == 8 else np.uint16)


@contextmanager
def _enough_memory(path: Path | str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise InspectGanError(
            f"{path}: not enough memory to decode it; crop or split the image, or use a larger machine"
        ) from None


def _head(path: Path) -> bytes:
    return _bytes(path, headers.HEAD_BYTES)


def _bytes(path: Path, count: int = -1) -> bytes:
    """The file's first `count` bytes, all of them for -1."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise InspectGanError(f"{path}: no such file, or no access to it; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise InspectGanError(f"{path}: a folder, not an image file; name one file in it")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise InspectGanError(f"{path}: not a regular file; name an image file")
    if count < 0:
        require_memory(path, status.st_size)
    try:
        with path.open("rb") as file:
            data = file.read(count)
    except OSError as error:
        raise InspectGanError(
            f"{path}: cannot be read ({error.strerror}); check its permissions and its disk"
        ) from error
    if not data:
        raise InspectGanError(f"{path}: the file is empty (0 bytes); copy or export it again")
    return data


def _format(path: Path, head: bytes) -> str:
    form = headers.sniff(head)
    if form is None:
        raise InspectGanError(
            f"{path}: not an image that can be read, it looks like {headers.describe(head)}; save it as "
            f"{', '.join(headers.FORMATS[:-1])} or {headers.FORMATS[-1]}"
        )
    return form


def _decode(path: Path, form: str) -> tuple[np.ndarray, Metadata]:
    """(H, W, 1) or (H, W, 3) RGB uint8 or uint16 of a PNG, JPEG, BMP or WebP file, and what it tells beside."""
    data = _bytes(path)
    size = headers.declared_size(form, data) or _cut_short(path, form)
    channels, sample_bytes = headers.samples(form, data)
    headers.check_size(path, *size, channels, sample_bytes)
    if not headers.is_complete(form, data):
        _cut_short(path, form)
    if form == "JPEG" and channels == 4:
        raise InspectGanError(f"{path}: the colours are CMYK; save the image as grey or RGB")
    if headers.is_animated(form, data):
        raise InspectGanError(f"{path}: an animation of several frames; save one frame as an image")
    try:
        given = np.frombuffer(headers.for_decoder(form, data), np.uint8)
        decoded = cv2.imdecode(given, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        decoded = None
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        raise InspectGanError(f"{path}: the {form} data cannot be decoded (damaged or unusual); export it again")
    array = decoded[..., None] if decoded.ndim == 2 else decoded[..., 2::-1]
    return array, png_metadata(data) if form == "PNG" else NOTHING


def _cut_short(path: Path, form: str) -> NoReturn:
    raise InspectGanError(f"{path}: the {form} file is damaged or cut short; copy or export it again")


def _checked_float(path: Path, array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise InspectGanError(f"{path}: holds NaN or infinite values; replace them before inspection")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise InspectGanError(
            f"{path}: holds values from {low:g} to {high:g}, floating-point images must lie in [0, 1]; "
            "divide by the full range or save as 16-bit integers"
        )
    return array


def _drop_equal_channels(array: np.ndarray) -> np.ndarray:
    if array.shape[2] == 3 and all(np.array_equal(array[..., 0], array[..., c]) for c in (1, 2)):
        array = array[..., :1]
    return np.ascontiguousarray(array)
