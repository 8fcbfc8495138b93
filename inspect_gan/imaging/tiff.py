"""Decode one page of a TIFF file to grey or RGB samples.

tifffile reads the structure and every compression the standard library can undo. Of the others (LZW and JPEG among
them) Pillow decodes 8-bit samples, where OpenCV takes damage for black, and OpenCV deeper ones, which Pillow lacks; so
no codec package is needed.
"""

import lzma
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, SAMPLEFORMAT

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.headers import check_size
from inspect_gan.imaging.metadata import Metadata, tiff_metadata

_ALPHA = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
_COLOURS: dict[int, int] = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
}
_BITS: dict[int, tuple[int, ...]] = {SAMPLEFORMAT.UINT: (1, 8, 16), SAMPLEFORMAT.IEEEFP: (16, 32, 64)}
# Undone here. The decoders' classes: they can be told how much to make of a strip at most.
_DECODERS: dict[int, type | None] = {
    COMPRESSION.NONE: None,
    COMPRESSION.PACKBITS: None,
    COMPRESSION.ADOBE_DEFLATE: zlib.decompressobj,  # type: ignore[dict-item]
    COMPRESSION.DEFLATE: zlib.decompressobj,  # type: ignore[dict-item]
    COMPRESSION.LZMA: lzma.LZMADecompressor,
}
# By the value of the orientation tag: from the image as it is to be shown to its stored rows and columns.
_UNTURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: np.rot90,
    7: lambda shown: shown[::-1, ::-1].swapaxes(0, 1),
    8: lambda shown: np.rot90(shown, -1),
}
MAX_PAGES = 10_000


def read_tiff(path: Path, page: int | None) -> tuple[np.ndarray, Metadata]:
    """(H, W, 1) or (H, W, 3) RGB in uint8, uint16 or a floating type, as the file stores it; what it tells beside.

    Page numbers start at 1. Thumbnails and reduced copies that a file keeps beside its image are not pages.
    One-bit images become 0 and 255, palettes become RGB, "white is zero" is turned round, alpha is dropped.

    Raises InspectGanError for damaged files, several pages without a choice, and samples of other kinds.
    """
    with _opened(path) as tif:
        index, chosen = _choose_page(path, _pages(path, tif), page)
        _check_page(path, chosen)
        _check_complete(path, chosen, tif.filehandle.size)
        _check_strips(path, chosen, tif.filehandle)
        return _decode(path, index, chosen), tiff_metadata(tif, chosen)


def tiff_size(path: Path, page: int | None) -> tuple[int, int]:
    """(height, width) in pixels of the page that `read_tiff` decodes, of several without a choice the first.

    Raises InspectGanError for damaged files and pages that do not exist.
    """
    with _opened(path) as tif:
        _, chosen = _choose_page(path, _pages(path, tif), page or 1)
        return int(chosen.imagelength), int(chosen.imagewidth)


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    try:
        with tifffile.TiffFile(path) as tif:
            yield tif
    except (InspectGanError, MemoryError):
        raise
    except Exception as error:  # tifffile meets damage with errors of many kinds
        raise InspectGanError(
            f"{path}: damaged or unusual TIFF ({error}); export it again as a plain TIFF or PNG"
        ) from error


def _pages(path: Path, tif: tifffile.TiffFile) -> list:
    """All pages. tifffile would follow a chain of them without end."""
    pages: dict[int, tifffile.TiffPage | tifffile.TiffFrame] = {}
    for page in tif.pages:
        if page.offset in pages:
            raise InspectGanError(f"{path}: its pages follow each other in a circle; export it again")
        if len(pages) == MAX_PAGES:
            raise InspectGanError(f"{path}: the file holds more than {MAX_PAGES} pages; save the one that is meant")
        pages[page.offset] = page
    return list(pages.values())


def _choose_page(path: Path, pages: list, page: int | None) -> tuple[int, tifffile.TiffPage]:
    """(position in the file, page) of the 1-based `page`, or of the only one."""
    images = [(i, p) for i, p in enumerate(pages) if not (p.is_reduced or p.is_mask)]
    if not images:
        raise InspectGanError(f"{path}: the TIFF file holds no image; export it again")
    if page is None and len(images) > 1:
        raise InspectGanError(
            f"{path}: the file holds {len(images)} pages; choose one with data.page=N (1 to "
            f"{len(images)}) in training, --page N in prepare pasted, or save the pages as separate images"
        )
    if page is not None and not 1 <= page <= len(images):
        raise InspectGanError(f"{path}: page {page} does not exist; choose a page from 1 to {len(images)}")
    index, chosen = images[(page or 1) - 1]
    return index, chosen.aspage()


