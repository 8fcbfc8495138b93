"""Regularisers that are chosen apart from the adversarial loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

from inspect_gan.objectives.base import Critic, gradient_norm


def gradient_penalty(critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """(||grad||_2 - 1)^2 averaged over the batch, at random points between real and fake (WGAN-GP eq. 3).

    real, fake: the critic's arguments, each (B, ...). One coefficient a ~ U(0, 1) per sample is shared by all
    arguments, so a joint critic D(x, z) is probed on the straight line from the real to the fake pair. Runs in
    float32 outside autocast: second derivatives do not survive half precision.
    """
    first = real[0]
    share = torch.rand(first.shape[0], device=first.device)
    with torch.autocast(first.device.type, enabled=False):
        between = []
        for x, y in zip(real, fake, strict=True):
            a = share.view(-1, *[1] * (x.dim() - 1))
            between.append(a * x.detach().float() + (1 - a) * y.detach().float())
        return (gradient_norm(critic, between) - 1).square().mean()
