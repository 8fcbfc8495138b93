"""Defects drawn at random on normal patches, for training without a defective image.

Spots of any outline, grey and grain, or of the texture of another place, turned and scaled: what a contamination, a
film, a bead, a hole or a bent part has in common on a textured surface is that the texture stops there. They are
penalty samples in the sense of RCGAN (Yang et al. 2020, eq. 4) that lie close to the data, unlike noise, and holes that
a denoising reconstruction has to fill.
"""

import math
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Share of the spots that show the texture of another patch.
FOREIGN = 0.2
# How many times as long as wide a spot may be.
ELONGATION = 2.5
# Random fields are cut from a few large ones: side and, in px, the Gaussian scales of their grain.
FIELD = 768
SCALES = (0.6, 0.9, 1.3, 2.0, 3.0, 4.5, 7.0, 10.0)


def draw_defects(
    x: Tensor, share: float = 1.0, generated: Tensor | None = None, elongation: float = ELONGATION
) -> tuple[Tensor, Tensor]:
    """Patches with defects drawn on them, and where.

    x: (B, C, S, S) in [-1, 1]. share: of the patches that get one or two spots, the others stay as they are. generated:
    (n, C, S, S), patches that a generator made; the spots on the first n of x show what lies there in them, as in the
    CutMix of U-Net discriminators (Schönfeld et al., CVPR 2020). elongation: how many times as long as wide a spot may
    be before its outline wobbles; with 16 there are scratches 2 px wide. Returns patches of the same shape and range
    and the opacity of what was drawn, (B, 1, S, S) in [0, 1]. Draws from torch's global generator.
    """
    first, opacity = _spot(x, generated, elongation)
    second, more = _spot(first, generated, elongation)
    lots = torch.rand(len(x), 1, 1, 1, device=x.device)
    twice, any_at_all = lots < share / 2, lots < share
    opacity = torch.where(twice, torch.maximum(opacity, more), opacity * any_at_all)
    return torch.where(twice, second, torch.where(any_at_all, first, x)), opacity


def _spot(x: Tensor, generated: Tensor | None, elongation: float) -> tuple[Tensor, Tensor]:
    """One spot on each patch and its opacity."""
    size = x.shape[-1]
    radius = _between(x, 4.0, size / 3.5, log=True)
    fill = _between(x, -1.0, 1.0)
    for coarse, finest in ((0.3, 0.6), (0.24, 2.0)):
        fill = fill + _between(x, 0.0, coarse) * _field(x, _between(x, finest, 8 * finest, log=True))
    if x.shape[1] > 1:
        fill = fill + _between(x, 0.0, 0.6) * (torch.rand(*x.shape[:2], 1, 1, device=x.device) - 0.5)
    fill = fill.clamp(-1, 1).expand_as(x)
    fill = torch.where(_between(x, 0, 1) < FOREIGN, _foreign(x), fill)
    if generated is not None:
        fill = torch.cat([generated, fill[len(generated) :]])
    opacity = _outline(x, radius, elongation)
    # Half of the spots lie below what is brighter than some grey: behind the fibres, not before them.
    behind = torch.sigmoid((_between(x, -0.6, 0.8) - x.mean(1, keepdim=True)) * 10)
    opacity = torch.where(_between(x, 0, 1) < 0.5, opacity * behind, opacity)
    opacity = torch.where(_between(x, 0, 1) < 0.3, opacity * _between(x, 0.5, 1.0), opacity)
    return torch.lerp(x, fill, opacity.expand_as(x)), opacity


def _foreign(x: Tensor) -> Tensor:
    """The texture of another patch of the batch, turned by any angle, finer or coarser, brighter or darker."""
    turn, scale, side = _between(x, 0, 2 * math.pi), _between(x, 0.6, 1.6, log=True), torch.zeros_like(x[:, :1, :1, :1])
    across, along = scale * turn.cos(), scale * turn.sin()
    rows = torch.cat([across, -along, side, along, across, side], dim=1).view(-1, 2, 3)
    with torch.autocast(x.device.type, enabled=False):  # half precision does not tell pixels apart
        where = F.affine_grid(rows, list(x.shape), align_corners=False)
    other = F.grid_sample(x.roll(1, 0), where, padding_mode="reflection", align_corners=False)
    return (other + _between(x, -0.3, 0.3)).clamp(-1, 1)


def _outline(x: Tensor, radius: Tensor, elongation: float) -> Tensor:
    """A wobbly ellipse somewhere on the patch, (B, 1, S, S) in [0, 1], with a soft edge."""
    size = x.shape[-1]
    axis = torch.arange(size, device=x.device, dtype=torch.float32)
    down, right = axis[:, None] - _between(x, 0, size), axis - _between(x, 0, size)
    turn, stretch = _between(x, 0, math.pi), _between(x, elongation**-0.5, elongation**0.5, log=True)
    along = (right * turn.cos() + down * turn.sin()) / stretch
    across = (down * turn.cos() - right * turn.sin()) * stretch
    distance = (along.square() + across.square()).sqrt() / radius
    wobble = 0.35 * _field(x, radius * _between(x, 0.2, 0.7))
    return torch.sigmoid((1 + wobble - distance) * radius * 2 / _between(x, 0.5, 2.0, log=True))


def _between(x: Tensor, low: float, high: float, log: bool = False) -> Tensor:
    """(B, 1, 1, 1), uniform or log-uniform."""
    shares = torch.rand(len(x), 1, 1, 1, device=x.device)
    return low * (high / low) ** shares if log else low + (high - low) * shares


def _field(x: Tensor, scale: Tensor) -> Tensor:
    """Random fields (B, 1, S, S) of mean 0 and variance 1 with about the wanted grain (B, 1, 1, 1), in px."""
    n, size = len(x), x.shape[-1]
    scales = torch.tensor(SCALES, device=x.device)
    layer = (scales.log() - scale.flatten(1).log()).abs().argmin(1)
    top, left = torch.randint(FIELD - size, (2, n), device=x.device)
    axis = torch.arange(size, device=x.device)
    first = (layer * FIELD + top) * FIELD + left
    index = first[:, None, None] + axis[:, None] * FIELD + axis
    return _fields(x.device)[index][:, None]


@cache
def _fields(device: torch.device) -> Tensor:
    """(number of scales * FIELD²,) float32, kept on the device: it is read many times in every step."""
    random = np.random.default_rng(0)
    fields = []
    for scale in SCALES:
        field = cv2.GaussianBlur(random.standard_normal((FIELD, FIELD)), (0, 0), scale, borderType=cv2.BORDER_REFLECT)
        fields.append((field - field.mean()) / field.std())
    return torch.from_numpy(np.stack(fields).astype(np.float32).reshape(-1)).to(device)
