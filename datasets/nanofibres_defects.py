"""Defects of the fibre mat behind `inspect_gan.datasets.nanofibres`: shape, brightness and place.

Every object is drawn as a height map and lit like the fibres are: the side facing the detector, edges and
crests are bright, crevices are dark. It takes a place in the painting order, so that nearer fibres cover it.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from inspect_gan.datasets.nanofibres_fibres import (
    LIGHT,
    Cuts,
    Fibre,
    FibreStyle,
    Patch,
    front_map,
    smooth_field,
)

SMALLEST = 8  # px, longest side of the smallest defect
LARGEST = 0.2  # longest side of the largest defect over the image's shorter side
TRIES = 24  # random places looked at for one defect

# kind: (how often, from and to which depth: 0 is under all fibres, 1 above all of them)
KINDS: dict[str, tuple[float, float, float]] = {
    "clump": (0.36, 0.80, 1.0),
    "film": (0.20, 0.65, 0.97),
    "bead": (0.16, 0.65, 1.0),
    "hole": (0.08, 0.35, 0.80),
    "droplet": (0.08, 0.75, 1.0),
    "particle": (0.07, 0.75, 1.0),
    "thread": (0.05, 0.90, 1.0),
}

Sprite = tuple[np.ndarray, np.ndarray]  # (h, w) float32 alpha in [0, 1] and brightness >= 0


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from `low` to `high`, each ratio equally likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _lit(height: np.ndarray, reach: float, relief: float) -> np.ndarray:
    """Brightness about 1 of a surface of `height` px; larger towards the detector, on slopes and crests."""
    down, right = np.gradient(height.astype(np.float32))
    slope = np.hypot(down, right)
    facing = -(right * LIGHT[0] + down * LIGHT[1]) / (1 + slope)
    crest = np.tanh((height - cv2.GaussianBlur(height, (0, 0), reach)) / reach)
    brightness = 1 + relief * (0.5 * facing + 0.35 * slope / (1 + slope) + 1.3 * crest)
    return np.clip(brightness, 0.06, 3).astype(np.float32)


def _polygon(points: np.ndarray, size: int) -> np.ndarray:
    """(size, size) float32 anti-aliased cover of the polygon through (n, 2) points in px."""
    cover = np.zeros((size, size), np.uint8)
    cv2.fillPoly(cover, [np.rint((points - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cover.astype(np.float32) / 255


def _outline(rng: np.random.Generator, size: int, aspect: float, roughness: float) -> np.ndarray:
    """(96, 2) points of a random closed outline that just fits a square of `size` px."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones(96)
    for order in range(2, 9):
        height, phase = roughness / order * rng.standard_normal(), rng.uniform(0, 2 * np.pi)
        radius += height * np.cos(order * angle + phase)
    radius = np.maximum(radius, 0.3)
    turn = rng.uniform(0, np.pi)
    points = np.stack([radius * np.cos(angle), aspect * radius * np.sin(angle)], axis=1)
    return _fitted(points @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]], size)


def _fitted(points: np.ndarray, size: int, margin: float = 1.0) -> np.ndarray:
    """The points moved and scaled so that they fill a square of `size` px up to `margin` px."""
    low, high = points.min(0), points.max(0)
    scale = (size - 2 * margin) / max(float((high - low).max()), 1e-6)
    return (points - (low + high) / 2) * scale + size / 2


