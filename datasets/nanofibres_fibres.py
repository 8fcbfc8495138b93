"""Geometry and painting of the fibre mat behind `inspect_gan.datasets.nanofibres`.

All arrays live in one padded frame: the image with `pad` more pixels on every side, so that a band around a
fibre never has to be clipped against the image border. Fibres are painted from the deepest to the nearest
(painter's algorithm); after each layer everything below is dimmed where that layer covers the neighbourhood,
because fewer secondary electrons escape from there, and is slightly defocused.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np

from inspect_gan.errors import InspectGanError

LIGHT = (0.80, 0.60)  # (x, y) direction in which the electron detector lies
LAYERS = 12
SHADOW_SCALE = 4  # shadows are smooth: they are computed on a grid this many times coarser


@dataclass(frozen=True)
class FibreStyle:
    """How the fibre mat and the microscope look; lengths in pixels, brightness relative to a front fibre.

    width, width_spread: median fibre width and the standard deviation of its logarithm.
    density: mean number of fibres above a point (sum of the fibres' areas over the image's area).
    orientation_spread: standard deviation in degrees of the fibre directions around the image's own
        preferred direction; 60 and more is isotropic.
    curvature: standard deviation in radians of the bending of one fibre away from its straight line.
    bundling: share of the fibres that lie side by side with the fibre painted before.
    fade: optical depth between the nearest and the deepest fibre, whatever lies between.
    shadow, shadow_radius: optical depth of a layer that covers everything, and the reach of its shadow.
    shading, edge: brightening of the side that faces the detector; secondary-electron edge brightening.
    gain: exposure; a front fibre appears at 1 - exp(-gain) of full scale.
    blur, defocus: standard deviation of the detector blur, and of the blur each layer adds to those below.
    jitter: standard deviation of the horizontal displacement of scan lines.
    charging: standard deviation of the slow relative brightness drift; a third of it as line streaks.
    noise: standard deviation of the noise at an exposure of 1; it grows with the exposure's power 3/4.
    """

    width: float = 7.5
    width_spread: float = 0.2
    density: float = 2.7
    orientation_spread: float = 60.0
    curvature: float = 0.04
    bundling: float = 0.06
    fade: float = 4.1
    shadow: float = 1.3
    shadow_radius: float = 9.0
    shading: float = 0.35
    edge: float = 0.15
    gain: float = 3.5
    blur: float = 0.4
    defocus: float = 0.22
    jitter: float = 0.15
    charging: float = 0.06
    noise: float = 0.06

    def __post_init__(self) -> None:
        least = {"width": 1.0, "density": 0.01, "shadow_radius": 1.0}
        most = {"width_spread": 1.0, "bundling": 0.9, "shading": 1.0}
        for name, value in asdict(self).items():
            low, high = least.get(name, 0.0), most.get(name, np.inf)
            if not (np.isfinite(value) and low <= value <= high):
                limits = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} or more"
                raise InspectGanError(f"Fibre style {name}={value} is not possible; use {limits}.")

    @property
    def pad(self) -> int:
        """Width of the margin around the image that is painted and then cut off."""
        return int(np.ceil(4.0 * self.width * np.exp(2.0 * self.width_spread))) + 8


@dataclass(frozen=True, eq=False)
class Fibre:
    """One fibre as a function of its main axis: x for a flat fibre, y for a steep one.

    centre, cosine, radius, gain: (n,) float32 for every main-axis pixel of the frame: the cross-axis
    coordinate, the cosine between fibre and main axis, half the width, the relative brightness.
    lit: how far the side of growing cross-axis coordinate faces the detector, -1 to 1.
    """

    steep: bool
    centre: np.ndarray
    cosine: np.ndarray
    radius: np.ndarray
    gain: np.ndarray
    lit: float

    def points(self, step: int) -> np.ndarray:
        """(m, 2) float32 centre line in (x, y), one point every `step` main-axis pixels and the last one."""
        at = np.unique(np.r_[np.arange(0, len(self.centre), step), len(self.centre) - 1])
        main, cross = at.astype(np.float32), self.centre[at]
        return np.stack([cross, main] if self.steep else [main, cross], axis=1)


@dataclass(frozen=True, eq=False)
class Patch:
    """A painted object: (h, w) float32 alpha and brightness, corner (y, x), and its place in the order."""

    alpha: np.ndarray
    value: np.ndarray
    corner: tuple[int, int]
    order: int
    label: int


@dataclass(frozen=True, eq=False)
class Cuts:
    """Broken fibres: fibre i is missing where `depth` > `level[i]` and i >= `first[label]`.

    depth: (H, W) float32 in [0, 1], 0 outside all holes; label: (H, W) int16 number of the hole, 0 outside.
    first: (labels + 1,) place in the order of the deepest broken fibre.
    level: (fibres,) in [0, 1), makes the ends ragged.
    """

    depth: np.ndarray
    label: np.ndarray
    first: np.ndarray
    level: np.ndarray


def smooth_line(rng: np.random.Generator, length: int, step: float) -> np.ndarray:
    """(length,) float32 smooth unit-variance random curve that varies on the scale of `step` pixels."""
    knots = rng.standard_normal(int(length / step) + 4, dtype=np.float32)
    at = np.arange(length, dtype=np.float32) / np.float32(step) + rng.random(dtype=np.float32)
    left = at.astype(np.int64)
    t = at - left
    # quadratic B-spline of white knots; 1.35 restores its mean variance to 1
    curve = 0.5 * (1 - t) ** 2 * knots[left] + (0.5 + t - t * t) * knots[left + 1] + 0.5 * t * t * knots[left + 2]
    return (1.35 * curve).astype(np.float32)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """(H, W) float32 smooth random field of variance about 1 that varies on the scale of `sigma` px."""
    step = max(1, int(sigma))  # coarse grids keep large scales cheap
    coarse = (shape[0] // step + 2, shape[1] // step + 2)
    noise = cv2.GaussianBlur(rng.standard_normal(coarse, dtype=np.float32), (0, 0), sigma / step)
    unit = noise * np.float32(2 * np.sqrt(np.pi) * sigma / step)
    grown = cv2.resize(unit, (coarse[1] * step, coarse[0] * step), interpolation=cv2.INTER_CUBIC)
    return grown[: shape[0], : shape[1]]


def _random_fibre(rng: np.random.Generator, style: FibreStyle, shape: tuple[int, int], angle: float) -> Fibre:
    """One fibre in direction `angle` (radians) whose line crosses the frame anywhere with equal chance."""
    height, width = shape
    normal = np.array([-np.sin(angle), np.cos(angle)])
    steep = bool(abs(normal[0]) > abs(normal[1]))
    normal *= np.sign(normal[0] if steep else normal[1])
    reach = (width * abs(normal[0]) + height * abs(normal[1])) / 2
    x, y = np.array([width, height]) / 2 + normal * rng.uniform(-reach, reach)
    length = height if steep else width
    main = np.arange(length, dtype=np.float32)
    slope = -normal[1] / normal[0] if steep else -normal[0] / normal[1]
    centre = (x + slope * (main - y)) if steep else (y + slope * (main - x))
    for wavelength in np.exp(rng.uniform(np.log(25 * style.width), np.log(250 * style.width), 3)):
        bend = style.curvature * rng.standard_normal() * wavelength / (2 * np.pi)
        centre = centre + bend * np.sin(main * (2 * np.pi / wavelength) + rng.uniform(0, 2 * np.pi))
    cosine = 1 / np.sqrt(1 + np.gradient(centre) ** 2)
    centre = centre + 0.05 * style.width * smooth_line(rng, length, 1.8 * style.width)
    return Fibre(
        steep,
        centre.astype(np.float32),
        cosine.astype(np.float32),
        _radius(rng, style, length),
        gain=np.exp(0.18 * smooth_line(rng, length, 15 * style.width)).astype(np.float32),
        lit=float(normal @ LIGHT),
    )


def _radius(rng: np.random.Generator, style: FibreStyle, length: int) -> np.ndarray:
    """(length,) float32 half width along one fibre: its own mean and a slight unevenness."""
    mean = style.width / 2 * np.exp(style.width_spread * np.clip(rng.standard_normal(), -2.5, 2.5))
    return (mean * (1 + 0.06 * smooth_line(rng, length, 1.2 * style.width))).astype(np.float32)


def _beside(rng: np.random.Generator, style: FibreStyle, fibre: Fibre) -> Fibre:
    """A fibre that lies against `fibre`, drifting slowly apart from it or over it."""
    length = len(fibre.centre)
    radius = _radius(rng, style, length)
    distance = (fibre.radius + radius) * (0.9 + 0.25 * smooth_line(rng, length, 30 * style.width))
    side = rng.choice((-1.0, 1.0))
    gain = fibre.gain * np.exp(0.1 * smooth_line(rng, length, 15 * style.width))
    centre = (fibre.centre + side * distance / fibre.cosine).astype(np.float32)
    return replace(fibre, centre=centre, radius=radius, gain=gain.astype(np.float32))


def grow(rng: np.random.Generator, style: FibreStyle, shape: tuple[int, int]) -> list[Fibre]:
    """Fibres from the deepest to the nearest, until their area reaches `style.density` times the frame's."""
    preferred = rng.uniform(0, np.pi)
    spread = np.deg2rad(style.orientation_spread)
    wanted = style.density * shape[0] * shape[1]
    fibres: list[Fibre] = []
    while wanted > 0:
        if fibres and rng.random() < style.bundling:
            fibre = _beside(rng, style, fibres[-1])
        else:
            fibre = _random_fibre(rng, style, shape, preferred + spread * rng.standard_normal())
        across = shape[1] if fibre.steep else shape[0]
        inside = (fibre.centre >= 0) & (fibre.centre < across)
        wanted -= float((2 * fibre.radius / fibre.cosine)[inside].sum())
        fibres.append(fibre)
    return fibres


