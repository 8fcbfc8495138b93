"""Shared building blocks. `width` is the channel count of the first encoder stage; 64 gives the published networks.

Sizes: S is the patch side, C the channels, nz the latent size. Convolutions with stride 2 halve exactly, their
transposes double exactly, so every network serves S = 32, 64 and 128. Channels are capped at 8 · width.
"""

import math
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

Norm = Literal["batch", "layer", "none"]
SLOPE = 0.2
# TensorFlow's momentum 0.8 of the reference networks; PyTorch counts the share of the new value.
BATCH_NORM_MOMENTUM = 0.2


def halvings(size: int, to: int) -> int:
    """How many stride-2 stages lead from `size` to `to` pixels."""
    return int(math.log2(size // to))


def pyramid(width: int, stages: int) -> list[int]:
    """Channels of successive stages: width, 2 width, ... capped at 8 width."""
    return [width * min(2**i, 8) for i in range(stages)]


def norm2d(kind: Norm, channels: int) -> list[nn.Module]:
    """Normalisation of (B, C, H, W); "layer" treats each sample alone."""
    if kind == "batch":
        return [nn.BatchNorm2d(channels, momentum=BATCH_NORM_MOMENTUM)]
    return [nn.GroupNorm(1, channels)] if kind == "layer" else []


def norm1d(kind: Norm, features: int) -> list[nn.Module]:
    """Normalisation of (B, features)."""
    if kind == "batch":
        return [nn.BatchNorm1d(features, momentum=BATCH_NORM_MOMENTUM)]
    return [nn.LayerNorm(features)] if kind == "layer" else []


def down(c_in: int, c_out: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    """Convolution that halves height and width. kernel: 4 or 5."""
    return nn.Conv2d(c_in, c_out, kernel, stride=2, padding=(kernel - 1) // 2, bias=bias)


def up(c_in: int, c_out: int, kernel: int, bias: bool = True) -> nn.ConvTranspose2d:
    """Transposed convolution that doubles height and width. kernel: 4 or 5."""
    padding = (kernel - 1) // 2
    return nn.ConvTranspose2d(c_in, c_out, kernel, stride=2, padding=padding, output_padding=kernel % 2, bias=bias)


def conv_pyramid(
    channels: int, widths: list[int], kernel: int, norm: Norm, *, first_norm: bool, bias: bool = True
) -> nn.Sequential:
    """Stride-2 convolutions with LeakyReLU; the first is normalised only when `first_norm`."""
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip([channels, *widths], widths, strict=False)):
        layers += [down(c_in, c_out, kernel, bias), *norm2d(norm if i or first_norm else "none", c_out)]
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


def init_normal(module: nn.Module) -> None:
    """N(0, 0.02²) for weights, zero biases; normalisation layers afresh, gain 1, bias 0. Use with `apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
        module.reset_parameters()


def init_xavier(module: nn.Module) -> None:
    """Glorot normal for weights, zero biases. Use with `apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Critic(nn.Module):
    """A discriminator: `body` gives the features that feed `head`, its last linear layer."""

    def __init__(self, body: nn.Module, n_features: int, bias: bool = True):
        super().__init__()
        self.body = body
        self.head = nn.Linear(n_features, 1, bias=bias)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, n_d)."""
        return self.body(x)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs (B,) and features (B, n_d) of one pass."""
        features = self.body(x)
        return self.head(features).squeeze(1), features

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> raw outputs (B,)."""
        return self.outputs(x)[0]


def generator_dcgan(channels: int, size: int, nz: int, width: int) -> nn.Sequential:
    """DCGAN generator z (B, nz) -> (B, C, S, S) in [-1, 1]: 4×4 upwards, widths 8w, 8w, 4w, 2w, ... then 5×5."""
    stages = halvings(size, 4)
    widths = [8 * width] + [max(8 * width >> i, max(width // 2, 1)) for i in range(stages)]
    layers: list[nn.Module] = [
        nn.Linear(nz, 16 * widths[0]),
        *norm1d("batch", 16 * widths[0]),
        nn.LeakyReLU(SLOPE),
        nn.Unflatten(1, (widths[0], 4, 4)),
    ]
    for c_in, c_out in pairwise(widths):
        layers += [up(c_in, c_out, 4), *norm2d("batch", c_out), nn.LeakyReLU(SLOPE)]
    layers += [nn.Conv2d(widths[-1], channels, 5, padding=2), nn.Tanh()]
    return nn.Sequential(*layers)


def encoder_k5(
    channels: int, size: int, nz: int, width: int, *, smallest: int = 4, first_norm: bool = True
) -> nn.Sequential:
    """5×5 stride-2 encoder x (B, C, S, S) -> (B, nz), linear output; stops at `smallest` pixels."""
    widths = pyramid(width, halvings(size, smallest))
    return nn.Sequential(
        conv_pyramid(channels, widths, 5, "batch", first_norm=first_norm),
        nn.Flatten(),
        nn.Linear(widths[-1] * smallest**2, nz),
    )


def critic_k5(channels: int, size: int, width: int, norm: Norm) -> Critic:
    """5×5 stride-2 discriminator; features: the flattened, normalised 4×4 map after LeakyReLU."""
    widths = pyramid(width, halvings(size, 4))
    n_features = 16 * widths[-1]
    body = nn.Sequential(
        conv_pyramid(channels, widths, 5, norm, first_norm=True),
        nn.Flatten(),
        *norm1d(norm, n_features),
        nn.LeakyReLU(SLOPE),
    )
    return Critic(body, n_features)


def encoder_k4(channels: int, size: int, nz: int, width: int) -> nn.Sequential:
    """Bias-free DCGAN encoder of GANomaly: 4×4 stride 2, first stage not normalised, 4×4 map -> (B, nz).

    The last 4×4 convolution sees a 4×4 map and is written as the linear layer it is.
    """
    widths = pyramid(width, halvings(size, 4))
    return nn.Sequential(
        conv_pyramid(channels, widths, 4, "batch", first_norm=False, bias=False),
        nn.Flatten(),
        nn.Linear(16 * widths[-1], nz, bias=False),
    )


def decoder_k4(channels: int, size: int, nz: int, width: int) -> nn.Sequential:
    """Mirror of `encoder_k4`: (B, nz) -> (B, C, S, S) in [-1, 1]."""
    widths = pyramid(width, halvings(size, 4))[::-1]
    layers: list[nn.Module] = [
        nn.Linear(nz, 16 * widths[0], bias=False),
        nn.Unflatten(1, (widths[0], 4, 4)),
        *norm2d("batch", widths[0]),
        nn.ReLU(),
    ]
    for c_in, c_out in pairwise(widths):
        layers += [up(c_in, c_out, 4, bias=False), *norm2d("batch", c_out), nn.ReLU()]
    layers += [up(widths[-1], channels, 4, bias=False), nn.Tanh()]
    return nn.Sequential(*layers)


def critic_k4(channels: int, size: int, width: int, norm: Norm) -> Critic:
    """Bias-free DCGAN discriminator of GANomaly; features: the 4×4 map before its last layer, flattened."""
    widths = pyramid(width, halvings(size, 4))
    body = nn.Sequential(
        conv_pyramid(channels, widths, 4, norm, first_norm=False, bias=False),
        nn.Flatten(),
    )
    return Critic(body, 16 * widths[-1], bias=False)


def decoder_k5(channels: int, size: int, nz: int, width: int) -> nn.Sequential:
    """5×5 decoder from 1×1: (B, nz) -> (B, C, S, S) in [-1, 1]; widths 4w, 2w, w, w/2, w/4, w/4, ..."""
    widths = [max(4 * width >> min(i, 4), 1) for i in range(halvings(size, 1))]
    layers: list[nn.Module] = [nn.Unflatten(1, (nz, 1, 1))]
    for c_in, c_out in zip([nz, *widths], widths, strict=False):
        layers += [up(c_in, c_out, 5), *norm2d("batch", c_out), nn.ReLU()]
    layers += [nn.Conv2d(widths[-1], channels, 5, padding=2), nn.Tanh()]
    return nn.Sequential(*layers)
