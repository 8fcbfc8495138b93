"""Pictures of maps and regions for people, on one fixed colour scale: the same value, the same colour."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import cv2
import numpy as np

from inspect_gan.imaging.image import Image
from inspect_gan.scoring.regions import THRESHOLD, Region, mask_of
from inspect_gan.scoring.verdict import Verdict

SCALE_TOP = 2 * THRESHOLD  # map value of the last colour; the threshold is the middle of the scale
FAINT = 0.75 * THRESHOLD  # below this a map value leaves the image grey
OPACITY = 0.5  # of the colours at the threshold and above
CONTOUR = {Verdict.REVIEW: (255, 200, 0), Verdict.NG: (255, 32, 32)}  # the last is drawn on top
COLOUR_MAPS = {"viridis": cv2.COLORMAP_VIRIDIS, "cividis": cv2.COLORMAP_CIVIDIS, "inferno": cv2.COLORMAP_INFERNO}
DISPLAYED_PERCENTILES = (0.5, 99.5)  # what black and white show of an image with more than 8 bits
_BLOCK = 1 << 16  # pixels that are blended together: on the way each takes some 100 bytes


@cache
def colours(name: str = "viridis") -> np.ndarray:
    """(256, 3) uint8 RGB, the fixed scale from map value 0 to `SCALE_TOP`: one of COLOUR_MAPS, where viridis is the
    pictures' own.

    Perceptually uniform, readable without colour vision, and viridis is free of the red and amber of the contours.
    """
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], COLOUR_MAPS[name])
    table: np.ndarray = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)[0]
    table.setflags(write=False)
    return table


def heatmap(map: np.ndarray) -> np.ndarray:
    """The whole map in colours. map: (H, W) float, threshold units. Returns (H, W, 3) uint8 RGB."""
    return colours()[np.rint(np.clip(map / SCALE_TOP, 0, 1) * 255).astype(np.uint8)]


def overlay(image: Image, map: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """The grey image, translucent colours where the map nears or passes the threshold, and numbered regions.

    Below it the info bar that was cut off, if any. map: (H, W) float32, threshold units; regions: of this map. Returns
    (H, W, 3) uint8 RGB. Contours run around their regions, never over them: red for NG, amber for REVIEW; numbers are
    the regions' labels.
    Raises ValueError when map and image differ in size.
    """
    grey = displayed_whole(image)
    if map.shape != grey.shape:
        raise ValueError(f"the map has the shape {map.shape}, its image {grey.shape}")
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    rows = -(-_BLOCK // map.shape[1])
    for top in range(0, len(map), rows):
        _blend(picture[top : top + rows], map[top : top + rows])
    if regions:
        masks = {verdict: mask_of(map, [r for r in regions if r.verdict == verdict]) for verdict in CONTOUR}
        inside = np.logical_or.reduce(list(masks.values()))
        for verdict, mask in masks.items():
            draw_contour(picture, mask, inside, CONTOUR[verdict])
        _draw_numbers(picture, inside, regions)
    return picture


def _blend(picture: np.ndarray, map: np.ndarray) -> None:
    """Lay the colours of a map (H, W) on the picture (H, W, 3)."""
    notable = map > FAINT
    values = map[notable]
    opacity = OPACITY * np.clip((values - FAINT) / (THRESHOLD - FAINT), 0, 1)[:, None]
    picture[notable] = np.rint((1 - opacity) * picture[notable] + opacity * heatmap(values))


def displayed(image: Image) -> np.ndarray:
    """(H, W) uint8 grey. More than 8 bits are stretched for the eye; scores never see this."""
    pixels = image.pixels
    grey = pixels[..., 0] if image.channels == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if image.bit_depth > 8:
        black, white = np.percentile(grey, DISPLAYED_PERCENTILES)
        if white > black:
            grey = (grey - black) / (white - black)
    return np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def displayed_whole(image: Image) -> np.ndarray:
    """The same with the info bar that was cut off, as the file has it."""
    grey = displayed(image)
    if image.info_bar is None:
        return grey
    # By itself: black and white of the text are not those of the picture.
    return np.concatenate([grey, displayed(replace(image, pixels=image.info_bar))])


def _line_width(picture: np.ndarray) -> int:
    """One pixel for pictures of a screen's size, more for larger ones, which will be seen reduced to it."""
    return max(1, round(max(picture.shape[:2]) / 800))


def draw_contour(picture: np.ndarray, mask: np.ndarray, inside: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw `colour` around `mask`, leaving the pixels `inside` any region as they are. All (H, W[, 3])."""
    if mask.any():
        width = _line_width(picture)
        to_mask = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_C, 3)
        picture[(to_mask <= 2 * width) & ~inside] //= 2  # a dark halo sets the line off from any background
        picture[(to_mask <= width) & ~inside] = colour


def _draw_numbers(picture: np.ndarray, inside: np.ndarray, regions: Sequence[Region]) -> None:
    """A tag beside each region, worst first, off all regions where there is room.

    Left out: a tag for which only the place of an earlier one remains, and tags on a picture so small that
    they would hide a good part of it.
    """
    height, width = picture.shape[:2]
    gap = 2 * _line_width(picture)
    tagged = np.zeros((height, width), dtype=bool)
    for region in regions:
        tag = _tag(str(region.label), CONTOUR[region.verdict], gap)
        tag_height, tag_width = tag.shape[:2]
        if 4 * tag_height > height or 4 * tag_width > width:
            continue
        x0, y0, x1, y1 = region.box
        level_x = round(region.centroid[0] - tag_width / 2)
        level_y = round(region.centroid[1] - tag_height / 2)
        free = []
        for corner_x, corner_y in (
            (level_x, y0 - gap - tag_height),
            (level_x, y1 + gap),
            (x0 - gap - tag_width, level_y),
            (x1 + gap, level_y),
        ):
            x, y = min(max(corner_x, 0), width - tag_width), min(max(corner_y, 0), height - tag_height)
            place = np.s_[y : y + tag_height, x : x + tag_width]
            if not tagged[place].any():
                free.append((inside[place].any(), place))
        if free:
            _, place = min(free, key=lambda choice: choice[0])
            picture[place] = tag
            tagged[place] = True


def _tag(text: str, colour: tuple[int, int, int], margin: int) -> np.ndarray:
    """`text` in black on `colour`, (h, w, 3) uint8, its size following the line width."""
    font, size, stroke = cv2.FONT_HERSHEY_SIMPLEX, 0.2 * margin, max(1, margin // 2)
    (width, height), _ = cv2.getTextSize(text, font, size, stroke)
    tag = np.full((height + 2 * margin, width + 2 * margin, 3), colour, dtype=np.uint8)
    cv2.putText(tag, text, (margin, height + margin), font, size, (0, 0, 0), stroke, cv2.LINE_AA)
    return tag
