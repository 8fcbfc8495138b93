"""From an image to full-size score maps and to patch scores, whatever computes the scores of patches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inspect_gan.hardware import Resolved
from inspect_gan.imaging.image import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher, Window


@dataclass(frozen=True)
class MapSettings:
    """stride: px of the rescaled image. smooth: Gaussian standard deviation in px of the rescaled image. precision: of
    the networks; a threshold holds for the precision it was measured in."""

    stride: int
    window: Window = "hann"
    smooth: float = 0.0
    precision: Resolved = "32-true"


class MapMaker(ABC):
    """Cuts images into patches, has them scored, puts the scores together to maps.

    Subclasses score patches. batch_size: patches per pass; it changes memory and speed, not results beyond rounding.
    Memory is O(image) + one batch.
    """

    def __init__(self, preprocess: Preprocess, batch_size: int):
        self.preprocess = preprocess
        self._batch_size = batch_size

    @abstractmethod
    def _scores(
        self, pixels: np.ndarray, grid: Grid, names: Sequence[str], settings: MapSettings
    ) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """(number of the first patch, {name: (n,)}, {name: (n, S, S)}) batch by batch. pixels: (H, W, C)."""

    def _shared_scores(
        self, name: str, pixels: np.ndarray, grid: Grid, settings: MapSettings
    ) -> Iterator[tuple[int, np.ndarray]] | None:
        """(number of the first patch, scores (n,)) strip by strip, of a score whose work overlapping patches can share;
        None for another one."""
        return None

    def score_maps(self, image: Image, names: Sequence[str], settings: MapSettings) -> dict[str, np.ndarray]:
        """Raw score maps of the image, {name: (H, W) float32}, higher = more anomalous.

        A score with a per-pixel map is stitched from those maps, any other from its patch score spread over the
        patch. Raises InspectGanError for an image smaller than a patch and for an unknown score.
        """
        return self.maps_and_patches(image, names, settings)[0]

    def maps_and_patches(
        self, image: Image, names: Sequence[str], settings: MapSettings
    ) -> tuple[dict[str, np.ndarray], Grid, dict[str, np.ndarray]]:
        """`score_maps` and `patch_scores` of the same patches, each scored once."""
        pixels = self.preprocess.image(image)
        grid = self._grid(pixels, settings.stride)
        stitchers = {name: Stitcher(grid, settings.window) for name in names}
        patches = {name: np.empty(len(grid), dtype=np.float32) for name in names}
        rest = []
        for name in names:
            shared = self._shared_scores(name, pixels, grid, settings)
            if shared is None:
                rest.append(name)
            else:
                for start, scores in shared:
                    stitchers[name].add(start, scores)
                    patches[name][start : start + len(scores)] = scores
        for start, patch, maps in self._scores(pixels, grid, rest, settings) if rest else ():
            for name in rest:
                stitchers[name].add(start, maps.get(name, patch[name]))
                patches[name][start : start + len(patch[name])] = patch[name]
        result = {}
        for name, stitcher in stitchers.items():
            stitched = stitcher.finalize()
            if settings.smooth > 0:
                stitched = cv2.GaussianBlur(stitched, (0, 0), settings.smooth, borderType=cv2.BORDER_REFLECT_101)
            if stitched.shape != (image.height, image.width):
                stitched = cv2.resize(stitched, (image.width, image.height), interpolation=cv2.INTER_LINEAR)
            result[name] = stitched
        return result, grid, patches

    def patch_scores(
        self, image: Image, names: Sequence[str], settings: MapSettings
    ) -> tuple[Grid, dict[str, np.ndarray]]:
        """The grid of patches on the rescaled image and {name: (len(grid),) float32}."""
        pixels = self.preprocess.image(image)
        grid = self._grid(pixels, settings.stride)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for _, patch, _ in self._scores(pixels, grid, names, settings):
            for name in names:
                parts[name].append(patch[name])
        return grid, {name: np.concatenate(values) for name, values in parts.items()}

    def _grid(self, pixels: np.ndarray, stride: int) -> Grid:
        return Grid(pixels.shape[0], pixels.shape[1], self.preprocess.size, stride)
