"""What the rest of the engine knows of an image."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inspect_gan.imaging.pixel_size import PixelSize

REC601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Image:
    """One decoded image.

    pixels: (H, W, C) float32 in [0, 1], C = 1 (grey) or 3 (RGB); 1.0 is the largest value `bit_depth` can hold.
    bit_depth: 8, 16 or 32 (floating point) bits per sample of the file.
    path: where it came from, None for an array given by the caller.
    mask: (H, W) bool, True where defective, None when no ground truth is known.
    pixel_size: that the file tells, None where it tells none.
    info_bar: (rows, W, C), what was cut off below the pixels, see `imaging.info_bar`; None where nothing was.
    """

    pixels: np.ndarray
    bit_depth: int
    path: Path | None = None
    mask: np.ndarray | None = None
    pixel_size: PixelSize | None = None
    info_bar: np.ndarray | None = None

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[2])

    @property
    def info_bar_rows(self) -> int:
        return 0 if self.info_bar is None else len(self.info_bar)

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels: the same picture in another file format or folder has the same digest."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()

    def converted(self, channels: int) -> "Image":
        """The same image with 1 channel (Rec. 601 luma of colour) or 3 (grey repeated)."""
        if channels == self.channels:
            return self
        bar = None if self.info_bar is None else _converted(self.info_bar, channels)
        return replace(self, pixels=_converted(self.pixels, channels), info_bar=bar)


def _converted(pixels: np.ndarray, channels: int) -> np.ndarray:
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    # The rounded weights may sum past 1.
    return np.minimum(pixels @ REC601, np.float32(1))[..., None]
