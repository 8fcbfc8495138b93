"""What the report shows of an image, in files that a page opened without a server may read."""

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspect_gan.imaging.image import Image
from inspect_gan.imaging.writing import atomic_bytes, atomic_text
from inspect_gan.reporting.pictures import COLOUR_MAPS, colours, displayed_whole
from inspect_gan.scoring.calibration import MOVED
from inspect_gan.scoring.regions import THRESHOLD

PIXELS = 1 << 24  # of the largest map that a browser labels while a slider moves; larger ones are reduced
SIDE = 1 << 15  # px of the largest picture that every browser shows
PEAKS = np.geomspace(4.0, 64.0, 33)[1:].astype(np.float32)  # values beyond the thresholds, to tell peaks apart
THUMBNAIL = (160, 120)  # px, width and height at most
_QUALITY = 90  # of pictures
_BLOCK = 1 << 22  # pixels looked at together


def levels(peak_limit: float) -> np.ndarray:
    """(n,) float32, ascending, fewer than 256: the values of a map that the viewer must tell apart, which are the
    thresholds it offers, the highest value of good material, and steps for peaks."""
    return np.unique(np.concatenate([MOVED, PEAKS, np.array([peak_limit], np.float32)]))


def write_view(path: Path, image: Image | None, map: np.ndarray, peak_limit: float) -> None:
    """Write `path` (.js) with the map and beside it the picture (.jpg); without an image the picture stays as it is.

    map: (H, W) float32, threshold units, of the whole file, an info bar included. Of each pixel the script holds how
    many of `levels` lie below it: exactly what the map says at every threshold that the viewer offers. A map of more
    than `PIXELS` is reduced to the maxima of squares. Raises InspectGanError when they cannot be written.
    """
    height, width = map.shape
    step = math.ceil(math.sqrt(map.size / PIXELS))
    if step > 1:
        for axis in (0, 1):
            map = np.maximum.reduceat(map, np.arange(0, map.shape[axis], step), axis=axis)
    found = np.empty(map.size, dtype=np.uint8)
    values, known = map.reshape(-1), levels(peak_limit)
    for start in range(0, len(values), _BLOCK):
        found[start : start + _BLOCK] = np.searchsorted(known, values[start : start + _BLOCK])
    entry = {
        "width": width,
        "height": height,
        "step": step,
        "levels": "data:image/png;base64," + base64.b64encode(_encoded(".png", found.reshape(map.shape))).decode(),
    }
    if image is not None:
        picture = displayed_whole(image)
        if max(picture.shape) > SIDE:
            scale = SIDE / max(picture.shape)
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        atomic_bytes(picture_of(path), _encoded(".jpg", picture, cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    atomic_text(path, f"inspectGanMap({json.dumps(entry)});\n")


def picture_of(path: Path) -> Path:
    """The picture beside the script of an image."""
    return path.with_suffix(".jpg")


def write_thumbnail(path: Path, overlay: np.ndarray) -> None:
    """Write the overlay (H, W, 3) uint8 RGB small, beside the script `path` of its image: a page of a thousand images
    must not read every pixel of them. Raises InspectGanError when it cannot be written."""
    size = [2 * side for side in thumbnail_size(overlay.shape[1], overlay.shape[0])]  # sharp on fine screens
    if size[0] < overlay.shape[1]:
        overlay = cv2.resize(overlay, size, interpolation=cv2.INTER_AREA)
    atomic_bytes(thumbnail_of(path), _encoded(".webp", overlay[..., ::-1], cv2.IMWRITE_WEBP_QUALITY, _QUALITY))


def thumbnail_of(path: Path) -> Path:
    """The thumbnail beside the script of an image; earlier versions made none."""
    return path.with_suffix(".webp")


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in px that an image has in the table of the report."""
    scale = min(THUMBNAIL[0] / width, THUMBNAIL[1] / height)
    return max(1, round(scale * width)), max(1, round(scale * height))


def settings(header: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the viewer knows of all images, for JSON; None where the header names no calibration. header: as for
    `tables.write_results`."""
    calibration = header.get("calibration") or {}
    if "peak_limit" not in calibration:
        return None
    known = levels(calibration["peak_limit"])
    moved = calibration.get("moved") or [[None, calibration["area_limit"]]] * len(MOVED)
    return {
        "run": header.get("run"),
        "raw": [calibration["origin"], calibration["threshold"]],  # scores that are 0 and 1
        "levels": known.tolist(),
        "thresholds": np.searchsorted(known, MOVED).tolist(),  # places in the levels
        "calibrated": int(np.searchsorted(MOVED, np.float32(THRESHOLD))),  # place in the thresholds
        "false_alarms": [share for share, _ in moved],
        "area_limits": [area for _, area in moved],
        "peak_limit": int(np.searchsorted(known, np.float32(calibration["peak_limit"]))),
        "min_area": header.get("min_area", 1),
        "colours": [[name, colours(name)[3::4].tolist()] for name in COLOUR_MAPS],
    }


def _encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()
