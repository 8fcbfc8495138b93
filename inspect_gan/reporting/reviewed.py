"""Ground truth out of an inspection that a person corrected."""

from pathlib import Path

import cv2
import numpy as np

from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import read_mask, write_png
from inspect_gan.reporting.corrections import ImageCorrections, alarm_regions, read_corrections
from inspect_gan.reporting.tables import RESULTS_JSON
from inspect_gan.scoring.units import read_map


def write_masks(results: Path, corrections: Path, out: Path) -> tuple[int, int]:
    """Write a mask of every image of an inspection to `out`: its listed regions without the false alarms, and the boxes
    of missed defects.

    results: the folder that `defect_map` wrote. Outlines are those of the map, or boxes: good for counting which
    defects are found, not for figures of pixels. Returns the number of masks and of corrected images. Raises
    InspectGanError when files are missing or damaged, or when corrections name an image that was not inspected.
    """
    made = read_corrections(corrections)
    corrected = {one.image: one for one in made.images}
    try:
        entries = [entry for entry in read_json(results / RESULTS_JSON)["images"] if entry["mask"] is not None]
        masks = {str(entry["image"]): results / entry["mask"] for entry in entries}
        maps = {str(entry["image"]): results / entry["map"] for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())
        raise InspectGanError(
            f"{results} holds no finished inspection ({why}): give the --out of defect_map"
        ) from error
    strangers = sorted(corrected.keys() - masks.keys())
    if strangers:
        raise InspectGanError(
            f"{corrections} corrects {strangers[0]}, which {results} has not inspected: give the folder of that report"
        )
    if out.exists() and any(out.iterdir()):
        raise InspectGanError(f"{out} is not empty: choose another folder")
    for image, file in masks.items():
        mask = read_mask(file)
        if image in corrected:
            mask = _corrected(mask, corrected[image], file, maps[image], corrections)
        write_png(out / file.name, mask.astype(np.uint8) * 255)
    return len(masks), len(corrected)


def _corrected(mask: np.ndarray, made: ImageCorrections, file: Path, map_file: Path, corrections: Path) -> np.ndarray:
    if mask.shape != (made.height, made.width):
        raise InspectGanError(
            f"{file} has {mask.shape[1]} x {mask.shape[0]} px, the corrected image {made.width} x {made.height}: "
            "give the folder of that report"
        )
    if made.false_alarms:
        map, units = read_map(map_file)
        labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]
        wrong: set[int] = set()
        for here, inside in alarm_regions(corrections, made, map, units, before=units):
            wrong.update(labels[here][inside].tolist())
        mask &= ~np.isin(labels, list(wrong))
    for x0, y0, x1, y1 in (one.box for one in made.missed):
        mask[y0:y1, x0:x1] = True
    return mask
