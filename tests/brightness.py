"""An inspector without networks: it scores pixels by their brightness. And images for it."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from inspect_gan.base_inspector import BaseInspector
from inspect_gan.imaging import Image, write_png
from inspect_gan.imaging.arrays import from_array
from inspect_gan.imaging.info_bar import InfoBar
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import iterate_patches
from inspect_gan.scoring.calibration import Calibration, calibrate
from inspect_gan.scoring.maps import MapMaker, MapSettings

SIDE = 16  # px of a patch
SHAPE = (96, 128)


def surface(seed: int, spot: float = 0) -> np.ndarray:
    """(H, W) uint8, smooth noise; spot: brightness added to a disc."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random(SHAPE), (0, 0), 2)
    grey = 100 * (noise - noise.min()) / np.ptp(noise)
    if spot:
        cv2.circle(grey, (40 + seed, 50), 9, 100 + spot, -1)
    return grey.astype(np.uint8)


def write(path: Path, seed: int, spot: float = 0) -> Path:
    write_png(path, surface(seed, spot))
    return path


class Brightness(BaseInspector):
    """held_out: seed of the material behind its thresholds. lift: added to scores; a negative one moves the origin from
    0. seen: names of the images that were scored."""

    name, detector_name, page = "lamp", "brightness", None
    info_bar: InfoBar = "none"
    health = None

    def __init__(self, held_out: int = 100, lift: float = 0.0):
        self._held_out = [from_array(surface(held_out + i)) for i in range(2)]
        self.predictor: MapMaker = _Maker(lift)
        self.seen: list[str] = []
        self.calibration = cache(self.calibration)  # type: ignore[method-assign]

    def calibration(
        self, score: str | None = None, stride: int | None = None, target_fpr: float | None = None
    ) -> Calibration:
        maps = MapSettings(stride or 8)
        raw = [self.predictor.score_maps(image, ["light"], maps)["light"] for image in self._held_out]
        return calibrate(raw, score or "light", maps, 0.1 if target_fpr is None else target_fpr, SIDE)

    def read(self, image: str | Path | np.ndarray | Image) -> Image:
        found = super().read(image)
        if not isinstance(image, Image):
            self.seen.append(str(found.path and found.path.name))
        return found


class _Maker(MapMaker):
    def __init__(self, lift: float):
        super().__init__(Preprocess(size=SIDE, channels=1), 64)
        self._lift = np.float32(lift)

    def _scores(
        self, pixels: np.ndarray, grid: Grid, names: Sequence[str], settings: MapSettings
    ) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        for start, patches in iterate_patches(pixels, grid, self._batch_size):
            values = patches[..., 0] ** 2 + self._lift
            yield start, {name: values.mean((1, 2)) for name in names}, {name: values for name in names}