def _check_page(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse what cannot become grey or RGB in [0, 1], before anything is decoded."""
    sample_bytes = math.ceil(max(page.bitspersample, 1) / 8)
    check_size(path, page.imagelength, page.imagewidth, max(page.samplesperpixel, 1), sample_bytes)
    if page.imagedepth != 1:
        raise InspectGanError(f"{path}: a volume of {page.imagedepth} slices in one page; save one slice as an image")
    if page.photometric not in _COLOURS:
        raise InspectGanError(
            f"{path}: unsupported colour model {_name(page.photometric)}; save the image as grey or RGB"
        )
    extra = page.samplesperpixel - _COLOURS[page.photometric]
    # Many writers of RGBA leave the fourth sample undeclared; a second grey sample is as likely to be data.
    declared = bool(page.extrasamples) and page.extrasamples[0] in _ALPHA
    is_alpha = extra == 1 and (declared or page.photometric == PHOTOMETRIC.RGB)
    if extra and not is_alpha:
        raise InspectGanError(f"{path}: {page.samplesperpixel} channels per pixel; save one grey channel or RGB")
    if page.bitspersample not in _BITS.get(page.sampleformat, ()):
        kind = f"{page.bitspersample}-bit samples ({_name(page.dtype or 'unknown type')})"
        raise InspectGanError(
            f"{path}: {kind} are not supported; save the image as 8-bit or 16-bit unsigned integers, or as "
            "floating point in [0, 1]"
        )


def _check_complete(path: Path, page: tifffile.TiffPage, file_bytes: int) -> None:
    """Every strip or tile must be there, written (neither offset nor length zero), and lie inside the file."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    missing = not segments or (not page.is_contiguous and len(segments) < math.prod(page.chunked))
    if missing or any(not start or not size or start + size > file_bytes for start, size in segments):
        raise InspectGanError(f"{path}: the TIFF file is cut short (pixel data missing); copy or export it again")


def _check_strips(path: Path, page: tifffile.TiffPage, file: tifffile.FileHandle) -> None:
    """Refuse strips and tiles that would unpack to more than twice their pixels (some writers pad them): tifffile
    unpacks whatever there is."""
    decoder = _DECODERS.get(page.compression)
    if decoder is None:
        return
    most = 2 * math.prod(page.chunks) * math.ceil(page.bitspersample / 8) + (1 << 16)
    for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(start)
        if len(decoder().decompress(file.read(size), most + 1)) > most:
            raise InspectGanError(f"{path}: a strip unpacks to more than its pixels; export it again as a plain TIFF")


def _decode(path: Path, index: int, page: tifffile.TiffPage) -> np.ndarray:
    has_codec = page.compression in _DECODERS and page.predictor in tifffile.TIFF.UNPREDICTORS
    if page.photometric == PHOTOMETRIC.YCBCR or not has_codec:
        decode = _decode_with_pillow if page.bitspersample <= 8 else _decode_with_opencv
        return decode(path, index, page)
    samples = page.asarray()
    if page.axes not in ("YX", "YXS", "SYX"):
        raise InspectGanError(f"{path}: axes {page.axes} are not an image's; save one plane as grey or RGB")
    samples = samples[..., None] if page.axes == "YX" else samples
    samples = np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples
    samples = samples[..., : _COLOURS[page.photometric]]
    if page.photometric == PHOTOMETRIC.PALETTE:
        return _palette(page)[samples[..., 0]]
    if samples.dtype == bool:
        samples = samples * np.uint8(255)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        samples = _inverted(samples)
    return np.ascontiguousarray(samples)


def _decode_with_pillow(path: Path, index: int, page: tifffile.TiffPage) -> np.ndarray:
    from PIL.TiffImagePlugin import TiffImageFile  # few files need it

    grey = _COLOURS[page.photometric] == 1 and page.photometric != PHOTOMETRIC.PALETTE
    try:
        with warnings.catch_warnings(), TiffImageFile(path) as image:
            warnings.simplefilter("ignore")
            image.seek(index)
            samples = _as_stored(np.asarray(image.convert("L" if grey else "RGB")), page)
    except Exception as error:  # libtiff's findings come as many kinds
        raise _undecodable(path, page) from error
    if samples.shape[:2] != (page.imagelength, page.imagewidth):
        raise _undecodable(path, page)
    return samples[..., None] if grey else samples


def _decode_with_opencv(path: Path, index: int, page: tifffile.TiffPage) -> np.ndarray:
    try:
        _, pages = cv2.imdecodemulti(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED, range=(index, index + 1))
    except cv2.error as error:
        raise _undecodable(path, page) from error
    samples = _as_stored(np.asarray(pages[0]), page) if len(pages) == 1 else np.empty(0)
    if samples.shape[:2] != (page.imagelength, page.imagewidth):
        raise _undecodable(path, page)
    samples = samples[..., None] if samples.ndim == 2 else samples[..., 2::-1]
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        samples = _inverted(samples)
    return np.ascontiguousarray(samples)


def _as_stored(samples: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """Rows and columns (H, W) or (H, W, C) as the file stores them: both decoders apply the orientation tag."""
    tag = page.tags.get("Orientation")
    undo = _UNTURNED.get(tag.value) if tag else None
    return undo(samples) if undo else samples


def _undecodable(path: Path, page: tifffile.TiffPage) -> InspectGanError:
    return InspectGanError(
        f"{path}: {_name(page.compression)} compression cannot be undone (damaged or not supported); save the image as "
        "an uncompressed TIFF or as PNG"
    )


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """(colours, 3) uint8. The file holds 16-bit entries; some writers fill only the low byte."""
    colours = np.asarray(page.colormap).T
    return (colours if colours.max() < 256 else colours >> 8).astype(np.uint8)


def _inverted(samples: np.ndarray) -> np.ndarray:
    white = 1.0 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
    return np.subtract(white, samples, dtype=samples.dtype)


def _name(tag_value: object) -> str:
    return str(getattr(tag_value, "name", tag_value))
