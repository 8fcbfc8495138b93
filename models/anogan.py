"""AnoGAN (Schlegl, Seeböck, Waldstein, Schmidt-Erfurth & Langs, IPMI 2017)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inspect_gan.detector import (
    NATURAL,
    NO_BATCH_NORM,
    UNCALIBRATED,
    PatchShape,
    Score,
    Stage,
    View,
    detectors,
)
from inspect_gan.models import networks
from inspect_gan.models.latent_gan import LatentGAN, LatentGANSettings
from inspect_gan.models.pixel_critic import PixelCritic
from inspect_gan.objectives import Objective, TrickSettings
from inspect_gan.objectives.optimizers import light
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance, l1

# Every search starts here: the score of a patch must not depend on when or with which others it is scored.
START_SEED = 0
# Steps between two looks at whether a search still improves.
PATIENCE = 50
# The last bit of a network's output depends on the size of its batch, and a search makes a difference of 1e-7 one of
# 1e-3: all searches run in batches of one size. On a CPU larger ones are not faster.
CPU_BATCH, GPU_BATCH = 16, 128
# Weight of the discrimination term in J of the MIM papers.
S_TEST_LAMBDA = 0.1

Loss = Callable[[Tensor], Tensor]
Criterion = Callable[[Tensor], Loss]


@dataclass(frozen=True)
class SearchPlan:
    """How a latent code is searched: Adam steps at rate lr.

    tolerance: a sample is done when PATIENCE steps lower its loss by less than this share; 0: only after all steps.
    """

    steps: int = 500
    lr: float = 0.02
    tolerance: float = 0.0


def fixed_starts(n: int, nz: int) -> Tensor:
    """(n, nz) draws from N(0, I), the same on every call."""
    return torch.randn(n, nz, generator=torch.Generator().manual_seed(START_SEED))


def search(
    generator: Callable[[Tensor], Tensor],
    criterion: Criterion,
    x: Tensor,
    starts: Tensor,
    plan: SearchPlan,
    batch: int | None = None,
) -> tuple[Tensor, Tensor]:
    """For each sample of x the latent code that generates the nearest patch, (B, nz), and its loss there, (B,).

    generator: (n, nz) -> (n, ...); its networks must be in eval mode. criterion: x (n, ...) -> loss of the generated
    (n, ...), (n,); what depends on x alone is so computed once. starts: (restarts, nz), tried one after the other
    with every sample; the best code met on the way from any of them counts. batch: samples searched at a time; None:
    what is fast for patches.

    Works under `torch.inference_mode`, computes in float32 and leaves no gradients behind. A sample's code is the
    same alone and in any batch, on a CPU to the last bit where nz is a multiple of 4. An Adam step moves a coordinate
    by about lr at most, so lr · steps bounds how far a code can lie from its start; codes of a standard normal prior
    need about 5.
    """
    size = batch or (CPU_BATCH if x.device.type == "cpu" else GPU_BATCH)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x, starts = x.float().clone(), starts.to(x.device).clone()  # inference tensors cannot enter a graph
        filled = torch.cat([x, x[-1:].expand(-len(x) % size, *x.shape[1:])])
        found = [_best_start(generator, criterion(part), starts, len(part), plan) for part in filled.split(size)]
        codes, values = (torch.cat(parts)[: len(x)] for parts in zip(*found, strict=True))
    return codes, values


def _best_start(
    generator: Callable[[Tensor], Tensor], loss: Loss, starts: Tensor, n: int, plan: SearchPlan
) -> tuple[Tensor, Tensor]:
    tries = [_descend(generator, loss, start.repeat(n, 1), plan) for start in starts]
    codes, values = (torch.stack(parts) for parts in zip(*tries, strict=True))
    best, sample = values.argmin(0), torch.arange(n, device=values.device)
    return codes[best, sample], values[best, sample]


def _descend(generator: Callable[[Tensor], Tensor], loss: Loss, z: Tensor, plan: SearchPlan) -> tuple[Tensor, Tensor]:
    """The best code (n, nz) on the way from z (n, nz), and its loss (n,)."""
    best, best_z = torch.full((len(z),), torch.inf, device=z.device), z.clone()
    before, active = best, torch.ones_like(best, dtype=torch.bool)
    optimizer = light(torch.optim.Adam)([z.requires_grad_()], lr=plan.lr)
    for step in range(plan.steps + 1):
        value = loss(generator(z))
        better = active & (value.detach() < best)
        best = torch.where(better, value.detach(), best)
        best_z = torch.where(better[:, None], z.detach(), best_z)
        if plan.tolerance and step % PATIENCE == 0:
            # One that has stopped keeps its best; its later steps, taken for the sake of the others, do not count.
            active &= ~(before - best < plan.tolerance * before.abs())
            before = best
            if not active.any():
                break
        if step < plan.steps:
            # Of the sum: each sample follows the gradient of its own loss, whatever the size of the batch.
            (z.grad,) = torch.autograd.grad(value.sum(), z)
            optimizer.step()
    return best_z, best


class AnoGANSettings(LatentGANSettings):
    """search_steps, search_lr, restarts: the latent search. z_loss: what it minimises, A or the cosine distance.
    p: norm of the residual in A. disc: its discrimination term, "fm" (features) or "ce" (output). lambda_disc: the
    weight of that term.
    s_test_steps, s_test_lr: the search of score `s_test`. eta: weight of Hce(D(x)) in it. hce_on: cross-entropy of
    D's raw output, or of its sigmoid as the MIM papers print it, which confines Hce to [0.313, 0.693].
    """

    search_steps: int = Field(500, ge=1)
    search_lr: float = Field(0.02, gt=0)
    restarts: int = Field(1, ge=1)
    z_loss: Literal["anogan", "cosine"] = "anogan"
    p: Literal[1, 2] = 1
    disc: Literal["fm", "ce"] = "fm"
    lambda_disc: float = Field(0.1, ge=0, le=1)
    s_test_steps: int = Field(2000, ge=1)
    s_test_lr: float = Field(0.003, gt=0)
    eta: float = Field(0.05, ge=0, le=1)
    hce_on: Literal["logit", "literal"] = "logit"


class AnoGANView(View):
    """Adds the two terms that the scores are made of."""

    detector: "AnoGAN"

    @cached_property
    def discrimination(self) -> Tensor:
        """||f(x) - f(x')||_1 or Hce(D(x')), (B,)."""
        if self.detector.settings.disc == "ce":
            return of_patches(self.detector.doubt(self.detector.discriminator(self.x_rec)))
        return distance(self.features, self.features_rec, 1)

    def residual(self, p: int) -> Tensor:
        """||x - x'||_p, (B,)."""
        return distance(self.x, self.x_rec, p)

    def anomaly(self, residual: Tensor) -> Tensor:
        """A from a residual (B,) or one spread over its pixels (B, 1, S, S)."""
        weight = self.detector.settings.lambda_disc
        discrimination = self.discrimination.view(-1, *[1] * (residual.dim() - 1))
        return (1 - weight) * residual + weight * discrimination