def front_map(fibres: Sequence[Fibre], shape: tuple[int, int]) -> np.ndarray:
    """(H, W) int32 place in the order of the nearest fibre at each pixel, -1 where there is none."""
    front = np.full(shape, -1, np.int32)
    for order, fibre in enumerate(fibres):
        thickness = max(1, round(2 * float(fibre.radius.mean())))
        cv2.polylines(front, [np.rint(fibre.points(8)).astype(np.int32)], False, order, thickness)
    return front


class Painter:
    """The frame while it is painted: `value` (H, W) float32 brightness, `owner` (H, W) int16 visible defect.

    `owner` is 0 where no defect is visible.
    """

    def __init__(self, style: FibreStyle, shape: tuple[int, int], cuts: Cuts | None = None) -> None:
        self.style, self.cuts = style, cuts
        self.value: np.ndarray = np.zeros(shape, np.float32)
        self.owner: np.ndarray = np.zeros(shape, np.int16)

    def fibre(self, fibre: Fibre, order: int) -> None:
        """Paint one fibre as a band of pixels across its main axis."""
        style, (height, width) = self.style, self.value.shape
        half = int(np.ceil(float((fibre.radius / fibre.cosine).max()) + 1.5))
        across = width if fibre.steep else height
        at = np.flatnonzero((fibre.centre >= half + 1) & (fibre.centre < across - half - 2))
        centre, radius = fibre.centre[at, None], fibre.radius[at, None]
        cross = np.rint(centre).astype(np.int64) + np.arange(-half, half + 1)
        distance = (cross - centre).astype(np.float32) * fibre.cosine[at, None]
        alpha = radius + np.float32(0.5) - np.abs(distance)
        index = at[:, None] * width + cross if fibre.steep else cross * width + at[:, None]
        inside = alpha > 0
        alpha, index = np.minimum(alpha[inside], 1), index[inside]
        t = np.clip((distance / radius)[inside], -1, 1)
        gain = np.broadcast_to(fibre.gain[at, None], inside.shape)[inside]
        value = gain * (1 + (style.shading * fibre.lit) * t + style.edge * t**4)
        value_at, owner_at = self.value.reshape(-1), self.owner.reshape(-1)
        if self.cuts is not None:
            depth, label = self.cuts.depth.reshape(-1)[index], self.cuts.label.reshape(-1)[index]
            gone = (depth > self.cuts.level[order]) & (order >= self.cuts.first[label])
            missing = gone & (alpha > 0.5)
            owner_at[index[missing]] = label[missing]
            alpha, index, value = alpha[~gone], index[~gone], value[~gone]
        before = value_at[index]
        value_at[index] = before + alpha * (value - before)
        owner_at[index[alpha > 0.5]] = 0

    def patch(self, patch: Patch) -> None:
        """Paint one object; the parts outside the frame are lost."""
        (height, width), (top, left) = self.value.shape, patch.corner
        rows = slice(max(top, 0), min(top + patch.alpha.shape[0], height))
        columns = slice(max(left, 0), min(left + patch.alpha.shape[1], width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        alpha, below = patch.alpha[part], self.value[rows, columns]
        below += alpha * (patch.value[part] - below)
        self.owner[rows, columns][alpha > 0.5] = patch.label

    def close_layer(self, layer: Sequence[Fibre]) -> None:
        """Dim and defocus everything painted so far, as the fibres of `layer`, painted next, lie above it."""
        style, (height, width) = self.style, self.value.shape
        cover = np.zeros((-(-height // SHADOW_SCALE), -(-width // SHADOW_SCALE)), np.uint8)
        away = np.array(LIGHT, np.float32) * np.float32(-0.3 * style.width)
        for fibre in layer:
            thick = 2 * float(fibre.radius.mean()) / SHADOW_SCALE
            points = np.rint((fibre.points(16) + away) * (16 / SHADOW_SCALE)).astype(np.int32)
            grey = min(255, round(255 * thick / max(1, round(thick))))
            cv2.polylines(cover, [points], False, grey, max(1, round(thick)), cv2.LINE_AA, shift=4)
        taken = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), style.shadow_radius / SHADOW_SCALE)
        taken = cv2.resize(taken, (width, height), interpolation=cv2.INTER_LINEAR)
        if style.defocus > 0:
            self.value = cv2.GaussianBlur(self.value, (0, 0), style.defocus)
        self.value *= np.exp(taken * np.float32(-style.shadow / 255) - np.float32(style.fade / LAYERS))


def paint(
    style: FibreStyle,
    fibres: Sequence[Fibre],
    shape: tuple[int, int],
    patches: Sequence[Patch] = (),
    cuts: Cuts | None = None,
) -> Painter:
    """Paint the whole frame, each patch straight after the fibre of its `order`."""
    painter = Painter(style, shape, cuts)
    waiting: dict[int, list[Patch]] = {}
    for patch in patches:
        waiting.setdefault(patch.order, []).append(patch)
    for layer in np.array_split(np.arange(len(fibres)), LAYERS):
        painter.close_layer([fibres[i] for i in layer])
        for order in layer:
            painter.fibre(fibres[order], int(order))
            for patch in waiting.get(int(order), ()):
                painter.patch(patch)
    return painter
