"""f-AnoGAN (Schlegl, Seeböck, Waldstein, Langs & Schmidt-Erfurth, Medical Image Analysis 54, 2019)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from inspect_gan.detector import (
    NATURAL,
    Batch,
    EncodedView,
    PatchShape,
    Phase,
    Score,
    Stage,
    detectors,
)
from inspect_gan.models import networks
from inspect_gan.models.latent_gan import LatentGAN, LatentGANSettings
from inspect_gan.models.pixel_critic import PixelCritic
from inspect_gan.objectives import Objective, Optimizer, TrickSettings, both
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import l2, mse


class FAnoGANSettings(LatentGANSettings):
    """lr_e: learning rate of the encoder. encoder_loss: equation 1, 2 or 3 of the paper. kappa: weight of its feature
    term. squared: mse, else norm / n. enc_out: how the encoder ends."""

    lr_e: float = Field(5e-5, gt=0)
    encoder_loss: Literal["ziz", "izi", "izi_f"] = "izi_f"
    kappa: float = Field(1.0, ge=0)
    squared: bool = True
    enc_out: Literal["linear", "tanh"] = "linear"


class FAnoGANView(EncodedView):
    """Adds the latent codes of the patch and of its reconstruction."""

    detector: "FAnoGAN"

    @cached_property
    def z_rec(self) -> Tensor:
        """E(G(E(x))), (B, nz)."""
        return self.detector.encoder(self.x_rec)


@detectors.register("fanogan")
class FAnoGAN(LatentGAN):
    """A GAN first, then an encoder into its frozen latent space.

    Stage `gan`: generator G and discriminator D with the objective (WGAN-GP, five D steps per G step, each on a
    fresh batch). Stage `encoder`: G and D frozen, with x' = G(E(x)) and D's features f the encoder E minimises

        ziz    mse(E(G(z)), z), z ~ N(0, I)                      (eq. 1)
        izi    mse(x, x')                                        (eq. 2)
        izi_f  mse(x, x') + kappa · mse(f(x), f(x'))             (eq. 3, default)

    Score: mse(x, x') + kappa · mse(f(x), f(x')) (eq. 4). The encoder trains against the averaged weights of G and
    D, the ones that score.

    Deviations. DCGAN networks instead of the authors' residual ones, layer instead of batch normalisation in D
    (as the authors do for the penalty), Adam instead of RMSprop for the encoder, and a linear encoder output:
    the authors' tanh reaches only [-1, 1] of a Gaussian prior (`enc_out="tanh"`).

    Preset "thesis": objective WGAN with clipping, RMSprop at 5e-5 (G) and 5e-6 (D), kappa 0.4, the norm without
    its square (`squared=False`).
    """

    settings_class = FAnoGANSettings
    settings: FAnoGANSettings
    view_class = FAnoGANView
    published_optimizers = both(Optimizer("adam", 1e-4, (0.0, 0.9)))
    objectives: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("minimax", "nonsaturating", "lsgan", "wgan", "wgan_gp", "hinge", "mim"), NATURAL
    )
    default_objective: ClassVar[Mapping[str, str]] = {"default": "wgan_gp", "thesis": "wgan"}
    default_score: ClassVar[Mapping[str, str]] = {"default": "izi_f", "thesis": "izi_f"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "thesis": {"lr_g": 5e-5, "lr_d": 5e-6, "kappa": 0.4, "squared": False},
    }

    def __init__(
        self,
        shape: PatchShape,
        settings: FAnoGANSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        c, size, nz, width = shape.channels, shape.size, settings.nz, settings.width
        self.generator = networks.generator_dcgan(c, size, nz, width)
        self.discriminator = (
            PixelCritic(c, width, "batch" if objective.batch_norm_in_critic else "layer", bias=objective.sees_offset)
            if settings.critic == "pixels"
            else networks.critic_k5(c, size, width, "layer", **self.critic_head())
        )
        self.encoder = networks.encoder_k5(c, size, nz, width, smallest=2)
        if settings.enc_out == "tanh":
            self.encoder.append(torch.nn.Tanh())
        self.apply(networks.init_xavier)
        if settings.spectral_norm:
            networks.normalise_spectrum(self.discriminator)

    def stages(self) -> tuple[Stage, ...]:
        encoder = Phase(
            "encoder", ("encoder",), self._encoder_loss, Optimizer("adam", self.settings.lr_e, (0.5, 0.999))
        )
        # A generator that is not yet good cannot be mended by its encoder: most of a short budget goes to it.
        return (self.gan_stage(50, share=0.7), Stage("encoder", 100, (encoder,), share=0.3))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(self.encoder(x))

    def own_scores(self) -> dict[str, Score | Mixture]:
        kappa = self.settings.kappa
        return {
            "izi_f": Score(
                "mse(x, x') + kappa mse(f(x), f(x'))",
                lambda v: l2(v.x, v.x_rec) + kappa * mse(v.features, v.features_rec)[:, None, None, None],
            ),
            "img": Score("mse(x, x')", lambda v: mse(v.x, v.x_rec)),
            "z": Score("mse(E(x), E(x'))", lambda v: mse(v.z, v.z_rec)),
        }

    def _encoder_loss(self, batch: Batch) -> dict[str, Tensor]:
        if self.settings.encoder_loss == "ziz":
            z = batch.latent(self.settings.nz)
            return {"total": self._distance(self.encoder(self.generator(z)), z)}
        x_rec = self.reconstruct(batch.x)
        image = self._distance(batch.x, x_rec)
        if self.settings.encoder_loss == "izi":
            return {"total": image}
        feature = self._distance(self.features(batch.x), self.features(x_rec))
        return {"total": image + self.settings.kappa * feature, "image": image, "feature": feature}

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Batch mean of the mean square, or of norm / n where `squared` is off."""
        if self.settings.squared:
            return mse(a, b).mean()
        difference = (a - b).float().flatten(1)
        return (difference.norm(dim=1) / difference.shape[1]).mean()
