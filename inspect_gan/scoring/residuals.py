"""The residual family: how a patch differs from its reconstruction. Shared by all detectors that reconstruct.

x, x_rec: (B, C, S, S) in [-1, 1]. Maps are (B, 1, S, S), averaged over channels, higher = more anomalous.
"""

from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

# Window and constants of the structural similarity index (Wang et al. 2004) for grey values in [0, 1]:
# 11 taps, sigma 1.5, C = K² with K = 0.01 (luminance) and 0.03 (contrast).
WINDOW, SIGMA = 11, 1.5
C_LUMINANCE, C_CONTRAST = 0.01**2, 0.03**2


def l1(x: Tensor, x_rec: Tensor) -> Tensor:
    """|x - x_rec|."""
    return (x.float() - x_rec.float()).abs().mean(1, keepdim=True)


def l2(x: Tensor, x_rec: Tensor) -> Tensor:
    """(x - x_rec)²."""
    return (x.float() - x_rec.float()).square().mean(1, keepdim=True)


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference per sample: (B, ...) and (B, ...) -> (B,) float32."""
    return (a.float() - b.float()).square().flatten(1).mean(1)


def distance(a: Tensor, b: Tensor, p: int = 2) -> Tensor:
    """||a - b||_p per sample, a sum over all entries: (B, ...) and (B, ...) -> (B,) float32."""
    return torch.linalg.vector_norm((a.float() - b.float()).flatten(1), p, dim=1)


def similarity(x: Tensor, x_rec: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of the structural similarity index (Wang et al. 2004, eq. 12), each (B, C, S, S).

    luminance: (2 m m' + C1) / (m² + m'² + C1); structure: (2 cov + C2) / (var + var' + C2), the product of the
    contrast and correlation terms, in [-1, 1]. Moments are Gaussian-weighted over an 11×11 window, reflected at
    the patch border, of grey values in [0, 1].
    """
    grey, grey_rec = _grey(x), _grey(x_rec)
    mean, mean_rec, square, square_rec, product = _window_means(
        grey, grey_rec, grey * grey, grey_rec * grey_rec, grey * grey_rec
    )
    var, var_rec = (square - mean**2).clamp_min(0), (square_rec - mean_rec**2).clamp_min(0)
    cov = product - mean * mean_rec
    luminance = (2 * mean * mean_rec + C_LUMINANCE) / (mean**2 + mean_rec**2 + C_LUMINANCE)
    structure = (2 * cov + C_CONTRAST) / (var + var_rec + C_CONTRAST)
    return luminance, structure


def ssim(x: Tensor, x_rec: Tensor) -> Tensor:
    """1 - SSIM, in [0, 2]."""
    luminance, structure = similarity(x, x_rec)
    return (1 - luminance * structure).mean(1, keepdim=True)


def structure(x: Tensor, x_rec: Tensor) -> Tensor:
    """1 - structure factor of SSIM, in [0, 2].

    Blind to grey level. A calm area reproduced without its grain (where that deviates by more than about 0.03)
    scores near 1 however small the grey difference, a busy one reproduced in its main lines near 0: that finds
    smooth defects among busy fibres, which |x - x'| ranks below normal texture.
    """
    return (1 - similarity(x, x_rec)[1]).mean(1, keepdim=True)


def contrast(x: Tensor, x_rec: Tensor) -> Tensor:
    """|x - x_rec| over the local standard deviation of x: errors count more where the texture is calm."""
    grey = _grey(x)
    mean, square = _window_means(grey, grey * grey)
    deviation = ((square - mean**2).clamp_min(0) + C_CONTRAST).sqrt()
    return ((grey - _grey(x_rec)).abs() / deviation).mean(1, keepdim=True)


def _grey(x: Tensor) -> Tensor:
    return (x.float() + 1) / 2


def _window_means(*images: Tensor) -> list[Tensor]:
    """Local means of images (B, C, S, S)."""
    # A separable filter on a small square is two matrix products, several times faster than convolutions. Never in
    # half precision: E[x²] - E[x]² would cancel to noise.
    with torch.autocast(images[0].device.type, enabled=False):
        blur = _blur_matrix(images[0].shape[-1], images[0].device)
        return [blur @ image @ blur.T for image in images]


def _blur_matrix(size: int, device: torch.device) -> Tensor:
    """(S, S) float32 B such that B @ v blurs a column v with reflected borders.

    A tensor made anew each time: a kept one would carry the inference or export mode of its first call into others.
    """
    return torch.from_numpy(_blurred_identity(size)).to(device)


@cache
def _blurred_identity(size: int) -> np.ndarray:
    """(S, S) float32, the filter applied to every column of the identity."""
    reflected = cv2.BORDER_REFLECT_101
    blurred = cv2.GaussianBlur(np.eye(size), (1, WINDOW), sigmaX=SIGMA, sigmaY=SIGMA, borderType=reflected)
    return blurred.astype(np.float32)
