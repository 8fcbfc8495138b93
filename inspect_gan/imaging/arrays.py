"""Images from arrays in memory."""

from pathlib import Path

import numpy as np

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.image import Image
from inspect_gan.imaging.reading import to_float


def from_array(array: np.ndarray, path: Path | None = None) -> Image:
    """An image from pixels in memory: (H, W) or (H, W, C), C = 1 or 3 (RGB).

    uint8 and uint16 count their full range as [0, 1]; floating point must lie in [0, 1] already.
    Raises InspectGanError for any other shape, type or range.
    """
    name = path or "the array"
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.size == 0:
        raise InspectGanError(f"{name} has shape {array.shape}: give (H, W), (H, W, 1) or (H, W, 3)")
    if array.dtype in (np.uint8, np.uint16):
        return Image(to_float(array), 8 * array.dtype.itemsize, path)
    if not np.issubdtype(array.dtype, np.floating):
        raise InspectGanError(f"{name} is of type {array.dtype}: give uint8, uint16, or floats in [0, 1]")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise InspectGanError(f"{name} holds values outside [0, 1] or not finite: divide by the largest possible value")
    return Image(array.astype(np.float32), 32, path)
