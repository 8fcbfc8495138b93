"""Objects pasted into good images: something to choose between detectors with, when there is no defective image.

The objects are the clumps, films, droplets, particles and threads of the synthetic nanofibres, as large and in greys or
colours as the image asks for. They share no code with the spots that training may draw (`patches.drawn`).
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import cv2
import numpy as np

from inspect_gan.datasets.made import begin, finish
from inspect_gan.datasets.nanofibres import Defect
from inspect_gan.datasets.nanofibres_defects import SPRITES
from inspect_gan.datasets.sources import open_dataset
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.info_bar import InfoBar
from inspect_gan.imaging.reading import RawImage, read, read_raw, to_float, to_samples
from inspect_gan.imaging.writing import write_png, write_tiff
from inspect_gan.patches.holdout import split

SMALLEST = 8  # px, longest side of the smallest object
LARGEST = 0.2  # longest side of the largest object over the image's shorter side
COVER = 0.02  # share of the pixels that become defective
TRIES = 1000  # objects and places looked at for one image
GAP = 4  # px between objects

# Greys of objects are counted in contrasts of the surface: from its 5 % to its 95 % quantile, 16 levels at least
# (floating point counts as 16 bits).
QUANTILES = (0.05, 0.95)
LEVELS = 16
BEYOND = 0.5  # how far objects may be darker or brighter than these quantiles
TINT = 0.25  # how far each channel of an object's colour may be off the surface's colours
BEHIND = 0.4  # share of the objects that lie behind what is brighter than some grey
VISIBLE = 0.1  # mean change from which an object can be seen
SHOWS = 0.3  # share of an object that must not be hidden

GENERATOR = "inspect-gan pasted"
HELD_OUT = 0.25  # share of the width of every image, or of the images
OBJECTS = 300  # wanted in a data set
MOST_COPIES = 20  # of one held-out part


@dataclass(frozen=True)
class Surface:
    """What objects on an image take their colours from: `low` and `high` (C,), the QUANTILES of its samples in [0, 1],
    and `contrast`, the largest difference of the two."""

    low: np.ndarray
    high: np.ndarray
    contrast: float

    @classmethod
    def of(cls, image: np.ndarray, bit_depth: int) -> Self:
        """image: (H, W, C) float32 in [0, 1]."""
        low, high = np.quantile(image, QUANTILES, axis=(0, 1))
        return cls(low, high, max(float((high - low).max()), LEVELS / (2 ** min(bit_depth, 16) - 1)))

    def colour(self, rng: np.random.Generator) -> np.ndarray:
        """(C,) in about [0, 1]: one of the surface, or somewhat darker, brighter or, where there is colour, of another
        tint."""
        reach = BEYOND * self.contrast
        grey = rng.uniform(max(self.low.mean() - reach, 0), min(self.high.mean() + reach, 1))
        spread = self.high - self.low + 1e-6
        colour = self.low + (grey - self.low.mean()) * spread / spread.mean()
        return colour + TINT * self.contrast * rng.uniform(-1, 1, len(colour)) * (len(colour) > 1)

    def lets_show(self, rng: np.random.Generator, under: np.ndarray) -> np.ndarray:
        """(h, w) in [0, 1] for (h, w, C) of it: 0 where it is brighter than some grey and hides what lies below."""
        grey = cv2.GaussianBlur(under.mean(2), (0, 0), 1.0)  # without the noise, that would riddle the object
        hidden = self.low.mean() + rng.uniform(0.2, 0.9) * (self.high - self.low).mean()
        return np.clip((hidden - grey) * 10 / self.contrast + 0.5, 0, 1)


class Counts(NamedTuple):
    """Images in train/good, test/good and test/pasted, and objects in the latter."""

    train: int
    good: int
    pasted: int
    objects: int


def write_dataset(
    images: Path,
    out: Path,
    *,
    size: int = 64,
    seed: int = 0,
    layout: str = "auto",
    page: int | None = None,
    info_bar: InfoBar = "none",
) -> Counts:
    """Write a data set in the MVTec layout from the normal training images of another one.

    A quarter of every image's width, or of the images where there are many (`patches.holdout`), is kept from train/good
    and becomes test/good, and test/pasted with objects in it; masks in ground_truth/pasted. Each part is pasted into as
    often as OBJECTS objects in all need. Files are PNG in the image's bit depth, TIFF for floating point. size: px,
    side of a patch that every part must hold. layout, page, info_bar: how `images` are found and read, as in training;
    what is written is without the bar. `defects.json` lists kind, box and area of every object by image, and in
    `sources` the original names by number.

    What an earlier data set of this function left in `out` is removed. Raises InspectGanError when `out` holds anything
    else, and for images that cannot be read or divided.
    """
    paths = [sample.image for sample in open_dataset(images, layout).train]
    if any(out.resolve() in path.resolve().parents for path in paths):
        raise InspectGanError(f"{out}: holds the images to paste into; give another folder")
    source = partial(read, page=page, info_bar=info_bar)
    # every image is decoded before a file is removed or written
    sizes = [(image.height, image.width) for image in map(source, paths)]
    parts = split(sizes, size, fraction=HELD_OUT, seed=seed)
    about = {"generator": GENERATOR, "seed": seed, "size": size, "sources": [path.name for path in paths]}
    begin(out, about)
    images_of: dict[str, list[dict[str, object]]] = {}
    held_out: dict[int, Path] = {}
    for folder, regions in (("train/good", parts.train), ("test/good", parts.held_out)):
        for region in regions:
            image = source(paths[region.image])
            part = to_samples(image.pixels[region.window], image.bit_depth)
            path = _write(out / folder, f"{region.image:03d}", part)
            images_of[path.relative_to(out).as_posix()] = []
            if folder == "test/good":
                held_out[region.image] = path
    objects = pasted = 0
    for copy in range(MOST_COPIES):
        for number, path in held_out.items():
            array, mask, defects = paste_defects(read_raw(path), np.random.default_rng([seed, number, copy]))
            name = f"{number:03d}_{copy}"
            path = _write(out / "test/pasted", name, array)
            write_png(out / "ground_truth/pasted" / f"{name}_mask.png", mask.astype(np.uint8) * 255)
            images_of[path.relative_to(out).as_posix()] = [asdict(defect) for defect in defects]
            objects, pasted = objects + len(defects), pasted + 1
        if objects >= OBJECTS:
            break
    finish(out, about, images_of)
    return Counts(len(parts.train), len(held_out), pasted, objects)


def _write(folder: Path, stem: str, array: np.ndarray) -> Path:
    """Write samples in a format that keeps them."""
    if array.dtype == np.float32:
        path = folder / f"{stem}.tiff"
        write_tiff(path, array)
    else:
        path = folder / f"{stem}.png"
        write_png(path, array)
    return path


def paste_defects(raw: RawImage, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[Defect]]:
    """A good image with defects: samples of its shape and type, their mask (H, W) bool, and a list of them.

    About COVER of the pixels become defective, in objects that stand alone and can be seen. All other pixels stay as
    they are, but for the soft edges of the objects.
    """
    image = to_float(raw.array).copy()
    surface = Surface.of(image, raw.bit_depth)
    height, width, _ = image.shape
    mask, free = np.zeros((height, width), bool), np.ones((height, width), bool)
    shorter = min(height, width)
    defects: list[Defect] = []
    for _ in range(TRIES):
        if mask.mean() >= COVER:
            break
        size = np.exp(rng.uniform(np.log(SMALLEST), np.log(max(2 * SMALLEST, LARGEST * shorter))))
        kind = str(rng.choice(list(SPRITES)))
        alpha, value = SPRITES[kind](rng, min(round(size), shorter))
        top, left = (int(rng.integers(full - len(alpha) + 1)) for full in (height, width))
        place = slice(top, top + len(alpha)), slice(left, left + len(alpha))
        under = image[place]
        whole = int((alpha > 0.5).sum())
        if rng.random() < BEHIND:
            alpha = alpha * surface.lets_show(rng, under)
        solid = alpha > 0.5
        area = int(solid.sum())
        if area < max(SHOWS * whole, SMALLEST) or not free[place].all():
            continue
        relief = surface.contrast * (value - value[solid].mean())
        over = np.clip(surface.colour(rng) + relief[:, :, None], 0, 1)
        change = alpha[:, :, None] * (over - under)
        if np.abs(change[solid]).mean() < VISIBLE * surface.contrast:
            continue
        image[place] = np.clip(under + change, 0, 1)  # rounding may leave the range
        mask[place] = solid
        free[max(top - GAP, 0) : place[0].stop + GAP, max(left - GAP, 0) : place[1].stop + GAP] = False
        (y, x), (down, right) = np.argwhere(solid).min(0).tolist(), (np.argwhere(solid).max(0) + 1).tolist()
        defects.append(Defect(kind, (left + x, top + y, left + right, top + down), area))
    return to_samples(image, raw.bit_depth), mask, defects
