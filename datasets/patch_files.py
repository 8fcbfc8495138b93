"""Patch files for tools that want them; this package cuts its patches from images in memory."""

from pathlib import Path

import numpy as np

from inspect_gan.datasets.samples import require_images, unique_stems
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import read_raw, write_png
from inspect_gan.patches.grid import Grid


def write_patches(images: Path, out: Path, *, size: int, stride: int) -> int:
    """Cut every image of a folder into grid patches, `<stem>_<top>_<left>.png` in the image's bit depth.

    Returns how many. Raises InspectGanError for an unreadable image or one smaller than a patch, for floating-point
    images, and when `out` is not empty.
    """
    found = require_images(images, recursive=False).images
    if out.exists() and any(out.iterdir()):
        raise InspectGanError(f"{out} is not empty: choose another --out")
    for path in found:  # every image is decoded before a file is written
        _samples(path, size)
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for path, stem in zip(found, unique_stems(found), strict=True):
        array = _samples(path, size)
        height, width, _ = array.shape
        for top, left, bottom, right in Grid(height, width, size, stride).boxes():
            write_png(out / f"{stem}_{top:05d}_{left:05d}.png", np.squeeze(array[top:bottom, left:right]))
            count += 1
    return count


def _samples(path: Path, size: int) -> np.ndarray:
    """(H, W, C) of an image that can be cut into patches and kept as PNG."""
    raw = read_raw(path)
    if raw.bit_depth == 32:
        raise InspectGanError(f"{path} is a floating-point image, a PNG cannot hold it: convert it to 16 bits")
    height, width, _ = raw.array.shape
    if min(height, width) < size:
        raise InspectGanError(f"{path} is {height}×{width} px, smaller than a patch of {size} px: use a smaller --size")
    return raw.array
