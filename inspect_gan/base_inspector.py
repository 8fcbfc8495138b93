"""What inspects images, however the scores of patches are computed."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspect_gan.hardware import require_memory
from inspect_gan.imaging import Image, read, read_size
from inspect_gan.imaging.arrays import from_array
from inspect_gan.imaging.info_bar import InfoBar, without_info_bar
from inspect_gan.imaging.pixel_size import PixelSize, chosen
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.maps import MapMaker
from inspect_gan.scoring.regions import Limits, Region, find_regions, mask_of
from inspect_gan.scoring.verdict import Verdict, worst
from inspect_gan.waiting import patience

# Of the image or the rescaled one, the larger: what is made on the way to map, regions and overlay takes 10 to 27,
# measured on images of 6 megapixels at strides of 8 and 1 px, with nothing and with all of it above the threshold.
BYTES_PER_PIXEL = 32

ImageLike = str | Path | np.ndarray | Image


@dataclass(frozen=True, eq=False)
class Result:
    """What was found in one image.

    score: highest value of the map. map: (H, W) float32 in threshold units, 1.0 = threshold; of the image as it was
    given: the rows of an info bar that was cut off are 0. mask: (H, W) bool, the listed regions. regions: worst first.
    pixel_size: behind areas in µm², None when no scale is known.
    """

    verdict: Verdict
    score: float
    map: np.ndarray
    mask: np.ndarray
    regions: tuple[Region, ...]
    pixel_size: PixelSize | None


class BaseInspector(ABC):
    """A calibrated detector. Scores never depend on other images.

    name: of the run. detector_name: its key. page: of multi-page files. info_bar: what is cut off images. health: what
    training found of itself, None where it is not known. predictor: makes maps.
    """

    name: str
    detector_name: str
    page: int | None
    info_bar: InfoBar
    health: str | None
    predictor: MapMaker

    @abstractmethod
    def calibration(
        self, score: str | None = None, stride: int | None = None, target_fpr: float | None = None
    ) -> Calibration:
        """The calibration of a score at a stride and false-alarm rate; what is not given is the run's own."""

    def read(self, image: ImageLike) -> Image:
        """An image as the run reads it: the same page of multi-page files as in training, without the info bar."""
        return to_image(image, self.page, self.info_bar)

    def inspect(
        self,
        image: ImageLike,
        *,
        score: str | None = None,
        stride: int | None = None,
        target_fpr: float | None = None,
        min_area: int = 1,
        um_per_px: float | None = None,
    ) -> Result:
        """Map, mask, regions and verdict of one image.

        min_area: px, smaller regions are ignored. um_per_px: scale, by default the one that the image's file
        tells. Raises InspectGanError for an unreadable image, one smaller than a patch or too large for memory, or a
        target rate that is not between 0 and 1 or that the held-out material cannot support.
        """
        return self.apply(image, self.calibration(score, stride, target_fpr), min_area, um_per_px)

    def apply(
        self, image: ImageLike, calibration: Calibration, min_area: int = 1, um_per_px: float | None = None
    ) -> Result:
        """`inspect` with a calibration of this detector, such as one whose limits allow for false alarms."""
        picture = self.read(image)
        rescaled = self.predictor.preprocess.rescaled_size(picture.height, picture.width)
        pixels = max(picture.height * picture.width, math.prod(rescaled))
        require_memory(picture.path or "the image", BYTES_PER_PIXEL * pixels)
        raw = self.predictor.score_maps(picture, [calibration.score], calibration.maps)
        units = calibration.normalise(raw[calibration.score])
        if picture.info_bar_rows:
            units = np.pad(units, ((0, picture.info_bar_rows), (0, 0)))
        return judge(units, calibration.limits(min_area), chosen(um_per_px, picture.pixel_size))


def judge(map: np.ndarray, limits: Limits, pixel_size: PixelSize | None) -> Result:
    """What a map (H, W) in threshold units says. Raises InspectGanError where it is not finite."""
    regions = find_regions(map, limits, None if pixel_size is None else pixel_size.um)
    return Result(
        verdict=worst([region.verdict for region in regions]),
        score=float(map.max()),
        map=map,
        mask=mask_of(map, regions),
        regions=regions,
        pixel_size=pixel_size,
    )


def to_image(image: ImageLike, page: int | None = None, info_bar: InfoBar = "none") -> Image:
    """A path is read, an array is taken as `imaging.arrays.from_array` describes, both without the info bar; an `Image`
    is taken as it is."""
    if isinstance(image, Image):
        return image
    if isinstance(image, np.ndarray):
        return without_info_bar(from_array(image), info_bar)
    with patience(image):
        return read(image, page=page, info_bar=info_bar)


def size_of(image: ImageLike, page: int | None = None, info_bar: InfoBar = "none") -> tuple[int, int]:
    """(height, width) in px of what `to_image` makes of it; of a file, from its header where no bar is cut off."""
    if isinstance(image, str | Path) and info_bar == "none":
        return read_size(image, page)
    picture = to_image(image, page, info_bar)
    return picture.height, picture.width
