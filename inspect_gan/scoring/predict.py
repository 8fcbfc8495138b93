"""The one inference path: from an image to full-size score maps and to patch scores.

Calibration, inspection and evaluation all go through here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from inspect_gan.detector import Detector, Score
from inspect_gan.hardware import Resolved, resolve_device
from inspect_gan.imaging.image import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher, Window, iterate_patches
from inspect_gan.scoring.dense import DenseNetwork
from inspect_gan.scoring.folding import folded


@dataclass(frozen=True)
class MapSettings:
    """stride: px of the rescaled image. smooth: Gaussian standard deviation in px of the rescaled image. precision: of
    the networks; a threshold holds for the precision it was measured in."""

    stride: int
    window: Window = "hann"
    smooth: float = 0.0
    precision: Resolved = "32-true"


class Predictor:
    """Scores patches of images with a folded copy of a detector, see `scoring.folding`.

    batch_size: patches per forward pass; it changes memory and speed, not results beyond rounding. Memory
    is O(image) + one batch.
    """

    def __init__(
        self,
        detector: Detector,
        preprocess: Preprocess,
        *,
        device: str = "auto",
        batch_size: int = 256,
    ):
        self.device = torch.device(resolve_device(device))
        self.detector = folded(detector).to(self.device).to(memory_format=torch.channels_last)
        self.preprocess = preprocess
        self._batch_size = batch_size

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
        shared = {name: network for name in names if (network := self._shared_network(name)) is not None}
        for name, network in shared.items():
            for start, scores in self._shared_scores(name, network, pixels, grid, settings):
                stitchers[name].add(start, scores)
                patches[name][start : start + len(scores)] = scores
        rest = [name for name in names if name not in shared]
        for start, patch, maps in self._scores(pixels, grid, rest, settings) if rest else ():
            for name in rest:
                stitchers[name].add(start, maps.get(name, patch[name]))
                patches[name][start : start + len(patch[name])] = patch[name]
        shape = (image.height, image.width)
        stitched = {name: full_size(stitcher.finalize(), settings, shape) for name, stitcher in stitchers.items()}
        return stitched, grid, patches

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

    def _shared_network(self, name: str) -> DenseNetwork | None:
        """The network of a score whose work overlapping patches can share, if it has one."""
        self.detector.check_score(name)
        score = self.detector.score_table()[name]
        # What is standardised patch by patch differs between overlapping patches.
        if not isinstance(score, Score) or score.shared is None or self.preprocess.scaling == "per_patch_std":
            return None
        network, size = score.shared.network(self.detector), self.preprocess.size
        return DenseNetwork(network, size) if network is not None and DenseNetwork.supports(network, size) else None

    # Without `inference_mode`, which `strips` has: as a decorator of a generator it would end autocast at each yield.
    def _shared_scores(
        self, name: str, network: DenseNetwork, pixels: np.ndarray, grid: Grid, settings: MapSettings
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first patch, scores (n,)) strip by strip."""
        score = self.detector.score_table()[name]
        assert isinstance(score, Score) and score.shared is not None
        x = self.preprocess.tensor(pixels[None])[0].to(self.device)
        with self._autocast(settings):
            for start, outputs in network.strips(x, grid):
                yield start, score.shared.reduce(self.detector, outputs).float().cpu().numpy()

    def _autocast(self, settings: MapSettings) -> torch.autocast:
        dtype = torch.float16 if settings.precision == "16-mixed" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=settings.precision != "32-true")

    @torch.inference_mode()
    def _scores(
        self, pixels: np.ndarray, grid: Grid, names: Sequence[str], settings: MapSettings
    ) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """(number of the first patch, {name: (n,)}, {name: (n, S, S)}) batch by batch."""
        for start, patches in iterate_patches(pixels, grid, self._batch_size):
            x = self.preprocess.tensor(patches).to(self.device)
            with self._autocast(settings):
                scores = self.detector.scores(x, names)
            yield (
                start,
                {name: value.cpu().numpy() for name, value in scores.patch.items()},
                {name: value.squeeze(1).cpu().numpy() for name, value in scores.maps.items()},
            )


def full_size(stitched: np.ndarray, settings: MapSettings, shape: tuple[int, int]) -> np.ndarray:
    """A stitched map of the rescaled image, smoothed, at the original image's size (H, W)."""
    if settings.smooth > 0:
        stitched = cv2.GaussianBlur(stitched, (0, 0), settings.smooth, borderType=cv2.BORDER_REFLECT_101)
    if stitched.shape != shape:
        stitched = cv2.resize(stitched, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return stitched
