"""Shared building blocks. `width` is the channel count of the first encoder stage; 64 gives the published networks.

Sizes: S is the patch side, C the channels, nz the latent size. Convolutions with stride 2 halve exactly, their
transposes double exactly, so every network serves S = 32, 64 and 128. Channels are capped at 8 · width.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from inspect_gan.objectives.energy import EnergyAdapter, RunningMean
from inspect_gan.scoring.residuals import ssim

Norm = Literal["batch", "layer", "none"]
EnergyName = Literal["norm", "mse", "ssim"]
SLOPE = 0.2
# TensorFlow's momentum 0.8 of the reference networks; PyTorch counts the share of the new value. Their eps of 1e-3 is
# not taken over.
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


def down(c_in: int, c_out: int, kernel: int, bias: bool = True, padded: bool = True) -> nn.Conv2d:
    """Convolution that halves height and width; not padded, a 4×4 one makes n // 2 - 1 of n. kernel: 4 or 5."""
    return nn.Conv2d(c_in, c_out, kernel, stride=2, padding=(kernel - 1) // 2 if padded else 0, bias=bias)


def up(c_in: int, c_out: int, kernel: int, bias: bool = True) -> nn.ConvTranspose2d:
    """Transposed convolution that doubles height and width. kernel: 4 or 5."""
    padding = (kernel - 1) // 2
    return nn.ConvTranspose2d(c_in, c_out, kernel, stride=2, padding=padding, output_padding=kernel % 2, bias=bias)


def conv_pyramid(
    channels: int,
    widths: list[int],
    kernel: int,
    norm: Norm,
    *,
    first_norm: bool,
    bias: bool = True,
    padded: bool = True,
) -> nn.Sequential:
    """Stride-2 convolutions with LeakyReLU; the first is normalised only when `first_norm`."""
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip([channels, *widths], widths, strict=False)):
        layers += [down(c_in, c_out, kernel, bias, padded), *norm2d(norm if i or first_norm else "none", c_out)]
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


def init_normal(module: nn.Module) -> None:
    """N(0, 0.02²) for weights, zero biases; normalisation layers afresh, gain 1, bias 0. Use with `apply`."""
    _init(module, lambda weight: nn.init.normal_(weight, 0.0, 0.02))


def init_xavier(module: nn.Module) -> None:
    """Glorot normal for weights, zero biases; normalisation layers afresh. Use with `apply`."""
    _init(module, nn.init.xavier_normal_)


