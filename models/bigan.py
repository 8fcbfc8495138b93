"""BiGAN (Donahue, Krähenbühl & Darrell, ICLR 2017) and ALI (Dumoulin et al., ICLR 2017) as anomaly detectors."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from inspect_gan.detector import (
    NATURAL,
    ONE_COEFFICIENT,
    UNCALIBRATED,
    Batch,
    DetectorSettings,
    EncodedView,
    PatchShape,
    Phase,
    PriorDetector,
    Score,
    Stage,
    detectors,
)
from inspect_gan.models import networks
from inspect_gan.models.pixel_critic import AnyCritic, PixelCritic
from inspect_gan.objectives import Objective, TrickSettings, with_total
from inspect_gan.objectives.penalties import PairPenaltySettings, critic_losses, penalise_encoder
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance, l1

DROPOUT = 0.5
# Log-variances of the stochastic encoder outside are cut: exp must neither overflow nor freeze the code.
LOG_VARIANCE = (-10.0, 5.0)


class BiGANSettings(PairPenaltySettings, DetectorSettings):
    """w_fm: weight of feature matching, mean ||f(x, E(x)) - f(G(z), z)||_2, in the generator's loss.

    w_rec: weight of ||x - x'||_1 in score `comb`. stochastic_encoder: E gives mean and variance of a code, as in ALI.
    """

    w_fm: float = Field(0.0, ge=0)
    w_rec: float = Field(0.9, ge=0, le=1)
    stochastic_encoder: bool = False


class BiGANView(EncodedView):
    """Adds the codes and what D says of (x, E(x))."""

    detector: "BiGAN"

    @cached_property
    def discriminated(self) -> tuple[Tensor, Tensor]:
        """D(x, E(x)) (B,) raw, and f(x, E(x)) (B, n_d)."""
        return self.detector.discriminator.outputs(self.x, self.z)

    @cached_property
    def features_rec(self) -> Tensor:
        """f(x', E(x)), (B, n_d)."""
        return self.detector.discriminator.features(self.x_rec, self.z)

    @cached_property
    def feature_distance(self) -> Tensor:
        """||f(x, E(x)) - f(x', E(x))||_1, (B,)."""
        return distance(self.features, self.features_rec, 1)

    @cached_property
    def pixel_distance(self) -> Tensor:
        """||x - x'||_1 spread over its pixels, (B, 1, S, S): the mean of a sample is its norm."""
        return self.x[0].numel() * l1(self.x, self.x_rec)


@detectors.register("bigan")
class BiGAN(PriorDetector):
    """A generator G and an encoder E that agree because a discriminator D of pairs cannot tell theirs apart.

    D separates (x, E(x)), real, from (G(z), z), generated, z ~ N(0, I). G and E minimise together

        g_loss(D(G(z), z)) + e_loss(D(x, E(x))) + w_fm · mean ||f(x, E(x)) - f(G(z), z)||_2

    with the features f of D; the last term, 0 by default, trains G only. Order per batch: D (each of several steps on a
    fresh batch), then G and E in one step with a fresh z, both gradients taken before either moves. Scores with
    x' = G(E(x)) (Zenati et al., "Efficient GAN-based anomaly detection", 2018): w_rec · ||x - x'||_1
    + (1 - w_rec) · ||f(x, E(x)) - f(x', E(x))||_1 (`comb`, default, w_rec 0.9), its two parts, ||x - x'||_2,
    ||E(x) - E(x')||_2, and `ce`, the cross-entropy of D(x, E(x)) against "real"; of a critic, which has no logit,
    -D(x, E(x)).

    stochastic_encoder (ALI): E gives mean and log-variance of a Gaussian from which training draws the code; scores
    use the mean.

    Deviations. E and G at the DCGAN sizes of the thesis, not those of the papers. Zenati et al. take `ce` of
    (x', E(x)). Input noise acts on what D sees, E sees clean patches. `penalty` adds the penalty distribution of
    RCGAN. `res_feature` compares f(x, E(x)) and f(x', E(x)).

    Preset "thesis" (Gözgümüş, Politecnico di Milano, 10589/149395): learning rates 5e-5 (G, E) and 1e-6 (D), w_fm
    0.1, w_rec 0.75. Its code takes one ||x - x'||_2 for a whole batch and, with a Wasserstein loss, trains E the wrong
    way; neither is reproduced.
    """

    settings_class = BiGANSettings
    settings: BiGANSettings
    discriminator: AnyCritic
    view_class = BiGANView
    objectives: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("minimax", "nonsaturating", "lsgan", "mim"), NATURAL),
        **dict.fromkeys(("wgan", "hinge"), UNCALIBRATED),
        "wgan_gp": f"{UNCALIBRATED}; {ONE_COEFFICIENT}",
    }
    default_objective: ClassVar[Mapping[str, str]] = {"default": "nonsaturating", "thesis": "nonsaturating"}
    default_score: ClassVar[Mapping[str, str]] = {"default": "comb", "thesis": "comb"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "thesis": {"lr_g": 5e-5, "lr_d": 1e-6, "w_fm": 0.1, "w_rec": 0.75},
    }

    def __init__(
        self,
        shape: PatchShape,
        settings: BiGANSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        c, size, nz, width = shape.channels, shape.size, settings.nz, settings.width
        self.generator = networks.generator_dcgan(c, size, nz, width)
        self.encoder = encoder(c, size, nz, width, stochastic=settings.stochastic_encoder)
        if settings.critic == "pixels":
            norm: networks.Norm = "batch" if objective.batch_norm_in_critic else "layer"
            self.discriminator = PixelCritic(c, width, norm, nz, bias=objective.sees_offset)
        else:
            self.discriminator = critic(c, size, nz, width, **self.critic_head())
        self.apply(networks.init_normal)
        if settings.spectral_norm:
            networks.normalise_spectrum(self.discriminator)

    def stages(self) -> tuple[Stage, ...]:
        phases = (
            self.critic_phase("discriminator", self._discriminator_loss),
            Phase(
                "generator_encoder",
                ("generator", "encoder"),
                self._generator_encoder_loss,
                self.optimizer("generator"),
            ),
        )
        return (Stage("gan", 50, phases),)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(self.encoder(x))

    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator.outputs(x, self.encoder(x))

    def own_scores(self) -> dict[str, Score | Mixture]:
        w = self.settings.w_rec
        return {
            "comb": Score(
                "w_rec ||x - x'||_1 + (1 - w_rec) ||f(x, E(x)) - f(x', E(x))||_1",
                lambda v: w * v.pixel_distance + (1 - w) * v.feature_distance[:, None, None, None],
            ),
            "rec_1": Score("||x - x'||_1", lambda v: v.pixel_distance),
            "rec_2": Score("||x - x'||_2", lambda v: distance(v.x, v.x_rec)),
            "fm": Score("||f(x, E(x)) - f(x', E(x))||_1", lambda v: v.feature_distance),
            "ce": Score("-log sigmoid(D(x, E(x))), of a critic -D(x, E(x))", lambda v: v.doubt),
            "z": Score("||E(x) - E(x')||_2", lambda v: distance(v.z, self.encoder(v.x_rec))),
        }

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        z = batch.latent(self.settings.nz)
        return critic_losses(
            self.game,
            self.discriminator,
            batch.x,
            lambda n: [self.generator(z[:n]), z[:n]],
            self.settings,
            self.encoder,
            lambda: self.encoder(batch.x),
        )

    def _generator_encoder_loss(self, batch: Batch) -> dict[str, Tensor]:
        z = batch.latent(self.settings.nz)
        real_out, real_features = self.discriminator.outputs(self.game.seen(batch.x), self.encoder(batch.x))
        fake_out, fake_features = self.discriminator.outputs(self.game.seen(self.generator(z)), z)
        terms = {"generator": self.game.g_loss(fake_out), "encoder": self.game.e_loss(real_out)}
        if self.settings.w_fm:
            # Detached: feature matching is the generator's part, the encoder must not chase generated features.
            matching = distance(real_features.detach(), fake_features).mean()
            terms["feature_matching"] = self.settings.w_fm * matching
        return penalise_encoder(with_total(terms), self.game, self.discriminator, self.encoder, batch.x, self.settings)


def encoder(channels: int, size: int, nz: int, width: int, *, stochastic: bool = False) -> nn.Sequential:
    """4×4 stride-2 encoder x (B, C, S, S) -> (B, nz), linear output; first stage not normalised, ends at 4×4."""
    widths = networks.pyramid(width, networks.halvings(size, 4))
    return nn.Sequential(
        networks.conv_pyramid(channels, widths, 4, "batch", first_norm=False),
        nn.Flatten(),
        nn.Linear(16 * widths[-1], 2 * nz if stochastic else nz),
        *([GaussianCode()] if stochastic else []),
    )


class GaussianCode(nn.Module):
    """Mean and log-variance (B, 2 nz) -> a code (B, nz), drawn from that Gaussian in training, else its mean."""

    def forward(self, moments: Tensor) -> Tensor:
        mean, log_variance = moments.float().chunk(2, dim=1)
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE)) * torch.randn_like(mean)


def critic(channels: int, size: int, nz: int, width: int, **head: bool) -> networks.Critic:
    """D of pairs: convolutions on x down to 8×8, one layer on z, one on both; features: its output after dropout."""
    widths = networks.pyramid(width, networks.halvings(size, 8))
    of_z, joint = 8 * width, 16 * width
    body = networks.PairBody(
        nn.Sequential(networks.dropout_pyramid(channels, widths, DROPOUT), nn.Flatten()),
        networks.perceptron([nz, of_z], DROPOUT),
        networks.perceptron([64 * widths[-1] + of_z, joint], DROPOUT),
    )
    return networks.Critic(body, joint, **head)
