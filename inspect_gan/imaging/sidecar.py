"""The text files that Hitachi's and JEOL's microscopes leave beside an image, of the same name but for `.txt`.

As for tags in `metadata`: what is broken or not plausible counts as not said, and the size holds for the width that the
text names.
"""

import codecs
import re
from contextlib import suppress
from pathlib import Path

from inspect_gan.imaging.metadata import micrometres
from inspect_gan.imaging.pixel_size import PixelSize, pixel_size

MAX_BYTES = 1 << 16  # they have some kB

_LENGTH = re.compile(r"([\d.]+)\s*(\S+)")


def sidecar_pixel_size(image: Path, width: int) -> PixelSize | None:
    """image: its file. width: px."""
    beside = image.with_suffix(".txt")
    with suppress(Exception):  # nothing there, or damage of any kind
        if beside.is_file():
            with beside.open("rb") as file:
                text = _decoded(file.read(MAX_BYTES))
            return (_hitachi if "[SemImageFile]" in text else _jeol)(text, width)
    return None


def _decoded(data: bytes) -> str:
    """Some microscopes write UTF-16, with its mark."""
    return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin-1")


def _hitachi(text: str, width: int) -> PixelSize | None:
    """`PixelSize` in nm, `DataSize` as "1280x960"."""
    values = dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
    if int(values.get("DataSize", f"{width}x").partition("x")[0]) != width:
        return None
    um = float(values["PixelSize"]) * 1e-3
    return pixel_size(um, um, "Hitachi text file")


def _jeol(text: str, width: int) -> PixelSize | None:
    """The scale bar: `$$SM_MICRON_BAR` px stand for `$$SM_MICRON_MARKER`, as "5um"."""
    values = dict(line.strip().split(None, 1) for line in text.splitlines() if len(line.split()) > 1)
    if int(values.get("$CM_FULL_SIZE", f"{width} ").split()[0]) != width:
        return None
    marker = _LENGTH.fullmatch(values["$$SM_MICRON_MARKER"].strip())
    assert marker is not None
    um = float(marker[1]) * micrometres(marker[2]) / float(values["$$SM_MICRON_BAR"])
    return pixel_size(um, um, "JEOL text file")
