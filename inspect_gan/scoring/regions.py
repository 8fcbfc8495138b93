"""From an anomaly map to regions: the one definition of a region, used by calibration and inspection alike.

A map is (H, W) float32 in threshold units: score / threshold, so that 1.0 is the threshold. A region is an
8-connected component of `map > 1.0`. Coordinates are pixels of the image: x to the right, y down, (0, 0) the
centre of the upper left pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inspect_gan.errors import InspectGanError
from inspect_gan.scoring.verdict import Verdict

THRESHOLD = 1.0
_BLOCK = 1 << 18  # pixels looked at together: each that is above takes some 35 bytes


@dataclass(frozen=True)
class Limits:
    """What held-out good material showed at the threshold; a region is judged against both.

    area: px, the largest region seen there (0 when none was seen).
    peak: map units, >= 1, the highest value seen there.
    min_area: px, smaller regions are ignored.
    Raises InspectGanError for a value out of range.
    """

    area: float
    peak: float
    min_area: int = 1

    def __post_init__(self) -> None:
        for name, lowest in (("area", 0), ("peak", 1), ("min_area", 1)):
            value = getattr(self, name)
            if not value >= lowest:  # also refuses NaN
                raise InspectGanError(f"the region limit {name} is {value}; give a number of at least {lowest}")


@dataclass(frozen=True)
class Region:
    """One listed region; `label` is its number in tables and pictures, 1 = the worst of its image.

    box: x0, y0, x1, y1 px, x1 and y1 exclusive. centroid: x, y px. area: px.
    area_um2: square micrometres, None when no scale is known. diameter (px), diameter_um: of the circle of this area.
    peak, mean: of the map over the region.
    peak_at: x, y px, the first peak in reading order.
    """

    label: int
    verdict: Verdict
    box: tuple[int, int, int, int]
    centroid: tuple[float, float]
    area: int
    area_um2: float | None
    peak: float
    peak_at: tuple[int, int]
    mean: float

    @property
    def diameter(self) -> float:
        return _diameter(self.area)

    @property
    def diameter_um(self) -> float | None:
        return None if self.area_um2 is None else _diameter(self.area_um2)


def _diameter(area: float) -> float:
    return 2 * math.sqrt(area / math.pi)


@dataclass(frozen=True, eq=False)
class _Components:
    """The components of one map; row i of each array describes the pixels where `labels == i + 1`."""

    labels: np.ndarray  # (H, W) int32, 0 = not above the threshold
    box: np.ndarray  # (N, 4) x0, y0, x1, y1
    centroid: np.ndarray  # (N, 2) x, y
    area: np.ndarray  # (N,)
    peak: np.ndarray  # (N,)
    peak_at: np.ndarray  # (N, 2) x, y
    mean: np.ndarray  # (N,)


def measure(map: np.ndarray) -> list[tuple[int, float]]:
    """(area px, peak) of every component of `map > 1.0`, whatever its size: what limits are derived from.

    map: (H, W) float32, threshold units. Raises InspectGanError where the map is not finite.
    """
    found = _components(map)
    return list(zip(found.area.tolist(), found.peak.tolist(), strict=True))


def largest(above: np.ndarray) -> int:
    """px of the largest component of a mask (H, W) bool, 0 where nothing is set."""
    stats = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)[2]
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def find_regions(map: np.ndarray, limits: Limits, um_per_px: float | None = None) -> tuple[Region, ...]:
    """The regions of one image that good material does not explain, worst first (NG, then highest peak).

    A region beyond both limits, larger and stronger than anything in the held-out good material, is NG; one
    beyond exactly one of them is REVIEW. All others are alarms within the false-alarm rate that the threshold
    was chosen for, and are not listed.

    map: (H, W) float32, threshold units. um_per_px: micrometres per pixel side, None when unknown.
    Raises InspectGanError where the map is not finite, or for a scale that is not a positive number.
    """
    if um_per_px is not None and not 0 < um_per_px < float("inf"):
        raise InspectGanError(f"the scale is {um_per_px} micrometres per pixel; give a positive number")
    found = _components(map)
    beyond = (found.area > limits.area).astype(np.int8) + (found.peak > np.float32(limits.peak))
    listed = np.flatnonzero((beyond > 0) & (found.area >= limits.min_area))
    # The position breaks ties, so that numbering does not depend on the order of labelling.
    y, x = found.peak_at[listed, 1], found.peak_at[listed, 0]
    order = np.lexsort((x, y, -found.area[listed], -found.peak[listed], -beyond[listed]))
    regions = []
    for label, i in enumerate(listed[order], start=1):
        x0, y0, x1, y1 = found.box[i].tolist()
        centroid_x, centroid_y = found.centroid[i].tolist()
        peak_x, peak_y = found.peak_at[i].tolist()
        area = int(found.area[i])
        regions.append(
            Region(
                label=label,
                verdict=Verdict.NG if beyond[i] == 2 else Verdict.REVIEW,
                box=(x0, y0, x1, y1),
                centroid=(centroid_x, centroid_y),
                area=area,
                area_um2=None if um_per_px is None else area * um_per_px**2,
                peak=float(found.peak[i]),
                peak_at=(peak_x, peak_y),
                mean=float(found.mean[i]),
            )
        )
    return tuple(regions)


def mask_of(map: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """(H, W) bool, True on the pixels of `regions`, which must have been found in this very map."""
    if not regions:
        return np.zeros(map.shape, dtype=bool)
    found = _components(map)
    listed = np.zeros(len(found.area) + 1, dtype=bool)
    listed[[found.labels[y, x] for x, y in (region.peak_at for region in regions)]] = True
    if listed[0]:
        raise ValueError("a region lies where the map is not above the threshold: it belongs to another map")
    return listed[found.labels]


def _components(map: np.ndarray) -> _Components:
    map = np.asarray(map, dtype=np.float32)  # the precision of the map files: they lead to the same regions
    if map.ndim != 2:
        raise ValueError(f"a map has the shape (H, W), this one {map.shape}")
    # NaN > 1.0 is False: without this check a broken map would be reported as good.
    if not np.isfinite([map.min(), map.max()]).all():
        raise InspectGanError("the anomaly map holds values that are not finite; check the input and the model")
    above = map > THRESHOLD
    count, labels, stats, centroid = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    left, top, width, height, area = stats[1:].T

    peak = np.full(count - 1, -np.inf, dtype=np.float32)
    first = np.empty(count - 1, dtype=np.int64)  # pixel of the first peak
    total = np.zeros(count - 1)
    for start in range(0, map.size, _BLOCK):
        pixels = start + np.flatnonzero(above.reshape(-1)[start : start + _BLOCK])
        owner: np.ndarray = labels.reshape(-1)[pixels] - 1
        values = map.reshape(-1)[pixels]
        before = peak.copy()
        np.maximum.at(peak, owner, values)
        at_peak = np.flatnonzero((values == peak[owner]) & (values > before[owner]))[::-1]  # the first is written last
        first[owner[at_peak]] = pixels[at_peak]
        np.add.at(total, owner, values)
    return _Components(
        labels=labels,
        box=np.stack([left, top, left + width, top + height], axis=1),
        centroid=centroid[1:],
        area=area,
        peak=peak,
        peak_at=np.stack([first % map.shape[1], first // map.shape[1]], axis=1),
        mean=total / area,
    )
