"""Random training patches, cropped from memory; a batch is a function of the seed and the step alone."""

import os
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.holdout import Region
from inspect_gan.patches.store import PatchStore

Augment = Literal["none", "flips", "d4"]


class RandomPatches:
    """Batches of patches at random corners of the training regions.

    Every corner whose patch lies wholly inside a region, the last row and column included, is equally likely,
    so regions count by the number of their corners. Regions smaller than a patch are passed over.

    store: the images; regions: where training may look; size: side S of a patch in pixels; to_float: turns
    a crop (S, S, C) of the store's sample type into float32 in [0, 1]; augment: `flips` (horizontal and
    vertical, each with probability 1/2) or `d4` (the eight flips and quarter turns of the square, equally
    likely).

    One object serves one thread: the augmentation keeps its random state between patches of a batch.
    Raises InspectGanError when no region holds a patch, ValueError when a region leaves its image.
    """

    def __init__(
        self,
        store: PatchStore,
        regions: Sequence[Region],
        size: int,
        batch_size: int,
        seed: int,
        to_float: Callable[[np.ndarray], np.ndarray],
        augment: Augment = "flips",
    ) -> None:
        self.store = store
        self.regions = tuple(regions)
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.to_float = to_float
        self._augment = None if augment == "none" else _augmentation(augment)
        sizes = store.sizes
        for region in self.regions:
            height, width = sizes[region.image]
            if not (0 <= region.top <= height - region.height and 0 <= region.left <= width - region.width):
                raise ValueError(f"{region} leaves its image of {height} x {width} pixels")
        spans = [(max(0, r.height - size + 1), max(0, r.width - size + 1)) for r in self.regions]
        self._ends = np.cumsum([rows * cols for rows, cols in spans], dtype=np.int64)
        if not self._ends.size or self._ends[-1] == 0:
            raise InspectGanError(
                f"no training region holds a patch of {size} x {size} pixels: use larger images or a smaller patch size"
            )
        self._columns = np.array([cols for _, cols in spans])

    def batch(self, step: int) -> np.ndarray:
        """(B, S, S, C) float32 in [0, 1]: the same for the same seed and step, whatever was drawn before."""
        rng = np.random.default_rng((self.seed, step))
        corners = self._corners(rng)
        if self._augment is not None:
            # Compose(seed=...) and set_random_seed start every transform with the same seed: both flips would
            # always happen together. One pair of generators shared by all keeps them independent.
            self._augment.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        patches = np.empty((self.batch_size, self.size, self.size, self.store[0].shape[2]), dtype=np.float32)
        for patch, (image, top, left) in zip(patches, corners, strict=True):
            crop = self.to_float(self.store[image][top : top + self.size, left : left + self.size])
            patch[:] = crop if self._augment is None else self._augment(image=crop)["image"]
        return patches

    def _corners(self, rng: np.random.Generator) -> list[tuple[int, int, int]]:
        """(image, top, left) of each patch of a batch."""
        drawn = rng.integers(self._ends[-1], size=self.batch_size)
        chosen = np.searchsorted(self._ends, drawn, side="right")
        from_end = self._ends[chosen] - 1 - drawn  # counts the corners of a region backwards; equally uniform
        rows, cols = np.divmod(from_end, self._columns[chosen])
        return [
            (region.image, region.top + row, region.left + col)
            for region, row, col in zip((self.regions[k] for k in chosen), rows.tolist(), cols.tolist(), strict=True)
        ]


def _augmentation(name: Augment) -> Any:
    """The albumentations pipeline; imported here, for its import is slow and asks the network for updates."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import albumentations as A
    transforms = {"flips": [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], "d4": [A.D4(p=1.0)]}
    if name not in transforms:
        raise ValueError(f"unknown augmentation {name!r}: choose none, flips or d4")
    return A.Compose(transforms[name])