def _clump(rng: np.random.Generator, size: int) -> Sprite:
    """A bright agglomerate of rounded grains, heaped up, with dark crevices between them."""
    grain = float(np.clip(size / 6, 1.6, rng.uniform(3.2, 5.5)))
    outline = _outline(rng, size, rng.uniform(0.55, 1), 0.35)
    core = _polygon((outline - size / 2) * max(1 - 2 * grain / size, 0.3) + size / 2, size)
    dome = 2.5 * np.sqrt(cv2.distanceTransform((core > 0.5).astype(np.uint8), cv2.DIST_L2, 3))
    height, alpha, tone = dome - 0.5 * grain, core.copy(), np.full_like(core, 0.7)
    rows, columns = np.nonzero(core >= min(0.5, float(core.max())))
    for at in rng.integers(0, len(rows), 4 + int(0.7 * len(rows) / grain**2)):
        y, x = int(rows[at]), int(columns[at])
        long = grain * rng.uniform(0.6, 1.35)
        short = long * rng.uniform(0.45, 0.9)
        reach = int(long) + 2
        top, left = max(y - reach, 0), max(x - reach, 0)
        part = (slice(top, y + reach + 1), slice(left, x + reach + 1))
        down, right = np.indices(alpha[part].shape)
        down, right, turn = down + top - y, right + left - x, rng.uniform(0, np.pi)
        along, across = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
        rho = np.hypot(along / long, across / short)
        cover = np.clip((1 - rho) * short + 0.5, 0, 1)
        body = dome[y, x] + rng.normal(0, 0.4 * grain) + short * np.sqrt(np.maximum(1 - rho**2, 0))
        above = (cover > 0) & ((body > height[part]) | (alpha[part] == 0))
        height[part][above] = body[above]
        tone[part][above] = rng.uniform(0.8, 1.2)
        alpha[part] = np.maximum(alpha[part], cover)
    value = _log_uniform(rng, 0.25, 0.9) * tone * _lit(height, 0.6 * grain, 0.8)
    return alpha, value * (1 + 0.08 * smooth_field(rng, alpha.shape, 0.7))


def _film(rng: np.random.Generator, size: int) -> Sprite:
    """A flat film hung between fibres: concave sides, even or grainy surface, often only half bright."""
    corners = int(rng.integers(3, 6))
    angle = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    angle += rng.uniform(0, 2 * np.pi)
    anchors = np.stack([np.cos(angle), rng.uniform(0.5, 1) * np.sin(angle)], 1)
    t = np.linspace(0, 1, 24, endpoint=False)[:, None]
    sides = []
    for a, b in zip(anchors, np.roll(anchors, -1, 0), strict=True):
        pulled = (a + b) / 2 * rng.uniform(0.35, 0.95)
        sides.append((1 - t) ** 2 * a + 2 * t * (1 - t) * pulled + t**2 * b)
    outline = _fitted(np.concatenate(sides), size)
    if rough := rng.random() < 0.6:
        outline += 0.5 * rng.standard_normal(outline.shape)
    alpha = _polygon(outline, size)
    height = rng.uniform(0.6, 1.3) * smooth_field(rng, alpha.shape, 0.9) if rough else np.zeros_like(alpha)
    height = height + 2 * smooth_field(rng, alpha.shape, 8.0)
    rim = np.exp(-cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3))
    value = _log_uniform(rng, 0.15, 0.6) * _lit(height.astype(np.float32), 1.5, 0.6)
    return alpha, value * (1 + 0.4 * rim) * np.exp(0.2 * smooth_field(rng, alpha.shape, max(4.0, size / 6)))


def _droplet(rng: np.random.Generator, size: int) -> Sprite:
    """One to four merged smooth drops with bright rims."""
    down, right = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    height = np.zeros((size, size), np.float32)
    alpha = np.zeros((size, size), np.float32)
    radius, x, y = size * rng.uniform(0.3, 0.48), size / 2, size / 2
    for _ in range(int(rng.integers(1, 5))):
        flat, turn = rng.uniform(0.7, 1), rng.uniform(0, np.pi)
        u = (right - x) * np.cos(turn) + (down - y) * np.sin(turn)
        v = ((down - y) * np.cos(turn) - (right - x) * np.sin(turn)) / flat
        rho = np.hypot(u, v) / radius
        height = np.maximum(height, radius * flat * np.sqrt(np.maximum(1 - rho**2, 0)))
        alpha = np.maximum(alpha, np.clip((1 - rho) * radius * flat + 0.5, 0, 1))
        way = rng.uniform(0, 2 * np.pi)
        x, y = x + radius * np.cos(way), y + radius * np.sin(way)
        radius *= rng.uniform(0.4, 0.7)
    rounded = cv2.GaussianBlur(height, (0, 0), 0.7)
    value = _log_uniform(rng, 0.2, 0.7) * _lit(rounded, max(2.0, size / 10), 1.0)
    return alpha, value * (1 + 0.04 * smooth_field(rng, alpha.shape, 0.8))


