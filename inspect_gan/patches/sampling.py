"""Random training patches; a batch is a function of the seed and the step alone."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.store import PatchStore

Augment = Literal["none", "flips", "d4"]
# How many of the symmetries of the square are drawn: bit 0 mirrors columns, bit 1 rows, bit 2 swaps the two.
SYMMETRIES: Mapping[Augment, int] = {"none": 1, "flips": 4, "d4": 8}


class RandomPatches:
    """Batches of patches at random corners of the images.

    Every corner whose patch lies wholly inside an image, the last row and column included, is equally likely,
    so images count by the number of their corners. Images smaller than a patch are passed over.

    size: side S of a patch in pixels; augment: `flips` (horizontal and vertical, each with probability 1/2) or
    `d4` (the eight flips and quarter turns of the square, equally likely); device: where the images are kept and
    patches cut. Which patches a batch has does not depend on it.

    Raises InspectGanError when no image holds a patch, ValueError for another augmentation.
    """

    def __init__(
        self,
        store: PatchStore,
        size: int,
        batch_size: int,
        seed: int,
        augment: Augment,
        device: torch.device | str = "cpu",
    ) -> None:
        if augment not in SYMMETRIES:
            raise ValueError(f"unknown augmentation {augment!r}: choose {', '.join(SYMMETRIES)}")
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self._symmetries = SYMMETRIES[augment]
        heights, self._widths = np.array(store.sizes, dtype=np.int64).T
        self._starts = np.cumsum(heights * self._widths) - heights * self._widths
        self._columns = np.maximum(self._widths - size + 1, 0)
        self._ends = np.cumsum(np.maximum(heights - size + 1, 0) * self._columns)
        if self._ends[-1] == 0:
            raise InspectGanError(
                f"no training image holds a patch of {size} x {size} pixels: use larger images or a smaller patch size"
            )
        # Single values are gathered twice as fast as rows of one value.
        self._pixels = torch.from_numpy(store.pixels).squeeze(1).to(device)
        self._steps = torch.arange(size, device=device)

    def batch(self, step: int) -> Tensor:
        """(B, S, S, C) float32 as in the store, on the device: the same for the same seed and step, whatever was
        drawn before."""
        # Not blocking: a GPU would finish all its work before it took the places.
        places = torch.from_numpy(self._places(step)).to(self._pixels.device, non_blocking=True)
        first, down, right = places[:, :, None, None]
        pixels = first + down * self._steps[:, None] + right * self._steps
        return self._pixels.index_select(0, pixels.flatten()).view(*pixels.shape, -1)

    def _places(self, step: int) -> np.ndarray:
        """(3, B) int64: number in the store of each patch's first pixel, and from a pixel to the next one below and to
        the next one on the right. So a flip is another end to start from, a quarter turn another order of steps."""
        rng = np.random.default_rng((self.seed, step))
        drawn = rng.integers(self._ends[-1], size=self.batch_size)
        symmetry = rng.integers(self._symmetries, size=self.batch_size)
        image = np.searchsorted(self._ends, drawn, side="right")
        from_end = self._ends[image] - 1 - drawn  # counts the corners of an image backwards; equally uniform
        row, column = np.divmod(from_end, self._columns[image])
        width = self._widths[image]
        mirrored, upside_down, transposed = symmetry & 1 != 0, symmetry & 2 != 0, symmetry & 4 != 0
        row += np.where(upside_down, self.size - 1, 0)
        column += np.where(mirrored, self.size - 1, 0)
        down, right = np.where(upside_down, -width, width), np.where(mirrored, -1, 1)
        return np.stack(
            [
                self._starts[image] + row * width + column,
                np.where(transposed, right, down),
                np.where(transposed, down, right),
            ]
        )
