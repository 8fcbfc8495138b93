"""What no learning of a network achieves: maps that a detector has to beat before its score means anything."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from scipy.sparse.linalg import svds

from inspect_gan.imaging import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import iterate_patches
from inspect_gan.scoring.maps import MapMaker, MapSettings

SIGMA = 6.0  # px, of the Gaussian window of local statistics
COMPONENTS = 16  # of the PCA
PCA = "pca_residual"
_FITTED_PATCHES = 2048
_BATCH = 256


class PcaResidual(MapMaker):
    """Squared distance of each pixel of a patch from the patch's projection on the first `COMPONENTS` principal
    components of held-out normal patches.
    """

    def __init__(self, held_out: Sequence[Image], preprocess: Preprocess):
        super().__init__(preprocess, _BATCH)
        patches = np.concatenate([self._flat_patches(image) for image in held_out])
        fitted = patches[np.linspace(0, len(patches) - 1, min(len(patches), _FITTED_PATCHES)).astype(int)]
        self._mean = fitted.mean(axis=0)
        components = min(COMPONENTS, min(fitted.shape) - 1)
        # The start vector makes the iteration give the same result every time.
        start = np.ones(min(fitted.shape), dtype=np.float32)
        self._components = svds(fitted - self._mean, k=components, v0=start, return_singular_vectors="vh")[2]

    def _flat_patches(self, image: Image) -> np.ndarray:
        """(n, S * S * C) patches, half a patch apart."""
        pixels = self.preprocess.image(image)
        grid = self._grid(pixels, max(self.preprocess.size // 2, 1))
        return np.concatenate([part.reshape(len(part), -1) for _, part in iterate_patches(pixels, grid, _BATCH)])

    def _scores(
        self, pixels: np.ndarray, grid: Grid, names: Sequence[str], settings: MapSettings
    ) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        for start, patches in iterate_patches(pixels, grid, self._batch_size):
            centred = patches.reshape(len(patches), -1) - self._mean
            residual = centred - (centred @ self._components.T) @ self._components
            map = np.square(residual).reshape(patches.shape).mean(axis=-1)
            yield start, {PCA: map.mean(axis=(1, 2))}, {PCA: map}


class Baselines:
    """grey: local mean grey value. deviation: local standard deviation; smooth: minus that; bright_smooth: mean minus
    twice the deviation, all with a Gaussian window of `SIGMA` px. pca_residual: see `PcaResidual`, stitched and
    smoothed like a detector's maps.

    held_out: normal images, not tested. preprocess: of the detector.
    """

    names = ("grey", "deviation", "smooth", "bright_smooth", PCA)

    def __init__(self, held_out: Sequence[Image], preprocess: Preprocess):
        self._pca = PcaResidual(held_out, preprocess)

    def maps(self, image: Image, settings: MapSettings) -> Iterator[tuple[str, np.ndarray]]:
        """(name, (H, W) float32) one after another, so that they need not lie in memory together; higher = more
        anomalous under the name's reading. settings: of the PCA's map."""
        grey = image.converted(1).pixels[..., 0]
        mean = cv2.GaussianBlur(grey, (0, 0), SIGMA)
        yield "grey", mean
        deviation = cv2.GaussianBlur(grey * grey, (0, 0), SIGMA)
        deviation -= mean * mean
        deviation = np.sqrt(np.maximum(deviation, 0, out=deviation), out=deviation)
        yield "deviation", deviation
        yield "smooth", -deviation
        bright_smooth = 2 * deviation
        del deviation
        yield "bright_smooth", np.subtract(mean, bright_smooth, out=bright_smooth)
        del grey, mean, bright_smooth
        yield PCA, self._pca.score_maps(image, [PCA], settings)[PCA]
