"""What files of microscopes tell about their images beside the pixels: how large a pixel is, what is no picture.

tifffile parses the vendors' tags. Whatever is broken, too long or not plausible there counts as not said: an image is
never refused for it. Every vendor's pixel size holds for the file's own width only, so that it is dropped where the
metadata name another one (a picture that was resized afterwards).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import tifffile
from tifffile.tifffile import imagej_description_metadata

from inspect_gan.imaging import headers
from inspect_gan.imaging.info_bar import HIGHEST
from inspect_gan.imaging.pixel_size import PixelSize, pixel_size, plain_pixel_size

MAX_TAG_BYTES = 1 << 17  # a microscope's tag is some 40 kB, and parsers may take the square of its length

_FEI = (34680, 34682)
_ZEISS = 34118
_TVIPS = 37706
_OLYMPUS = (33471, 33560)
_ZEISS_SCREEN = 1024  # px, the width that a Zeiss "Pixel Size" without "Image" before it holds for

_UM: dict[str, float] = {"fm": 1e-9, "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
_SPELLINGS = {"micron": "um", "microns": "um", "micrometer": "um", "nanometer": "nm", "angstrom": "Å"}


@dataclass(frozen=True)
class Metadata:
    """pixel_size: None where the file tells none. info_bar: rows of it at the bottom, 0 where the file tells none."""

    pixel_size: PixelSize | None = None
    info_bar: int = 0


NOTHING = Metadata()


def tiff_metadata(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> Metadata:
    """Of one page. What microscopes say stands on the first page and holds for pages of its size."""
    first = tif.pages.first
    same = (first.imagelength, first.imagewidth) == (page.imagelength, page.imagewidth)
    readers = (_fei, _zeiss, _tvips, _olympus, _imagej, _plain) if same else (_plain,)
    found, info_bar = None, 0
    for read in readers:
        with suppress(Exception):  # nothing there, or damage of any kind
            found = found or read(page if read is _plain else first)
    if same:
        with suppress(Exception):
            info_bar = _fei_info_bar(first)
    return Metadata(found, info_bar)


def png_metadata(data: bytes) -> Metadata:
    """data: a complete PNG file."""
    density = headers.png_density(data)
    if density is None or 0 in density:
        return NOTHING
    return Metadata(plain_pixel_size(1e6 / density[0], 1e6 / density[1], "PNG resolution"))


def _fei(page: tifffile.TiffPage) -> PixelSize | None:
    """FEI, Thermo Fisher: `PixelWidth` and `PixelHeight` in m."""
    tags = _tags(page, *_FEI)
    scan, width = tags["Scan"], tags.get("Image", {}).get("ResolutionX", page.imagewidth)
    if width != page.imagewidth:
        return None
    return pixel_size(scan["PixelWidth"] * 1e6, scan.get("PixelHeight", scan["PixelWidth"]) * 1e6, "FEI metadata")


def _fei_info_bar(page: tifffile.TiffPage) -> int:
    """What the file has more rows than were scanned."""
    image = _tags(page, *_FEI)["Image"]
    rows = page.imagelength - int(image["ResolutionY"])
    return rows if image["ResolutionX"] == page.imagewidth and 0 < rows <= HIGHEST * page.imagelength else 0


def _zeiss(page: tifffile.TiffPage) -> PixelSize | None:
    tags = _tags(page, _ZEISS)
    stored = str(tags.get("dp_image_store", ("", ""))[1]).partition("*")[0].strip()
    if stored.isdecimal() and int(stored) != page.imagewidth:
        return None
    name = "ap_image_pixel_size"
    if name not in tags and page.imagewidth == _ZEISS_SCREEN:
        name = "ap_pixel_size"
    _, number, unit = tags[name]
    um = number * micrometres(unit)
    return pixel_size(um, um, "Zeiss metadata")


def _tvips(page: tifffile.TiffPage) -> PixelSize | None:
    """In nm, since version 2 of the header."""
    tags = _tags(page, _TVIPS)
    return pixel_size(tags["PixelSizeX"] * 1e-3, tags["PixelSizeY"] * 1e-3, "TVIPS metadata")


def _olympus(page: tifffile.TiffPage) -> PixelSize | None:
    """In m."""
    tags = _tags(page, *_OLYMPUS)
    return pixel_size(tags["pixelsizex"] * 1e6, tags["pixelsizey"] * 1e6, "Olympus SIS metadata")


def _imagej(page: tifffile.TiffPage) -> PixelSize | None:
    """The resolution counts pixels for the unit of the description. Centimetres and inches are what any program
    writes."""
    description = page.imagej_description
    if description is None or len(description) > MAX_TAG_BYTES:
        return None
    unit = str(imagej_description_metadata(description)["unit"]).replace("\\u00B5", "µ")
    if unit in ("cm", "inch"):
        return None
    width, height = (micrometres(unit) / density for density in _densities(page))
    return pixel_size(width, height, "ImageJ metadata")


def _plain(page: tifffile.TiffPage) -> PixelSize | None:
    unit = page.tags.valueof("ResolutionUnit", default=2)
    um = {2: 25_400, 3: 10_000}[int(unit)]
    width, height = (um / density for density in _densities(page))
    return plain_pixel_size(width, height, "TIFF resolution")


def _tags(page: tifffile.TiffPage, *codes: int) -> dict[str, Any]:
    """What tifffile makes of tags with names and values."""
    found: dict[str, Any] = {}
    for code in codes:
        tag = page.tags.get(code)
        if tag is not None and tag.valuebytecount <= MAX_TAG_BYTES and isinstance(tag.value, dict):
            found |= tag.value
    return found


def _densities(page: tifffile.TiffPage) -> Iterator[float]:
    """Pixels per unit, across and down."""
    for name in ("XResolution", "YResolution"):
        numerator, denominator = page.tags[name].value
        yield numerator / denominator


def micrometres(unit: str) -> float:
    """Raises KeyError for a unit that is none of length."""
    plain = unit.replace("µ", "u").replace("μ", "u")  # the micro sign and the Greek letter
    return _UM[_SPELLINGS.get(plain, plain)]
