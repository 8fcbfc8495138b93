"""Maps as files: float32 in threshold units, and in the same file the threshold that these are units of."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from inspect_gan.documents import parse_json
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import write_tiff
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.regions import THRESHOLD

# Share of a limit within which a converted value counts as the limit itself: 16 roundings to float32.
ROUNDING = 2.0**-20


@dataclass(frozen=True)
class Units:
    """threshold, origin: raw scores that are 1 and 0."""

    threshold: float
    origin: float


def write_map(path: Path, map: np.ndarray, calibration: Calibration) -> None:
    """Write a map (H, W) float32 in units of a calibration. Raises InspectGanError when it cannot be written."""
    units = {"threshold": calibration.threshold, "origin": calibration.origin}
    write_tiff(path, map, json.dumps({"score": calibration.score, **units}))


def read_map(path: Path) -> tuple[np.ndarray, Units]:
    """What `write_map` wrote. Raises InspectGanError for anything else."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            about = parse_json(page.description)
            units = Units(float(about["threshold"]), float(about["origin"]))
            map = page.asarray()
    except Exception as error:  # whatever tifffile finds in a damaged file
        why = " ".join(str(error).split())
        raise InspectGanError(
            f"{path} is no readable map with its threshold ({why}): inspect the image again"
        ) from error
    if map.ndim != 2 or map.dtype != np.float32 or not units.threshold > units.origin:
        raise InspectGanError(f"{path} is no map that defect_map wrote: inspect the image again")
    return map, units


def converted(map: np.ndarray, units: Units, calibration: Calibration) -> np.ndarray:
    """The map in units of a calibration of the same raw scores at another rate, float32.

    A raw score is not to be had exactly from a rounded map. So what is nearer to the threshold, or to the highest value
    of good material, than some roundings can tell (`ROUNDING` of it) counts as being at it, not beyond; everything else
    is on the side where `Calibration.normalise` of the raw scores has it. In the same units nothing changes. Raises
    InspectGanError when the map is not one of these scores.
    """
    wanted = Units(calibration.threshold, calibration.origin)
    if units == wanted:
        return map
    if units.origin != wanted.origin:
        raise InspectGanError("the map was made with other weights: inspect the image again")
    exact = map.astype(np.float64)
    exact *= (units.threshold - units.origin) / (wanted.threshold - wanted.origin)
    result = exact.astype(np.float32)
    for limit in (calibration.peak_limit, THRESHOLD):
        exact -= limit
        result[np.abs(exact) <= ROUNDING * limit] = limit
        exact += limit
    return result
