"""A discriminator that judges every pixel."""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inspect_gan.models.networks import SLOPE, Critic, Norm, norm2d
from inspect_gan.statistics import statistics_kept


class PixelCritic(nn.Module):
    """A discriminator with an opinion on every pixel: a U-Net (Schönfeld et al., "A U-Net based discriminator for
    generative adversarial networks", CVPR 2020).

    It works at half the size and lower, widths w, 2w, 3w, 4w down to 1/16. nz: of the code that it also sees, added to
    its narrowest map; None: it judges patches alone. bias: of its last layer. Features: mean and deviation of the
    narrowest map, (B, 8w). While it is frozen its running statistics stay: what others show it must not enter the
    scores.
    """

    def __init__(self, channels: int, width: int, norm: Norm, nz: int | None = None, *, bias: bool = True):
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width]
        entering = [4 * channels, *widths]
        lower = list(pairwise(widths))[::-1]
        self.downs = nn.ModuleList(
            nn.Sequential(*conv3(a, b, norm), *conv3(b, b, norm)) for a, b in zip(entering, widths, strict=False)
        )
        self.of_code = None if nz is None else nn.Linear(nz, widths[-1])
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for b, a in lower)
        self.ups = nn.ModuleList(conv3(2 * b, b, norm) for b, _ in lower)
        self.head = nn.Conv2d(width, 1, 1, bias=bias)

    def features(self, *inputs: Tensor) -> Tensor:
        """x (B, C, S, S), and z (B, nz) -> features (B, n_d)."""
        return self._moments(self._descend(*inputs)[-1])

    def outputs(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs (B, 1, S, S) and features (B, n_d) of one pass."""
        with self._statistics():
            *skips, x = self._descend(*inputs)
            features = self._moments(x)
            for narrow, stage in zip(self.narrow, self.ups, strict=True):
                x = stage(torch.cat([F.interpolate(narrow(x), scale_factor=2.0), skips.pop()], dim=1))
            return F.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False), features

    def forward(self, *inputs: Tensor) -> Tensor:
        """x (B, C, S, S), and z (B, nz) -> raw outputs (B, 1, S, S)."""
        return self.outputs(*inputs)[0]

    def sequence(self) -> None:
        """There is no plain network from a patch to one number."""

    def _statistics(self) -> AbstractContextManager[None]:
        frozen = self.training and not self.head.weight.requires_grad
        return statistics_kept(self) if frozen else nullcontext()

    def _descend(self, x: Tensor, z: Tensor | None = None) -> list[Tensor]:
        """Maps of 1/2 to 1/16 of the size."""
        maps: list[Tensor] = []
        with self._statistics():
            x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
            for stage in self.downs:
                x = stage(F.avg_pool2d(x, 2) if maps else x)
                maps.append(x)
        if self.of_code is not None:
            maps[-1] = maps[-1] + self.of_code(z)[:, :, None, None]
        return maps

    @staticmethod
    def _moments(x: Tensor) -> Tensor:
        pixels = x.float().flatten(2)
        return torch.cat([pixels.mean(2), (pixels.var(2, correction=0) + 1e-8).sqrt()], dim=1)


AnyCritic = Critic | PixelCritic


def conv3(c_in: int, c_out: int, norm: Norm) -> nn.Sequential:
    """A 3×3 convolution that keeps the size, normalised, with LeakyReLU."""
    convolution = nn.Conv2d(c_in, c_out, 3, padding=1, bias=norm == "none")
    return nn.Sequential(convolution, *norm2d(norm, c_out), nn.LeakyReLU(SLOPE))
