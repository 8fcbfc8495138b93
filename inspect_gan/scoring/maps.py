"""From an image to full-size score maps and to patch scores, whatever computes the scores of patches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from inspect_gan.hardware import Resolved
from inspect_gan.imaging.image import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher, Window

# Pixels of a map that are finished together: as many rows as hold them.
BAND = 1 << 20
# Name of a score, rows of the image, the score's map in these rows, (n, W) float32.
Take = Callable[[str, slice, np.ndarray], None]


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
    Memory is O(image) + one batch, and with `stream` a band of rows of each map.
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
        maps = {name: np.empty((image.height, image.width), dtype=np.float32) for name in names}

        def keep(name: str, rows: slice, values: np.ndarray) -> None:
            maps[name][rows] = values

        return maps, *self.stream(image, names, settings, keep)

    def stream(
        self, image: Image, names: Sequence[str], settings: MapSettings, take: Take
    ) -> tuple[Grid, dict[str, np.ndarray]]:
        """`maps_and_patches` without holding the maps: each comes to `take` band by band, from the top down, as soon
        as it is known. Maps of a rescaled image are held at its size."""
        pixels = self.preprocess.image(image)
        grid = self._grid(pixels, settings.stride)
        shape = (image.height, image.width)
        maps = {name: _MapInBands(grid, settings, shape, partial(take, name)) for name in names}
        patches = {name: np.empty(len(grid), dtype=np.float32) for name in names}
        rest = []
        for name in names:
            shared = self._shared_scores(name, pixels, grid, settings)
            if shared is None:
                rest.append(name)
            else:
                for start, scores in shared:
                    maps[name].add(start, scores)
                    patches[name][start : start + len(scores)] = scores
        for start, patch, per_pixel in self._scores(pixels, grid, rest, settings) if rest else ():
            for name in rest:
                maps[name].add(start, per_pixel.get(name, patch[name]))
                patches[name][start : start + len(patch[name])] = patch[name]
        return grid, patches

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


class _MapInBands:
    """A map on its way from patches, in the order of the grid, to bands of (rows, values) for `take`.

    shape: (H, W) of the image.
    """

    def __init__(
        self, grid: Grid, settings: MapSettings, shape: tuple[int, int], take: Callable[[slice, np.ndarray], None]
    ):
        self._stitcher = Stitcher(grid, settings.window)
        self._smoothing = _Smoothing(settings.smooth, grid.height) if settings.smooth > 0 else None
        self._shape, self._take = shape, take
        self._rescaled = (grid.height, grid.width) != shape
        self._whole = np.empty((grid.height, grid.width) if self._rescaled else (0, 0), dtype=np.float32)
        self._band = max(BAND // grid.width, 1)
        self._missing = grid.height
        self._row = 0

    def add(self, start: int, values: np.ndarray) -> None:
        self._stitcher.add(start, values)
        if self._stitcher.ready < min(self._band, self._missing):
            return
        band = self._stitcher.take()
        self._missing -= len(band)
        if self._smoothing is not None:
            band = self._smoothing.add(band)
            if not len(band):
                return
        rows = slice(self._row, self._row + len(band))
        self._row = rows.stop
        if not self._rescaled:
            self._take(rows, band)
            return
        self._whole[rows] = band
        if rows.stop == len(self._whole):
            height, width = self._shape
            self._take(slice(0, height), cv2.resize(self._whole, (width, height), interpolation=cv2.INTER_LINEAR))


class _Smoothing:
    """A Gaussian filter over rows that come band by band. sigma: px. height: of the whole map."""

    def __init__(self, sigma: float, height: int):
        self._sigma, self._height = sigma, height
        self._side = round(8 * sigma + 1) | 1  # what OpenCV would choose
        self._held = np.empty((0, 0), dtype=np.float32)
        self._top = self._done = 0  # first row that is held, and that is not returned

    def add(self, band: np.ndarray) -> np.ndarray:
        """The rows whose neighbours below are all known by now, maybe none."""
        rows = np.concatenate([self._held, band]) if len(self._held) else band
        stop, radius = self._top + len(rows), self._side // 2
        known = stop if stop == self._height else max(stop - radius, self._done)
        side = (self._side, self._side)
        smooth = cv2.GaussianBlur(rows, side, self._sigma, borderType=cv2.BORDER_REFLECT_101)
        smooth = smooth[self._done - self._top : known - self._top]
        first = max(known - radius, self._top)
        self._held, self._top, self._done = rows[first - self._top :].copy(), first, known
        return smooth