def _particle(rng: np.random.Generator, size: int) -> Sprite:
    """A foreign particle: a polyhedron with flat facets and a porous or clean surface."""
    down, right = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size * 2 - 1
    faces = int(rng.integers(6, 11))
    angle = (np.arange(faces) + rng.uniform(-0.35, 0.35, faces)) * 2 * np.pi / faces
    steep = np.array([_log_uniform(rng, 0.5, 4) for _ in angle])
    reach = rng.uniform(0.6, 0.97, faces)
    inwards = [r - right * np.cos(a) - down * np.sin(a) for r, a in zip(reach, angle, strict=True)]
    top = rng.uniform(0.3, 0.7) + rng.normal(0, 0.15) * right + rng.normal(0, 0.15) * down
    edge = np.min(inwards, axis=0)
    sides = np.min([k * d for k, d in zip(steep, inwards, strict=True)], axis=0)
    height = np.minimum(sides, top) * (size / 2)
    alpha = np.clip(edge * (size / 2) + 0.5, 0, 1).astype(np.float32)
    pores = rng.uniform(0, 0.8) * np.minimum(smooth_field(rng, alpha.shape, 1.0), 0.3)
    return alpha, _log_uniform(rng, 0.15, 0.8) * _lit((height + pores).astype(np.float32), 1.5, 0.75)


def _thread(rng: np.random.Generator, size: int) -> Sprite:
    """A thin foreign thread that bends far more than the fibres."""
    turning = np.cumsum(0.35 * rng.standard_normal(48)) + rng.uniform(0, 2 * np.pi)
    turning = np.convolve(np.pad(turning, 4, mode="edge"), np.ones(9) / 9, "valid")
    path = np.cumsum(np.stack([np.cos(turning), np.sin(turning)], 1), 0)
    thickness = int(rng.integers(2, 4 if size < 40 else 5))
    path = _fitted(path, size, margin=1 + thickness / 2)
    cover = np.zeros((size, size), np.uint8)
    points = np.rint((path - 0.5) * 16).astype(np.int32)
    cv2.polylines(cover, [points], False, 255, thickness, cv2.LINE_AA, shift=4)
    alpha = cover.astype(np.float32) / 255
    value = _log_uniform(rng, 0.3, 1.1) * (1 + 0.1 * smooth_field(rng, alpha.shape, 3.0))
    return alpha, np.maximum(value, 0.05).astype(np.float32)


def _bead(rng: np.random.Generator, size: int, fibre: Fibre, at: int, style: FibreStyle) -> Sprite:
    """A spindle-shaped thickening of `fibre` around its main-axis pixel `at`, smooth or grainy."""
    down, right = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5 - size / 2
    step = fibre.centre[min(at + 4, len(fibre.centre) - 1)] - fibre.centre[max(at - 4, 0)]
    tangent = np.array([step, 8.0] if fibre.steep else [8.0, step]) / np.hypot(step, 8.0)
    along = right * tangent[0] + down * tangent[1]
    across = (right * tangent[1] - down * tangent[0]) * (1 if fibre.steep else -1)
    thin = float(fibre.radius[at])
    thick = min(thin * rng.uniform(1.5, 2.8), max(size / 2.5, thin + 2))
    swell = np.cos(np.clip(along / size, -0.5, 0.5) * np.pi) ** 2
    rough = rng.random() < 0.6
    uneven = (0.12 if rough else 0.03) * smooth_field(rng, along.shape, 2.0)
    radius = thin + (thick - thin) * swell * (1 + uneven)
    alpha = np.clip(radius - np.abs(across) + 0.5, 0, 1) * (radius > thin + 0.5)
    t = np.clip(across / radius, -1, 1)
    value = fibre.gain[at] * (1 + style.shading * fibre.lit * t + style.edge * t**4)
    changed = rng.uniform(0.4, 1.0) * np.ones_like(value)
    if rough:
        changed *= _lit(rng.uniform(0.8, 1.5) * smooth_field(rng, along.shape, 1.2), 1.5, 0.8)
    value = value * changed ** np.sqrt(swell)
    return alpha.astype(np.float32), value.astype(np.float32)


SPRITES: dict[str, Callable[[np.random.Generator, int], Sprite]] = {
    "clump": _clump,
    "film": _film,
    "droplet": _droplet,
    "particle": _particle,
    "thread": _thread,
}


