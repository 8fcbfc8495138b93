"""Which part of the normal images is kept from training, to calibrate thresholds and to choose models.

Whole regions or whole images are held out: random patches of one image overlap, so a random choice of patches
would leak training pixels into the held-out part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inspect_gan.errors import InspectGanError

Mode = Literal["auto", "image", "band"]
MANY_IMAGES = 20  # from here on, whole images can be spared


@dataclass(frozen=True)
class Region:
    """A rectangle of image number `image`; all lengths in pixels."""

    image: int
    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Split:
    """Regions to draw training patches from, and regions that training never sees."""

    train: tuple[Region, ...]
    held_out: tuple[Region, ...]


def split(
    sizes: Sequence[tuple[int, int]], patch: int, mode: Mode = "auto", fraction: float = 0.1, seed: int = 0
) -> Split:
    """Divide normal images into training and held-out regions that share no pixel.

    sizes: (height, width) of each image; patch: side of a patch in pixels. Every region holds at least one
    patch. `band` holds out a vertical band, max(ceil(fraction * W), patch) wide, at the left or right edge of
    every image; `image` holds out max(1, round(fraction * N)) whole images, and never all; `auto` takes
    `image` from 20 images on or when an image is narrower than 4 patches, else `band`. `seed` alone chooses
    the edges or images.

    Raises InspectGanError when that is impossible, ValueError for an unknown mode.
    """
    if not 0 < fraction < 1:
        raise InspectGanError(f"the held-out fraction {fraction} must lie between 0 and 1: try 0.1")
    if not sizes:
        raise InspectGanError("there are no normal images to train on: check the folder that was given")
    for number, (height, width) in enumerate(sizes, start=1):
        if min(height, width) < patch:
            raise InspectGanError(
                f"normal image number {number} has {height} x {width} pixels (height x width), less than one "
                f"patch of {patch} x {patch}: remove it or use a smaller patch size"
            )
    if mode == "auto":
        too_narrow = any(width < 4 * patch for _, width in sizes)
        mode = "image" if too_narrow or len(sizes) >= MANY_IMAGES else "band"
    rng = np.random.default_rng(seed)
    if mode == "image":
        return _split_images(sizes, patch, fraction, rng)
    if mode == "band":
        return _split_bands(sizes, patch, fraction, rng)
    raise ValueError(f"unknown hold-out mode {mode!r}: choose auto, image or band")


def _split_images(sizes: Sequence[tuple[int, int]], patch: int, fraction: float, rng: np.random.Generator) -> Split:
    if len(sizes) < 2:
        raise InspectGanError(
            "one normal image cannot be divided into training and held-out images: add at least "
            f"one more image, or use a patch size (now {patch}) of at most a quarter of the image's width"
        )
    count = min(max(1, round(fraction * len(sizes))), len(sizes) - 1)
    chosen = set(rng.choice(len(sizes), size=count, replace=False).tolist())
    whole = [Region(image, 0, 0, height, width) for image, (height, width) in enumerate(sizes)]
    return Split(
        train=tuple(region for region in whole if region.image not in chosen),
        held_out=tuple(region for region in whole if region.image in chosen),
    )


def _split_bands(sizes: Sequence[tuple[int, int]], patch: int, fraction: float, rng: np.random.Generator) -> Split:
    train, held_out = [], []
    at_right = rng.integers(2, size=len(sizes)).astype(bool)
    for image, (height, width) in enumerate(sizes):
        band = max(math.ceil(fraction * width), patch)
        rest = width - band
        if rest < patch:
            raise InspectGanError(
                f"normal image number {image + 1} is {width} pixels wide, too narrow for a held-out band of "
                f"{band} pixels beside training patches of {patch}: hold out images or use smaller patches"
            )
        held_out.append(Region(image, 0, rest if at_right[image] else 0, height, band))
        train.append(Region(image, 0, 0 if at_right[image] else band, height, rest))
    return Split(tuple(train), tuple(held_out))
