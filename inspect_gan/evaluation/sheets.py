"""Contact sheets: the false alarms and the missed defects that an inspection would be blamed for first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from inspect_gan.datasets.samples import Sample
from inspect_gan.evaluation.protocol import Evaluation, stored_maps
from inspect_gan.imaging import Image
from inspect_gan.reporting.pictures import displayed, draw_contour
from inspect_gan.scoring.regions import THRESHOLD, Limits, Region, find_regions, mask_of

TILE = 192  # px of the image shown around a place
COLUMNS, ROWS = 5, 3
PER_IMAGE = 3  # false alarms shown of one image, which often repeats the same one
_CAPTION = 34  # px below each tile
_GAP = 6
_TRUTH, _ALARM = (80, 220, 80), (255, 64, 64)


@dataclass(frozen=True)
class Place:
    """A box x0, y0, x1, y1 px of image number `image`; the higher the rank the worse."""

    image: int
    box: tuple[int, int, int, int]
    rank: float
    caption: str


def false_alarms(evaluation: Evaluation, out: Path) -> list[Place]:
    """The regions above the threshold that touch no defect, highest peaks first; at most `PER_IMAGE` of one image, as
    many as a sheet holds."""
    places: list[Place] = []
    for number, (units, mask) in enumerate(stored_maps(out, [image.sample for image in evaluation.images])):
        alarms: list[Place] = []
        for region in find_regions(units, Limits(area=0, peak=THRESHOLD)):  # beyond these limits is every region
            if len(alarms) < PER_IMAGE and not _touches(region, units, mask):
                alarms.append(Place(number, region.box, region.peak, f"peak {region.peak:.2f}, {region.area} px"))
        places = sorted([*places, *alarms], key=lambda place: -place.rank)[: COLUMNS * ROWS]
    return places


def misses(evaluation: Evaluation) -> list[Place]:
    """The defects of which least was found at the calibrated threshold, large ones first among equals."""
    coverage = evaluation.calibrated
    order = np.lexsort((-coverage.areas, coverage.values))[: COLUMNS * ROWS]
    return [
        Place(
            image=int(coverage.images[i]),
            box=tuple(coverage.boxes[i].tolist()),
            rank=-float(coverage.values[i]),
            caption=f"{coverage.areas[i]} px, {coverage.values[i]:.0%} found",
        )
        for i in order
    ]


def sheet(places: Sequence[Place], evaluation: Evaluation, out: Path, load: Callable[[Path], Image]) -> np.ndarray:
    """(H, W, 3) uint8: a tile around each place, at the image's own resolution where it fits; green: ground truth,
    red: above the threshold. load: reads an image."""
    samples = [image.sample for image in evaluation.images]
    tiles: dict[Place, np.ndarray] = {}
    for number, (units, mask) in enumerate(stored_maps(out, samples)):
        here = [place for place in places if place.image == number]
        if here:
            grey = displayed(load(samples[number].image))
            for place in here:
                tiles[place] = _tile(place, grey, units, mask, name_of(samples[number]))
    columns = max(min(COLUMNS, len(places)), 1)
    rows = max(-(-len(places) // columns), 1)
    page = np.full((rows * (TILE + _CAPTION + _GAP), columns * (TILE + _GAP), 3), 255, dtype=np.uint8)
    for i, place in enumerate(places):
        top, left = i // columns * (TILE + _CAPTION + _GAP), i % columns * (TILE + _GAP)
        page[top : top + TILE + _CAPTION, left : left + TILE] = tiles[place]
    if not places:
        write(page, "none", TILE // 2)
    return page


def drawn_truth(grey: np.ndarray, units: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the image (H, W) uint8 with green: ground truth, red: above the threshold."""
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    for inside, colour in ((mask, _TRUTH), (units > THRESHOLD, _ALARM)):
        draw_contour(picture, inside, inside, colour)
    return picture


def name_of(sample: Sample) -> str:
    """Of an image, with its kind of defect where it has one."""
    return f"{sample.kind}/{sample.image.name}" if sample.kind else sample.image.name


def _touches(region: Region, units: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a pixel of the region of the map `units` is one of the mask; others within its box do not count."""
    x0, y0, x1, y1 = region.box
    here = np.s_[y0:y1, x0:x1]
    x, y = region.peak_at
    return bool((mask[here] & mask_of(units[here], [replace(region, peak_at=(x - x0, y - y0))])).any())


def _tile(place: Place, grey: np.ndarray, units: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    height, width = grey.shape
    x0, y0, x1, y1 = place.box
    # A margin, so that what lies around a large defect is seen too.
    side = max(TILE, round(1.25 * max(x1 - x0, y1 - y0)))
    top = int(np.clip((y0 + y1 - side) // 2, 0, max(height - side, 0)))
    left = int(np.clip((x0 + x1 - side) // 2, 0, max(width - side, 0)))
    window = np.s_[top : top + side, left : left + side]
    picture = drawn_truth(grey[window], units[window], mask[window])
    scale = min(TILE / max(picture.shape[:2]), 1)
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.full((TILE + _CAPTION, TILE, 3), 255, dtype=np.uint8)
    tile[: picture.shape[0], : picture.shape[1]] = picture
    write(tile, name if len(name) <= 26 else f"...{name[-23:]}", TILE + 14)
    write(tile, place.caption, TILE + 29)
    return tile


def write(picture: np.ndarray, text: str, y: int) -> None:
    """A line of black text on the picture, its foot at row y."""
    cv2.putText(picture, text, (4, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
