"""How large a pixel is."""

import math
from dataclasses import dataclass

# What is no scale of a microscope or camera, but a slip of the pen.
SMALLEST_UM, LARGEST_UM = 1e-6, 1000.0
# Resolutions without a microscope's name beside them are mostly those of a screen, a printer or a scanner (72 to some
# 10 000 dpi). Only pixels finer than all of these, 25 400 dpi, are taken for a scale.
LARGEST_PLAIN_UM = 1.0
TOLERANCE = 0.01  # two scales that differ by no more are the same


@dataclass(frozen=True)
class PixelSize:
    """um: side of a pixel in µm; of a pixel that is not square, the root of its area. origin: what says so."""

    um: float
    origin: str


def pixel_size(width_um: float, height_um: float, origin: str) -> PixelSize | None:
    """None for what is not finite or no plausible size of a pixel."""
    if not all(SMALLEST_UM <= side <= LARGEST_UM for side in (width_um, height_um)):  # NaN is not either
        return None
    return PixelSize(width_um if width_um == height_um else math.sqrt(width_um * height_um), origin)


def plain_pixel_size(width_um: float, height_um: float, origin: str) -> PixelSize | None:
    """Of a resolution that any program may have written: None unless pixels are square and at most
    `LARGEST_PLAIN_UM`."""
    square = abs(width_um - height_um) <= TOLERANCE * height_um
    return pixel_size(width_um, height_um, origin) if square and width_um <= LARGEST_PLAIN_UM else None


def chosen(given_um: float | None, found: PixelSize | None) -> PixelSize | None:
    """The given size before the one found in the image's file; `origin` tells where they differ."""
    if given_um is None:
        return found
    if found is None or abs(given_um - found.um) <= TOLERANCE * found.um:
        return PixelSize(given_um, "given")
    return PixelSize(given_um, f"given; {found.origin}: {found.um:.4g}")
