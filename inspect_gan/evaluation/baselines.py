"""What no learning of a network achieves: maps that a detector has to beat before its score means anything."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse.linalg import svds

from inspect_gan.imaging import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher, iterate_patches
from inspect_gan.scoring.predict import MapSettings, full_size

SIGMA = 6.0  # px, of the Gaussian window of local statistics
COMPONENTS = 16  # of the PCA
_FITTED_PATCHES = 2048
_BATCH = 256


class Baselines:
    """grey: local mean grey value. deviation: local standard deviation; smooth: minus that; bright_smooth: mean minus
    twice the deviation, with a Gaussian window of `SIGMA` px. pca_residual: squared distance of each pixel of a
    patch from the patch's projection on the first `COMPONENTS` principal components of held-out normal patches,
    stitched and smoothed like a detector's maps.

    held_out: normal images, not tested. preprocess: of the detector.
    """

    names = ("grey", "deviation", "smooth", "bright_smooth", "pca_residual")

    def __init__(self, held_out: Sequence[Image], preprocess: Preprocess):
        self._preprocess = preprocess
        patches = np.concatenate([self._patches(image) for image in held_out])
        chosen = np.linspace(0, len(patches) - 1, min(len(patches), _FITTED_PATCHES)).astype(int)
        fitted = patches[chosen]
        self._mean = fitted.mean(axis=0)
        components = min(COMPONENTS, min(fitted.shape) - 1)
        # The start vector makes the iteration give the same result every time.
        start = np.ones(min(fitted.shape), dtype=np.float32)
        self._components = svds(fitted - self._mean, k=components, v0=start, return_singular_vectors="vh")[2]

    def maps(self, image: Image, settings: MapSettings) -> dict[str, np.ndarray]:
        """{name: (H, W) float32}, higher = more anomalous under the name's reading. settings: of the PCA's map."""
        grey = image.converted(1).pixels[..., 0]
        mean = cv2.GaussianBlur(grey, (0, 0), SIGMA)
        deviation = cv2.GaussianBlur(grey * grey, (0, 0), SIGMA) - mean * mean
        deviation = np.sqrt(np.maximum(deviation, 0, out=deviation), out=deviation)
        return {
            "grey": mean,
            "deviation": deviation,
            "smooth": -deviation,
            "bright_smooth": mean - 2 * deviation,
            "pca_residual": self._pca_residual(image, settings),
        }

    def _patches(self, image: Image) -> np.ndarray:
        """(n, S * S * C) patches, half a patch apart."""
        pixels, size = self._preprocess.image(image), self._preprocess.size
        grid = Grid(pixels.shape[0], pixels.shape[1], size, max(size // 2, 1))
        return np.concatenate([part.reshape(len(part), -1) for _, part in iterate_patches(pixels, grid, _BATCH)])

    def _pca_residual(self, image: Image, settings: MapSettings) -> np.ndarray:
        pixels = self._preprocess.image(image)
        grid = Grid(pixels.shape[0], pixels.shape[1], self._preprocess.size, settings.stride)
        stitcher = Stitcher(grid, settings.window)
        for start, patches in iterate_patches(pixels, grid, _BATCH):
            centred = patches.reshape(len(patches), -1) - self._mean
            residual = centred - (centred @ self._components.T) @ self._components
            stitcher.add(start, np.square(residual).reshape(patches.shape).mean(axis=-1))
        return full_size(stitcher.finalize(), settings, (image.height, image.width))
