"""The bar with text that electron microscopes write below a picture: it is no part of the surface.

What is found: rows at the bottom edge, over the full width, of one background with text on it, below a straight edge. A
bar is cut off rather too seldom than too often: what is not cut is inspected and seen, what is cut is not.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.image import REC601, Image


def _checked(value: Any) -> Any:
    if value not in ("none", "auto") and not (type(value) is int and value >= 1):
        raise PydanticCustomError("info_bar", "Input should be none, auto or a number of rows from 1")
    return value


# Not there, to be found in each image, or the rows at the bottom.
InfoBar = Annotated[Literal["none", "auto"] | int, BeforeValidator(_checked)]

HIGHEST = 1 / 3  # of the image
LOWEST = 12  # px
_LEVELS = 256  # grey levels from the darkest to the brightest pixel of the part that is searched
_NEAR = 8  # levels; the background is this constant, also after JPEG
_INK = 64  # levels from the background
_WRITTEN = 0.5  # share of a row that is background, at least, where text is on it
_BLANK = 0.9  # the same without
_FRAME = 8  # rows, the thickest line around a bar
_RAGGED = 2  # rows at the edge of the image that may hold anything: some microscopes leave picture there
_STROKES = 4  # in a row of text, at least


def info_bar_of(text: str) -> InfoBar:
    """What an option of a command says. Raises InspectGanError for anything but none, auto or a number of rows."""
    try:
        found: InfoBar = _checked(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise InspectGanError(f"the info bar is {text!r}: give none, auto or a number of rows from 1") from error
    return found


def find_info_bar(pixels: np.ndarray) -> int:
    """Rows of the bar at the bottom of (H, W, C) float32 pixels, 0 where there is none."""
    height = pixels.shape[0]
    bottom = pixels[height - int(height * HIGHEST) :]
    if len(bottom) <= LOWEST:
        return 0
    grey = bottom[..., 0] if bottom.shape[2] == 1 else bottom @ REC601
    low, high = float(grey.min()), float(grey.max())
    if low == high:
        return 0
    levels = ((grey - low) * ((_LEVELS - 1) / (high - low))).astype(np.uint8)[: len(grey) - _RAGGED]
    shares, modes = _modes(levels)
    edge = slice(len(levels) - LOWEST + _RAGGED, None)
    for background in np.unique(modes[edge][shares[edge] >= _BLANK]):
        top = _top(shares, modes, int(background))
        # The bar begins blank or with its frame, at most a row of transition after the picture.
        straight = 0 < top <= len(grey) - LOWEST and shares[top : top + 2].max() >= _BLANK
        if straight and _is_written(levels[top:], shares[top:], modes[top:], int(background)):
            return len(grey) - top
    return 0


def without_info_bar(image: Image, info_bar: InfoBar, told: int = 0) -> Image:
    """The image with its bar, if any, apart from the picture. told: the rows that the file's metadata tell, 0 for none.

    Raises InspectGanError where a fixed number of rows leaves no picture.
    """
    if info_bar == "none":
        return image
    rows = told or find_info_bar(image.pixels) if info_bar == "auto" else info_bar
    if rows >= image.height:
        raise InspectGanError(
            f"{image.path or 'the image'} has {image.height} rows, data.info_bar={rows} leaves none of them: take it "
            "out, or train with another data.info_bar"
        )
    picture = image.height - rows
    return replace(image, pixels=image.pixels[:picture], info_bar=image.pixels[picture:]) if rows else image


def _modes(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the share of its pixels that lie within `_NEAR` levels of the most frequent one, and that level."""
    rows = np.arange(len(levels), dtype=np.int64)[:, None] * _LEVELS
    counts = np.bincount((levels + rows).ravel(), minlength=len(levels) * _LEVELS).reshape(-1, _LEVELS)
    most = counts.argmax(axis=1)
    return (np.abs(levels.astype(np.int16) - most[:, None]) <= _NEAR).mean(axis=1), most


def _top(shares: np.ndarray, modes: np.ndarray, background: int) -> int:
    """The first row of what holds together at the bottom: rows of the background, and a frame's lines of another level
    between and above them."""
    inside = (np.abs(modes - background) <= _NEAR) & (shares >= _WRITTEN)
    top, lines = len(inside), 0
    for row in range(len(inside) - 1, -1, -1):
        if inside[row]:
            top, lines = row, 0
        elif shares[row] >= _BLANK and lines <= _FRAME:
            lines += 1
        else:
            break
    return top - lines if lines <= _FRAME else top


def _is_written(levels: np.ndarray, shares: np.ndarray, modes: np.ndarray, background: int) -> bool:
    """Whether a band is mostly background, some of its rows blank and some with strokes on them."""
    same = np.abs(modes - background) <= _NEAR
    ink = np.abs(levels.astype(np.int16) - background) > _INK
    strokes = (ink[:, 1:] & ~ink[:, :-1]).sum(axis=1)
    blank = (same & (shares >= _BLANK)).mean()
    return bool(same.mean() >= 0.7 and blank >= 0.1 and (same & (strokes >= _STROKES)).sum() >= 5)
