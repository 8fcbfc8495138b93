"""Procedural scanning-electron-microscope images of nanofibre mats, normal or with defects and exact masks.

Made for demonstrations and tests that need no download. The look follows the normal images of NanoTWICE
(Carrera, Manganini, Boracchi, Lanzarone 2017, "Defect Detection in SEM Images of Nanofibrous Materials", IEEE
Transactions on Industrial Informatics 13(2), 551-561); docs/nanofibres.md has the measured agreement.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from inspect_gan.datasets.made import begin, finish
from inspect_gan.datasets.nanofibres_defects import KINDS, Planner
from inspect_gan.datasets.nanofibres_fibres import FibreStyle, grow, paint, smooth_field, smooth_line
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.reading import to_samples
from inspect_gan.imaging.writing import write_png

__all__ = ["KINDS", "Defect", "FibreImage", "FibreStyle", "render", "write_dataset"]

SHORTEST_SIDE = 16
BACKGROUND = 0.002  # light from below all fibres, relative to a front fibre

# independent random streams of one image: more defects never change its fibres or its noise
FIBRES, DEFECTS, EXPOSURE = range(3)


@dataclass(frozen=True)
class Defect:
    """One visible defect: `kind`, bounding `box` (x0, y0, x1, y1), x1 and y1 exclusive, `area` in pixels."""

    kind: str
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True, eq=False)
class FibreImage:
    """A rendered image: `pixels` (H, W) uint8 or uint16; `mask` (H, W) bool, True where a defect is seen."""

    pixels: np.ndarray
    mask: np.ndarray
    defects: list[Defect]


def render(
    height: int,
    width: int,
    seed: int,
    *,
    defects: int | Sequence[str] = 0,
    bit_depth: int = 8,
    style: FibreStyle | None = None,
) -> FibreImage:
    """Render one image, a pure function of its arguments.

    defects: how many of random kinds (clumps most often, as in real mats), or the kinds one by one. Their
    longest sides are 8 px to a fifth of the image's shorter side; a bead is always thicker than its fibre.
    The mask is what is altered and visible, not what a nearer fibre covers; a defect of which nothing is
    visible is not listed. The same seed without defects gives the same fibres and the same noise, so the two
    images differ at the defects only, up to the few pixels that blur and half-covered fibre edges reach.
    Raises InspectGanError for a side below 16 px, a negative seed or count, an unknown kind or bit depth.
    """
    style = style or FibreStyle()
    _check(height, width, seed, bit_depth)
    kinds = _kinds(defects, seed)
    pad = style.pad
    shape = (height + 2 * pad, width + 2 * pad)
    fibres = grow(np.random.default_rng([seed, FIBRES]), style, shape)
    planner = Planner(fibres, style, shape, len(kinds))
    for number, kind in enumerate(kinds, start=1):
        planner.add(np.random.default_rng([seed, DEFECTS, number]), kind, number)
    painter = paint(style, fibres, shape, planner.patches, planner.cuts)
    owner = painter.owner[pad:-pad, pad:-pad]
    exposed = _expose(np.random.default_rng([seed, EXPOSURE]), painter.value, style)
    return FibreImage(to_samples(exposed, bit_depth), owner > 0, _listed(owner, kinds))


def _check(height: int, width: int, seed: int, bit_depth: int) -> None:
    """Refuse what cannot be rendered."""
    if min(height, width) < SHORTEST_SIDE:
        raise InspectGanError(
            f"A nanofibre image of {width}x{height} px is too small; use sides of {SHORTEST_SIDE} px or more."
        )
    if bit_depth not in (8, 16):
        raise InspectGanError(f"Nanofibre images of {bit_depth} bits are not possible; use 8 or 16.")
    if seed < 0:
        raise InspectGanError(f"Seed {seed} is not possible; use 0 or a positive whole number.")


def _kinds(defects: int | Sequence[str], seed: int) -> list[str]:
    """The kinds to draw, one per defect."""
    if isinstance(defects, str):
        defects = [defects]
    if isinstance(defects, int):
        if defects < 0:
            raise InspectGanError(f"{defects} defects are not possible; use 0 or more.")
        chances = np.array([often for often, _, _ in KINDS.values()])
        rng = np.random.default_rng([seed, DEFECTS])
        return [str(k) for k in rng.choice(list(KINDS), size=defects, p=chances / chances.sum())]
    for kind in defects:
        if kind not in KINDS:
            raise InspectGanError(f'There is no nanofibre defect "{kind}"; use one of {", ".join(KINDS)}.')
    return list(defects)


def _expose(rng: np.random.Generator, value: np.ndarray, style: FibreStyle) -> np.ndarray:
    """(H, W) float32 in [0, 1]: what the microscope records of the padded brightness `value`."""
    pad = style.pad
    value = cv2.GaussianBlur(value, (0, 0), style.blur) if style.blur > 0 else value
    rows = slice(pad, value.shape[0] - pad)
    middle, left, right = (value[rows, pad + k : value.shape[1] - pad + k] for k in (0, -1, 1))
    height, width = middle.shape
    shift = np.clip(style.jitter * rng.standard_normal((height, 1), dtype=np.float32), -1, 1)
    seen = middle + np.maximum(shift, 0) * (right - middle) + np.maximum(-shift, 0) * (left - middle)
    drift = smooth_field(rng, (height, width), 20 * style.width)
    streaks = smooth_line(rng, height, 3.0)[:, None]
    seen += np.float32(BACKGROUND)
    seen *= np.exp(style.charging * drift + (style.charging / 3) * streaks)
    seen *= np.float32(style.gain)
    # the power 3/4 was measured on real images: between shot noise (1/2) and fluctuating emission (1)
    grain = np.sqrt(seen * np.sqrt(seen)) * rng.standard_normal(seen.shape, dtype=np.float32)
    seen += np.float32(style.noise) * grain
    return np.clip(1 - np.exp(-seen), 0, 1)


def _listed(owner: np.ndarray, kinds: Sequence[str]) -> list[Defect]:
    """The visible defects of `owner` (H, W), whose values are 1 + the place in `kinds`, or 0."""
    found = []
    for number, kind in enumerate(kinds, start=1):
        rows, columns = np.nonzero(owner == number)
        if len(rows):
            box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            found.append(Defect(kind, box, len(rows)))
    return found


GENERATOR = "inspect-gan nanofibres"


def write_dataset(
    out: Path,
    *,
    normal: int = 5,
    good: int = 2,
    defective: int = 6,
    height: int = 700,
    width: int = 1024,
    bit_depth: int = 8,
    seed: int = 0,
    style: FibreStyle | None = None,
) -> None:
    """Write a data set in the MVTec layout: PNG images, PNG masks (0 or 255) and `defects.json`.

    normal: images in train/good; good: normal images in test/good; defective: images in test/defect, each
    with 4 to 12 defects of random kinds, and their masks in ground_truth/defect. `defects.json` lists kind,
    box and area of every defect by image. What an earlier data set of this function left in `out` is removed.
    Raises InspectGanError when `out` holds anything else or cannot be written, and where `render` does.
    """
    counts = {"train/good": normal, "test/good": good, "test/defect": defective}
    if min(counts.values()) < 0:
        raise InspectGanError(f"A data set of {min(counts.values())} images is not possible; use 0 or more.")
    style = style or FibreStyle()
    _check(height, width, seed, bit_depth)
    size = {"height": height, "width": width, "bit_depth": bit_depth}
    about: dict[str, object] = {"generator": GENERATOR, "seed": seed, **size, "style": asdict(style)}
    begin(out, about)
    images: dict[str, list[dict[str, object]]] = {}
    for group, (folder, count) in enumerate(counts.items()):
        for number in range(count):
            image_seed, more = (int(n) for n in np.random.SeedSequence([seed, group, number]).generate_state(2))
            defects = 4 + more % 9 if folder == "test/defect" else 0
            image = render(height, width, image_seed, defects=defects, bit_depth=bit_depth, style=style)
            name = f"{folder}/{number:03d}.png"
            write_png(out / name, image.pixels)
            images[name] = [asdict(defect) for defect in image.defects]
            if defects:
                mask = image.mask.astype(np.uint8) * 255
                write_png(out / "ground_truth" / "defect" / f"{number:03d}_mask.png", mask)
    finish(out, about, images)