class Planner:
    """Chooses what is altered where, so that each defect can be seen and, if there is room, stands alone."""

    def __init__(self, fibres: Sequence[Fibre], style: FibreStyle, shape: tuple[int, int], count: int) -> None:
        self.fibres, self.style, self.count = fibres, style, count
        self.front = front_map(fibres, shape)
        self.free = np.ones(shape, bool)
        self.patches: list[Patch] = []
        self.cuts: Cuts | None = None

    def add(self, rng: np.random.Generator, kind: str, label: int) -> None:
        """Plan one defect of `kind`; in the painted frame it will be owned by `label` (1, 2, ...)."""
        pad = self.style.pad
        largest = max(SMALLEST, int(LARGEST * (min(self.free.shape) - 2 * pad)))
        size = round(_log_uniform(rng, SMALLEST, largest))
        _, low, high = KINDS[kind]
        order = min(int(rng.uniform(low, high) * len(self.fibres)), len(self.fibres) - 1)
        if kind == "hole":
            self._hole(rng, size, order, label)
            return
        if kind == "bead":
            alpha, value, corner, order = self._bead(rng, size, int(low * len(self.fibres)))
        else:
            alpha, value = SPRITES[kind](rng, size)
            corner, seen = self._place(rng, alpha > 0.5, lambda front: front <= order)
            if seen < 0.3:
                order = len(self.fibres) - 1
        self._occupy(alpha > 0.5, corner)
        self.patches.append(Patch(alpha, value, corner, order, label))

    def _place(
        self, rng: np.random.Generator, solid: np.ndarray, seen_at: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[tuple[int, int], float]:
        """Corner (y, x) of an object and its visible share; the first good place, or the best of some."""
        pad, best, corner = self.style.pad, -1.0, (0, 0)
        for _ in range(TRIES):
            at = [
                int(rng.integers(pad, max(full - pad - side, pad) + 1))
                for full, side in zip(self.free.shape, solid.shape, strict=True)
            ]
            window = tuple(slice(a, a + side) for a, side in zip(at, solid.shape, strict=True))
            good = seen_at(self.front[window]) & self.free[window] & solid
            seen = float(good.sum() / max(solid.sum(), 1))
            if seen > best:
                best, corner = seen, (at[0], at[1])
            if seen > 0.6:
                break
        return corner, best

    def _bead(
        self, rng: np.random.Generator, size: int, deepest: int
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int], int]:
        """A bead on a fibre that can be seen there: alpha, value, corner (y, x), place in the order."""
        pad = self.style.pad
        best = (-1, pad, pad)
        for _ in range(TRIES):
            y, x = (int(rng.integers(pad, full - pad)) for full in self.free.shape)
            if self.free[y, x]:
                best = max(best, (int(self.front[y, x]), y, x))
            if best[0] >= deepest:
                break
        order, y, x = max(best[0], 0), best[1], best[2]
        fibre = self.fibres[order]
        at = y if fibre.steep else x
        size = max(size, int(2 * fibre.radius[at]) + 6)  # less than that is no thickening
        alpha, value = _bead(rng, size, fibre, at, self.style)
        cross = round(float(fibre.centre[at]) - size / 2)
        corner = (at - size // 2, cross) if fibre.steep else (cross, at - size // 2)
        return alpha, value, corner, order

    def _hole(self, rng: np.random.Generator, size: int, first: int, label: int) -> None:
        """Break all fibres from `first` on inside a ragged outline."""
        solid = _polygon(_outline(rng, size, rng.uniform(0.6, 1), 0.5), size) > 0.5
        corner, _ = self._place(rng, solid, lambda front: front >= first)
        if self.cuts is None:
            depth, owner = np.zeros(self.free.shape, np.float32), np.zeros(self.free.shape, np.int16)
            first_broken, level = np.zeros(self.count + 1, np.int64), rng.uniform(0, 0.6, len(self.fibres))
            self.cuts = Cuts(depth, owner, first_broken, level)
        window = (slice(corner[0], corner[0] + size), slice(corner[1], corner[1] + size))
        inwards = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5)
        solid &= self.cuts.label[window] == 0
        self.cuts.depth[window][solid] = np.minimum(inwards / max(0.15 * size, 1), 1)[solid]
        self.cuts.label[window][solid] = label
        self.cuts.first[label] = first
        self._occupy(solid, corner)

    def _occupy(self, solid: np.ndarray, corner: tuple[int, int]) -> None:
        """Keep other defects a few pixels away from this one."""
        (height, width), (top, left) = solid.shape, corner
        self.free[max(top - 4, 0) : top + height + 4, max(left - 4, 0) : left + width + 4] = False
