"""A few images of the test part in rows: the image, its map, what was found against the ground truth."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from inspect_gan.evaluation.protocol import Evaluation, stored_maps
from inspect_gan.evaluation.sheets import drawn_truth, name_of, write
from inspect_gan.imaging import Image
from inspect_gan.reporting.pictures import displayed, heatmap

ROWS = 6
WIDTH = 512  # px of each picture
_CAPTION, _GAP = 20, 6


def gallery(evaluation: Evaluation, out: Path, load: Callable[[Path], Image]) -> np.ndarray:
    """(H, W, 3) uint8: of `ROWS` images, evenly spread over the defective ones in their order, the grey image, its map
    from 0 to twice the threshold, and the grey image with green: ground truth, red: above the threshold.

    out: where the evaluation left its maps. load: reads an image.
    """
    images = evaluation.images
    defective = [number for number, image in enumerate(images) if image.defective] or list(range(len(images)))
    places = np.linspace(0, len(defective) - 1, min(ROWS, len(defective)))
    chosen = {defective[round(place)] for place in places}
    samples = [image.sample for image in images]
    rows = []
    for number, (units, mask) in enumerate(islice(stored_maps(out, samples), max(chosen) + 1)):
        if number in chosen:
            grey, units = _reduced(displayed(load(samples[number].image))), _reduced(units)
            truth = _reduced(mask.astype(np.uint8) * 255) > 127
            pictures = [cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), heatmap(units), drawn_truth(grey, units, truth)]
            image = images[number]
            caption = f"{name_of(image.sample)}: pixel AUROC {image.pixel_auroc:.3f}, AP {image.pixel_ap:.3f}"
            rows.append(_row(pictures, caption))
    return np.concatenate(rows)


def _reduced(values: np.ndarray) -> np.ndarray:
    """(H, W) to the width of a picture, before three channels are made of it: images may be large."""
    height, width = values.shape
    return cv2.resize(values, (WIDTH, max(round(height * WIDTH / width), 1)), interpolation=cv2.INTER_AREA)


def _row(pictures: list[np.ndarray], caption: str) -> np.ndarray:
    """Pictures of one size side by side over a line of text."""
    height = len(pictures[0])
    row = np.full((height + _CAPTION, len(pictures) * (WIDTH + _GAP), 3), 255, dtype=np.uint8)
    for i, picture in enumerate(pictures):
        row[:height, i * (WIDTH + _GAP) :][:, :WIDTH] = picture
    write(row, caption, height + 14)
    return row
