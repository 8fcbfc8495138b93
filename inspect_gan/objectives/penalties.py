"""Regularisers that are chosen apart from the adversarial loss."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inspect_gan.objectives.base import Critic, gradient_norm
from inspect_gan.objectives.game import Game
from inspect_gan.settings import Settings


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


def pulling_away(codes: Tensor, *, squared: bool = True) -> Tensor:
    """Pulling-away term of EBGAN (Zhao et al. 2017, section 2.4): the mean squared cosine between the codes of a batch.

    codes: (N, n), N >= 2. Returns a scalar in [0, 1]: 0 for orthogonal codes, 1 for parallel ones. squared=False: the
    mean cosine, in [-1, 1], which rewards opposite codes. In float32 outside autocast. Raises ValueError for one code.
    """
    n = len(codes)
    if codes.dim() != 2 or n < 2:
        raise ValueError(f"the pulling-away term compares at least two codes (N, n), got {tuple(codes.shape)}")
    with torch.autocast(codes.device.type, enabled=False):
        codes = codes.float()
        directions = codes / (codes.norm(dim=1, keepdim=True) + 1e-8)
        cosines = (directions @ directions.T).triu(diagonal=1)
    return (cosines.square() if squared else cosines).sum() * 2 / (n * (n - 1))


PenaltyName = Literal["none", "normal", "normal2", "uniform"]


class PenaltySettings(Settings):
    """The penalty distribution t of RCGAN (Yang, Bozchalooi & Darve 2020, eq. 4), for detectors with a joint D(x, z).

    penalty: distribution of each pixel of x_t: "normal" N(0, 1), "normal2" N(0, 2) (variance 2), "uniform" U(-1, 1).
    pen_w: weight of its terms. penalty_to_encoder: the encoder minimises eq. 4 too, as printed; the theory, which
    holds for any fixed encoder, does not need it. clip_t: cut x_t to the range of a patch, [-1, 1].
    """

    penalty: PenaltyName = "none"
    pen_w: float = Field(1.0, ge=0)
    penalty_to_encoder: bool = True
    clip_t: bool = False


def penalty_samples(x: Tensor, settings: PenaltySettings) -> Tensor:
    """x_t ~ t, independent pixels, with the shape of x (B, C, S, S) and on its device."""
    if settings.penalty == "uniform":
        return torch.rand_like(x) * 2 - 1
    x_t = torch.randn_like(x) * (math.sqrt(2) if settings.penalty == "normal2" else 1.0)
    return x_t.clamp(-1, 1) if settings.clip_t else x_t


def penalise_critic(
    losses: dict[str, Tensor], game: Game, critic: nn.Module, encoder: nn.Module, x: Tensor, settings: PenaltySettings
) -> dict[str, Tensor]:
    """A joint discriminator's losses with those of penalty samples: (x_t, E(x_t)) are generated pairs (eq. 4).

    losses: with their sum as "total"; returned as they are when the penalty is off. x: the batch (B, C, S, S), for
    its shape. Adds "penalty", weighted, to the total, and reports "penalty_real", how far D accepts (x_t, E(x_t)): once
    that is below 0.01 D knows noise at sight and the penalty no longer acts.
    """
    if settings.penalty == "none":
        return losses
    out = _on_penalty_samples(game, critic, encoder, x, settings)
    term = settings.pen_w * game.d_penalty(out)
    accepted = game.acceptance(out.detach()).mean()
    return {**losses, "total": losses["total"] + term, "penalty": term, "penalty_real": accepted}


def penalise_encoder(
    losses: dict[str, Tensor], game: Game, critic: nn.Module, encoder: nn.Module, x: Tensor, settings: PenaltySettings
) -> dict[str, Tensor]:
    """The encoder's losses with its part in the penalty: to make D accept (x_t, E(x_t)). Arguments as above."""
    if settings.penalty == "none" or not settings.penalty_to_encoder:
        return losses
    term = settings.pen_w * game.g_loss(_on_penalty_samples(game, critic, encoder, x, settings))
    return {**losses, "total": losses["total"] + term, "penalty": term}


def _on_penalty_samples(
    game: Game, critic: nn.Module, encoder: nn.Module, x: Tensor, settings: PenaltySettings
) -> Tensor:
    """Raw outputs D(x_t, E(x_t)), (B,)."""
    x_t = penalty_samples(x, settings)
    with _statistics_kept(critic, encoder):
        return critic(game.seen(x_t), encoder(x_t))


@contextmanager
def _statistics_kept(*networks: nn.Module) -> Iterator[None]:
    """Layers leave their running statistics alone: those of noise must not enter the scores."""
    layers: list[Any] = [layer for network in networks for layer in network.modules() if hasattr(layer, "momentum")]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
