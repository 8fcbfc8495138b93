"""Regularisers that are chosen apart from the adversarial loss."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inspect_gan.objectives.base import Critic, gradient_norm
from inspect_gan.objectives.game import Game, with_total
from inspect_gan.patches.drawn import ELONGATION, draw_defects
from inspect_gan.settings import Settings
from inspect_gan.statistics import statistics_kept


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


PenaltyName = Literal["none", "normal", "normal2", "uniform", "drawn"]
Shown = Literal["real", "generated"]
# Opacity from which a pixel counts as drawn.
VISIBLE = 0.3
# Share of the patches whose drawn defects show generated content.
GENERATED = 0.25


class PenaltySettings(Settings):
    """The penalty distribution t of RCGAN (Yang, Bozchalooi & Darve 2020, eq. 4): patches x_t that D learns to reject.

    penalty: distribution of each pixel of x_t: "normal" N(0, 1), "normal2" N(0, 2) (variance 2), "uniform" U(-1, 1);
    "drawn": the patches of the batch with drawn defects. drawn_elongation: how many times as long as wide those may be;
    16 for scratches and cracks. clip_t: cut x_t to the range of a patch, [-1, 1]. critic: D judges whole patches or
    every pixel; one of pixels is told which of them were drawn and takes the others for real.
    pen_w: weight of the penalty's terms; drawn pixels have none beside the real ones.
    """

    penalty: PenaltyName = "none"
    pen_w: float = Field(1.0, ge=0)
    drawn_elongation: float = Field(ELONGATION, ge=1, le=64)
    clip_t: bool = False
    critic: Literal["patch", "pixels"] = "patch"


class PairPenaltySettings(PenaltySettings):
    """Of detectors with a joint D(x, z), which sees (x_t, E(x_t)). penalty_to_encoder: the encoder minimises eq. 4 too,
    as printed; the theory, which holds for any fixed encoder, does not need it."""

    penalty_to_encoder: bool = True


def penalty_samples(x: Tensor, settings: PenaltySettings) -> Tensor:
    """x_t ~ t with the shape of x (B, C, S, S) and on its device; of noise the pixels are independent."""
    if settings.penalty == "drawn":
        return draw_defects(x, elongation=settings.drawn_elongation)[0]
    if settings.penalty == "uniform":
        return torch.rand_like(x) * 2 - 1
    x_t = torch.randn_like(x) * (math.sqrt(2) if settings.penalty == "normal2" else 1.0)
    return x_t.clamp(-1, 1) if settings.clip_t else x_t


def critic_losses(
    game: Game,
    critic: nn.Module,
    x: Tensor,
    fake: Callable[[int], Sequence[Tensor]],
    settings: PenaltySettings,
    encoder: nn.Module | None = None,
    code: Callable[[], Tensor] | None = None,
    weight: float = 1.0,
    noisy: tuple[Shown, ...] = ("real", "generated"),
) -> dict[str, Tensor]:
    """Losses of a discriminator with its penalty, their sum as "total".

    x: real patches (B, C, S, S). fake: n -> D's arguments for n <= B generated patches, of an autoencoder for the first
    n patches of the batch. encoder, code: E and () -> E(x) (B, nz) of a D of pairs. Only what the losses need is
    called. weight: of the objective's terms. noisy: which patches D sees with the input noise; penalty samples count as
    generated, patches of which single pixels are as real.
    """

    def shown(kind: Shown, patches: Tensor) -> Tensor:
        return game.seen(patches) if kind in noisy else patches

    def pairs() -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        real = [shown("real", x)] if code is None else [shown("real", x), code()]
        made, *codes = fake(len(x))
        return real, [shown("generated", made), *codes]

    if settings.penalty == "drawn" and settings.critic == "pixels":
        x_t, rejected = _drawn_pixels(x, fake, settings.drawn_elongation)
        # Noise last: it must not tell what was drawn from what was there.
        out = _judged(critic, encoder, x_t, shown("real", x_t), keep_critic=False)
        terms = {"adversarial": weight * game.d_pixels(out, rejected)}
        if game.objective.regularised:
            terms |= game.regulariser(critic, *pairs())
        return {**with_total(terms), "penalty_real": game.d_slope(out[rejected]).mean()}
    real, made = pairs()
    adversarial = weight * game.d_loss(critic(*real), critic(*made))
    losses = with_total({"adversarial": adversarial, **game.regulariser(critic, real, made)})
    return penalise_critic(losses, game, critic, encoder, x, settings, noisy="generated" in noisy)


def _drawn_pixels(x: Tensor, fake: Callable[[int], Sequence[Tensor]], elongation: float) -> tuple[Tensor, Tensor]:
    """Patches (B, C, S, S) with drawn defects, some with generated content, and which pixels are to be rejected,
    (B, 1, S, S). D learns to tell real, generated and drawn pixels within one image: whole generated patches, among the
    others or in passes of their own, would shift the statistics that batch normalisation keeps for scoring."""
    # Two at least: a generator that normalises a batch of one at 1x1 has nothing to normalise by.
    n = min(max(round(GENERATED * len(x)), 2), len(x))
    x_t, opacity = draw_defects(x, generated=fake(n)[0].float(), elongation=elongation)
    return x_t, opacity > VISIBLE


def penalise_critic(
    losses: dict[str, Tensor],
    game: Game,
    critic: nn.Module,
    encoder: nn.Module | None,
    x: Tensor,
    settings: PenaltySettings,
    *,
    noisy: bool = True,
) -> dict[str, Tensor]:
    """A discriminator's losses with those of penalty samples, of a joint one (x_t, E(x_t)): they are generated (eq. 4).

    losses: with their sum as "total"; returned as they are when the penalty is off. x: the batch (B, C, S, S). noisy:
    D sees x_t with the input noise. Adds "penalty", weighted, to the total, and reports "penalty_real", the mean slope
    of D's loss of (x_t, E(x_t)), of a cross-entropy the probability that they are real: once that is below 0.01 D knows
    noise at sight and the penalty no longer acts.
    """
    if settings.penalty == "none":
        return losses
    out = _on_penalty_samples(game, critic, encoder, x, settings, noisy)
    term = settings.pen_w * game.d_penalty(out)
    return {**losses, "total": losses["total"] + term, "penalty": term, "penalty_real": game.d_slope(out).mean()}


def penalise_encoder(
    losses: dict[str, Tensor],
    game: Game,
    critic: nn.Module,
    encoder: nn.Module,
    x: Tensor,
    settings: PairPenaltySettings,
) -> dict[str, Tensor]:
    """The encoder's losses with its part in the penalty: to make D accept (x_t, E(x_t)). Arguments as above."""
    if settings.penalty == "none" or not settings.penalty_to_encoder:
        return losses
    term = settings.pen_w * game.g_loss(_on_penalty_samples(game, critic, encoder, x, settings, noisy=True))
    return {**losses, "total": losses["total"] + term, "penalty": term}


def _on_penalty_samples(
    game: Game, critic: nn.Module, encoder: nn.Module | None, x: Tensor, settings: PenaltySettings, noisy: bool
) -> Tensor:
    """Raw outputs D(x_t) or D(x_t, E(x_t)), (B,)."""
    x_t = penalty_samples(x, settings)
    return _judged(critic, encoder, x_t, game.seen(x_t) if noisy else x_t, keep_critic=True)


def _judged(critic: nn.Module, encoder: nn.Module | None, x_t: Tensor, seen: Tensor, *, keep_critic: bool) -> Tensor:
    """Raw outputs D(seen), of a D of pairs D(seen, E(x_t)). The statistics of E's batch normalisation stay as they are,
    and with `keep_critic` those of D's."""
    encoders = [] if encoder is None else [encoder]
    with statistics_kept(*encoders, *([critic] if keep_critic else [])):
        return critic(seen, *(e(x_t) for e in encoders))