def _init(module: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        normalised = is_parametrized(module, "weight")
        draw(module.parametrizations.weight.original if normalised else module.weight)  # type: ignore[union-attr, arg-type]
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
        module.reset_parameters()


def normalise_spectrum(network: nn.Module) -> None:
    """Spectral normalisation (Miyato et al. 2018) of every convolution and linear layer but a critic's head.

    One power iteration per training pass. The head stays free to set the scale of the output.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and name.rpartition(".")[2] != "head":
            spectral_norm(module)


class Critic(nn.Module):
    """A discriminator: `body` turns its inputs into the features that feed `head`, its last linear layer.

    minibatch_std: the head also sees the mean standard deviation of the features over the batch (Karras et al. 2018,
    section 3), so that a generator without variety is told apart. Outside training it sees the running mean of that
    number: a score must not depend on the other patches of its batch.
    """

    batch_std: Tensor

    def __init__(self, body: nn.Module, n_features: int, *, bias: bool = True, minibatch_std: bool = False):
        super().__init__()
        self.body = body
        self.head = nn.Linear(n_features + minibatch_std, 1, bias=bias)
        self._minibatch_std = minibatch_std
        self.momentum = 0.1  # the share of the new value, as in batch normalisation
        if minibatch_std:
            self.register_buffer("batch_std", torch.ones(()))

    def features(self, *inputs: Tensor) -> Tensor:
        """Inputs (B, ...) -> features (B, n_d)."""
        return self.body(*inputs)

    def outputs(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs (B,) and features (B, n_d) of one pass."""
        features = self.body(*inputs)
        return self.head(self._with_spread(features)).squeeze(1), features

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs (B, ...) -> raw outputs (B,)."""
        return self.outputs(*inputs)[0]

    def sequence(self) -> nn.Sequential | None:
        """Body and head of a discriminator of one input as a plain network x -> (B, 1), None with minibatch_std."""
        return None if self._minibatch_std else nn.Sequential(self.body, self.head)

    def _with_spread(self, features: Tensor) -> Tensor:
        if not self._minibatch_std:
            return features
        spread = self.batch_std
        if self.training:
            # The root has no slope at zero: a feature that is constant in the batch must not spoil the gradient.
            spread = (features.float().var(dim=0, correction=0) + 1e-8).sqrt().mean()
            self.batch_std.lerp_(spread.detach(), self.momentum)
        return torch.cat([features, spread.to(features.dtype).expand(len(features), 1)], dim=1)


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


def critic_k5(channels: int, size: int, width: int, norm: Norm, **head: bool) -> Critic:
    """5×5 stride-2 discriminator; features: the flattened, normalised 4×4 map after LeakyReLU."""
    widths = pyramid(width, halvings(size, 4))
    n_features = 16 * widths[-1]
    body = nn.Sequential(
        conv_pyramid(channels, widths, 5, norm, first_norm=True),
        nn.Flatten(),
        *norm1d(norm, n_features),
        nn.LeakyReLU(SLOPE),
    )
    return Critic(body, n_features, **head)


def encoder_k4(channels: int, size: int, nz: int, width: int, *, padded: bool = True) -> nn.Sequential:
    """Bias-free DCGAN encoder of GANomaly: 4×4 stride 2, first stage not normalised, 4×4 map -> (B, nz).

    The last 4×4 convolution sees a 4×4 map and is written as the linear layer it is. padded: with zeros; without
    padding the last map has 2×2 px, and a patch's last two rows and columns are not seen.
    """
    widths = pyramid(width, halvings(size, 4))
    return nn.Sequential(
        conv_pyramid(channels, widths, 4, "batch", first_norm=False, bias=False, padded=padded),
        nn.Flatten(),
        nn.Linear((16 if padded else 4) * widths[-1], nz, bias=False),
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


def critic_k4(
    channels: int, size: int, width: int, norm: Norm, *, minibatch_std: bool = False, padded: bool = True
) -> Critic:
    """Bias-free DCGAN discriminator of GANomaly; features: the 4×4 map before its last layer, flattened, 2×2 without
    padding."""
    widths = pyramid(width, halvings(size, 4))
    body = nn.Sequential(
        conv_pyramid(channels, widths, 4, norm, first_norm=False, bias=False, padded=padded),
        nn.Flatten(),
    )
    return Critic(body, (16 if padded else 4) * widths[-1], bias=False, minibatch_std=minibatch_std)


def decoder_k5(channels: int, size: int, nz: int, width: int) -> nn.Sequential:
    """5×5 decoder from 1×1: (B, nz) -> (B, C, S, S) in [-1, 1]; widths 4w, 2w, w, w/2, w/4, w/4, ..."""
    widths = [max(4 * width >> min(i, 4), 1) for i in range(halvings(size, 1))]
    layers: list[nn.Module] = [nn.Unflatten(1, (nz, 1, 1))]
    for c_in, c_out in zip([nz, *widths], widths, strict=False):
        layers += [up(c_in, c_out, 5), *norm2d("batch", c_out), nn.ReLU()]
    layers += [nn.Conv2d(widths[-1], channels, 5, padding=2), nn.Tanh()]
    return nn.Sequential(*layers)


class PairBody(nn.Module):
    """Features of a pair (x, z): a branch for each, `joint` on the concatenation of their outputs (B, n)."""

    def __init__(self, x_net: nn.Module, z_net: nn.Module, joint: nn.Module):
        super().__init__()
        self.x_net, self.z_net, self.joint = x_net, z_net, joint

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.joint(torch.cat([self.x_net(x), self.z_net(z)], dim=1))


class StackHalves(nn.Module):
    """(B, 2C, H, W) -> (B, C, 2H, W): the two halves of the channels, one image above the other."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(2, 3)


def dropout_pyramid(channels: int, widths: list[int], dropout: float) -> nn.Sequential:
    """4×4 stride-2 convolutions, each with LeakyReLU and dropout instead of normalisation."""
    layers: list[nn.Module] = []
    for c_in, c_out in zip([channels, *widths], widths, strict=False):
        layers += [down(c_in, c_out, 4), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def perceptron(sizes: list[int], dropout: float) -> nn.Sequential:
    """Linear layers sizes[0] -> sizes[1] -> ..., each with LeakyReLU and dropout."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def critic_xx(
    channels: int, size: int, width: int, dropout: float, *, concat: Literal["channel", "height"] = "channel"
) -> Critic:
    """D_xx of ALAD, "is the second patch the first?"; features: the flattened map of 8 pixels width.

    concat: "channel" lays the two patches over each other, so that a kernel sees corresponding pixels; "height" puts
    them one above the other.
    """
    widths = pyramid(width, halvings(size, 8))
    tall = concat == "height"
    joint = nn.Sequential(
        StackHalves() if tall else nn.Identity(),
        dropout_pyramid(channels if tall else 2 * channels, widths, dropout),
        nn.Flatten(),
    )
    return Critic(PairBody(nn.Identity(), nn.Identity(), joint), (2 if tall else 1) * 64 * widths[-1])


def critic_zz(nz: int, width: int, dropout: float) -> Critic:
    """D_zz of ALAD, "is the second code the first?": a perceptron on both; features: its second hidden layer."""
    hidden = max(width // 2, 1)
    joint = perceptron([2 * nz, width, hidden], dropout)
    return Critic(PairBody(nn.Identity(), nn.Identity(), joint), hidden)


def deconvolutions(chain: list[int], channels: int, norm: Norm, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """5×5 stages that double the size, along the widths in `chain` and then to `channels` in [-1, 1]."""
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(chain):
        layers += [up(c_in, c_out, 5), *norm2d(norm, c_out), activation()]
    return [*layers, up(chain[-1], channels, 5), nn.Tanh()]


def generator_k5(channels: int, size: int, nz: int, width: int) -> nn.Sequential:
    """5×5 generator of the EBGAN family z (B, nz) -> (B, C, S, S) in [-1, 1]: 2×2 upwards,
    widths 4w, 2w, w, w/2, w/2, ..."""
    widths = [max(4 * width >> i, width // 2, 1) for i in range(halvings(size, 2))]
    return nn.Sequential(
        nn.Linear(nz, 4 * widths[0]),
        *norm1d("batch", 4 * widths[0]),
        nn.LeakyReLU(SLOPE),
        nn.Unflatten(1, (widths[0], 2, 2)),
        *deconvolutions(widths, channels, "batch", lambda: nn.LeakyReLU(SLOPE)),
    )


class EnergyCritic(nn.Module):
    """Autoencoder discriminator of the EBGAN family: En(x) tells how badly it reproduces x.

    With the embedding e(x) (B, nz) and its decoding a(x) (B, C, S, S), En(x) is ||a(x) - x||_2 (energy "norm"),
    the mean square ("mse") or the mean of 1 - SSIM ("ssim"). adapter: turns energies into the raw outputs of another
    kind of objective; None: the energies are the raw outputs. contrast: of the real patches, kept beside the
    weights that depend on it.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        nz: int,
        width: int,
        norm: Norm,
        *,
        energy: EnergyName = "norm",
        adapter: EnergyAdapter | None = None,
    ):
        super().__init__()
        base = max(width // 2, 1)
        widths = [min(base << i, 8 * width) for i in range(halvings(size, 4))]
        self.encoder = nn.Sequential(
            conv_pyramid(channels, widths, 5, norm, first_norm=False), nn.Flatten(), nn.Linear(16 * widths[-1], nz)
        )
        chain = [nz, *(max(4 * width >> i, base) for i in range(halvings(size, 1) - 1))]
        self.decoder = nn.Sequential(nn.Unflatten(1, (nz, 1, 1)), *deconvolutions(chain, channels, norm, nn.ReLU))
        self.adapter = adapter
        self.contrast = RunningMean()
        self._energy = energy

    def features(self, x: Tensor) -> Tensor:
        """e(x), (B, nz)."""
        return self.encoder(x)

    def reproduce(self, x: Tensor) -> Tensor:
        """a(x), (B, C, S, S) in [-1, 1]."""
        return self.decoder(self.encoder(x))

    def energies(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """En(x) (B,) float32 and e(x) (B, nz) of one pass."""
        codes = self.encoder(x)
        return self.energy(x, self.decoder(codes)), codes

    def energy(self, x: Tensor, reproduction: Tensor) -> Tensor:
        """En(x) (B,) float32, given a(x)."""
        if self._energy == "ssim":
            return ssim(x, reproduction).mean(dim=(1, 2, 3))
        difference = (reproduction.float() - x.float()).flatten(1)
        return difference.norm(dim=1) if self._energy == "norm" else difference.square().mean(1)

    def judge(self, energy: Tensor) -> Tensor:
        """Energies (B,) -> raw outputs (B,)."""
        return energy if self.adapter is None else self.adapter(energy)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> raw outputs (B,)."""
        return self.judge(self.energies(x)[0])