@detectors.register("anogan")
class AnoGAN(LatentGAN):
    """A GAN; a patch is scored by how well the generator can be made to reproduce it.

    Training (Goodfellow et al. 2014): per batch one step of the discriminator D on x and G(z), then one of the
    generator G with a fresh z. Scoring: with both frozen, minimise over z by Adam (section 2.2)

        A(x, z) = (1 - lambda) ||x - G(z)||_p + lambda ||f(x) - f(G(z))||_1        lambda 0.1, p 1, 500 steps at 0.02

    where f are D's features (Salimans et al. 2016); `disc="ce"` puts Hce(D(G(z))) in place of the feature term. The
    reconstruction is x' = G(z) at the lowest A met. Hce(D) = softplus(-D), the cross-entropy of D's output against
    "real"; of a critic, which has no logit, -D.

    Score `s_test` (She & Fan, "MIM-based GAN", eqs 22-25) has its own search, at rate 0.003 for up to 2000 steps,
    stopped when 50 steps lower J by less than 1e-4 of it:

        J(x, z) = 0.9 ||x - G(z)||_2 + 0.1 Hce(D(G(z)))        S = (1 - eta) min_z J + eta Hce(D(x)),  eta 0.05

    `z_loss="cosine"` gives the search of MIM-GAN for time series, 1 - cos(x, G(z)), blind to contrast: with score
    `dire`, which takes any search, that paper's method.

    Deviations. The rate of the search is ours, so that the codes of the prior are within reach, see `search`; of all
    steps the best counts. Its start is one fixed draw, the same for every patch; `restarts` tries more. The number of
    steps to the least J is ours, as the MIM papers give none; their scaling of S by its minimum and maximum over the
    test set is not done.

    Preset "thesis" (Gözgümüş, Politecnico di Milano, 10589/149395): learning rates 5e-5 (G) and 1e-6 (D), search at
    rate 1e-3, which cannot reach beyond 0.5 of its start, and weights 0.1 on the residual, 0.9 on the features.

    Scoring costs two passes of G and D per search step and patch, a thousand times the cost of an encoder.
    """

    settings_class = AnoGANSettings
    settings: AnoGANSettings
    view_class = AnoGANView
    searches = True
    search_batch: int | None = None  # see `search`
    objectives: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("minimax", "nonsaturating", "lsgan", "mim"), NATURAL),
        **dict.fromkeys(("wgan", "wgan_gp"), f"{UNCALIBRATED}; {NO_BATCH_NORM}"),
        "hinge": UNCALIBRATED,
    }
    default_objective: ClassVar[Mapping[str, str]] = {"default": "nonsaturating", "thesis": "nonsaturating"}
    default_score: ClassVar[Mapping[str, str]] = {"default": "anogan_l1", "thesis": "anogan_l1"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "thesis": {"lr_g": 5e-5, "lr_d": 1e-6, "search_lr": 1e-3, "lambda_disc": 0.9},
    }

    def __init__(
        self,
        shape: PatchShape,
        settings: AnoGANSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        c, size, width = shape.channels, shape.size, settings.width
        kind: networks.Norm = "batch" if objective.batch_norm_in_critic else "layer"
        self.generator = networks.generator_dcgan(c, size, settings.nz, width)
        self.discriminator = (
            PixelCritic(c, width, kind, bias=objective.sees_offset)
            if settings.critic == "pixels"
            else critic(c, size, width, kind, **self.critic_head())
        )
        self.apply(networks.init_normal)
        if settings.spectral_norm:
            networks.normalise_spectrum(self.discriminator)

    def stages(self) -> tuple[Stage, ...]:
        return (self.gan_stage(50),)

    def reconstruct(self, x: Tensor) -> Tensor:
        cfg = self.settings
        criterion = _cosine if cfg.z_loss == "cosine" else self._criterion(cfg.p, cfg.disc, cfg.lambda_disc)
        z, _ = self._search(x, criterion, SearchPlan(cfg.search_steps, cfg.search_lr))
        return self.generator(z)

    def own_scores(self) -> dict[str, Score | Mixture]:
        pixels = self.shape.channels * self.shape.size**2
        return {
            "anogan_l1": Score(
                "(1 - lambda) ||x - x'||_1 + lambda disc", lambda v: v.anomaly(pixels * l1(v.x, v.x_rec))
            ),
            "anogan_l2": Score("(1 - lambda) ||x - x'||_2 + lambda disc", lambda v: v.anomaly(v.residual(2))),
            "residual": Score("||x - x'||_p", lambda v: v.residual(self.settings.p)),
            "discrimination": Score("disc: ||f(x) - f(x')||_1 or Hce(D(x'))", lambda v: v.discrimination),
            "s_test": Score(
                "(1 - eta) min_z (0.9 ||x - G(z)||_2 + 0.1 Hce(D(G(z)))) + eta Hce(D(x))",
                lambda v: (1 - self.settings.eta) * self._least_j(v.x) + self.settings.eta * of_patches(v.doubt),
            ),
        }

    def doubt(self, out: Tensor) -> Tensor:
        """Hce: raw outputs of D -> cross-entropy against "real", of the same shape."""
        if self.settings.hce_on == "literal":
            return F.softplus(-torch.sigmoid(self.game.towards_real(out)))
        return super().doubt(out)

    def _least_j(self, x: Tensor) -> Tensor:
        plan = SearchPlan(self.settings.s_test_steps, self.settings.s_test_lr, tolerance=1e-4)
        return self._search(x, self._criterion(2, "ce", S_TEST_LAMBDA), plan)[1]

    def _search(self, x: Tensor, criterion: Criterion, plan: SearchPlan) -> tuple[Tensor, Tensor]:
        starts = fixed_starts(self.settings.restarts, self.settings.nz)
        return search(self.generator, criterion, x, starts, plan, self.search_batch)

    def _criterion(self, p: int, disc: Literal["fm", "ce"], weight: float) -> Criterion:
        """(1 - weight) ||x - G(z)||_p + weight disc."""

        def of(x: Tensor) -> Loss:
            if disc == "ce":
                return lambda made: (
                    (1 - weight) * distance(x, made, p) + weight * of_patches(self.doubt(self.discriminator(made)))
                )
            wanted = self.features(x).detach()
            return lambda made: (1 - weight) * distance(x, made, p) + weight * distance(wanted, self.features(made), 1)

        return of


def critic(channels: int, size: int, width: int, norm_kind: networks.Norm, **head: bool) -> networks.Critic:
    """4×4 stride-2 discriminator, first stage not normalised; features: the flattened 4×4 map after LeakyReLU."""
    widths = networks.pyramid(width, networks.halvings(size, 4))
    body = nn.Sequential(networks.conv_pyramid(channels, widths, 4, norm_kind, first_norm=False), nn.Flatten())
    return networks.Critic(body, 16 * widths[-1], **head)


def of_patches(values: Tensor) -> Tensor:
    """(B,) as it is, the means of (B, 1, S, S)."""
    return values.flatten(1).mean(1) if values.dim() > 1 else values


def _cosine(x: Tensor) -> Loss:
    """1 - cos(x, G(z)) of all pixels of a sample as one vector."""
    return lambda made: 1 - F.cosine_similarity(x.flatten(1), made.flatten(1), dim=1)
