"""GANomaly (Akcay, Atapour-Abarghouei & Breckon, ACCV 2018)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from inspect_gan.detector import (
    DRIVES_D,
    NO_BATCH_NORM,
    Batch,
    Detector,
    DetectorSettings,
    EncodedView,
    PatchShape,
    Phase,
    Score,
    Stage,
    detectors,
)
from inspect_gan.models import networks
from inspect_gan.models.pixel_critic import AnyCritic, PixelCritic
from inspect_gan.objectives import Objective, TrickSettings
from inspect_gan.objectives.penalties import PenaltySettings, critic_losses
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import mse, ssim


class GanomalySettings(PenaltySettings, DetectorSettings):
    """w_adv, w_con, w_enc: weights of the generator's adversarial, reconstruction and code terms. w_ssim: weight of 1 -
    SSIM(x, x'). adv_mode: the adversarial term matches features, as published, or is the objective's. reductions: of
    w_con's and w_enc's terms, "mean" (the authors' code) or "norm" (the thesis). networks: kernels of 4×4 (the authors'
    code) or 5×5 px (the thesis); "k4_valid": 4×4, encoders and discriminator without padding, so that the overlapping
    patches of a map share their convolutions. spectral_norm: with networks "k5" on the convolutions of both encoders
    too. first: which of the two is trained first in an iteration. reinit_d: give D fresh weights when its loss falls
    below 1e-5, as the authors' code does.
    """

    w_adv: float = Field(1.0, ge=0)
    w_con: float = Field(50.0, ge=0)
    w_enc: float = Field(1.0, ge=0)
    w_ssim: float = Field(0.0, ge=0)
    adv_mode: Literal["features", "objective"] = "features"
    reductions: Literal["mean", "norm"] = "mean"
    networks: Literal["k4", "k4_valid", "k5"] = "k4"
    first: Literal["generator", "discriminator"] = "generator"
    reinit_d: bool = True


class GanomalyView(EncodedView):
    """Adds the code of the reconstruction."""

    detector: "Ganomaly"

    @cached_property
    def x_rec(self) -> Tensor:
        return self.detector.decoder(self.z)

    @cached_property
    def h_rec(self) -> Tensor:
        """Code of the reconstruction, (B, nz)."""
        return self.detector.encoder_rec(self.x_rec)


@detectors.register("ganomaly")
class Ganomaly(Detector):
    """Autoencoder G = decoder(encoder(x)), a second encoder on the reconstruction, a discriminator D.

    With h = encoder(x), x' = decoder(h), h' = encoder_rec(x'), f = D's features, generator loss (eqs 1-4, with the
    means of the authors' code):

        w_adv · mse(f(x), f(x')) + w_con · mean|x - x'| + w_enc · mse(h, h')          weights 1, 50, 1

    Discriminator loss: half the sum of the objective's real and fake terms. Score: mse(h, h') as in the authors' code;
    the paper prints ||h - h'||_1 (eq. 5), here `enc_l1`. Order: generator, then discriminator on the same x'.

    Deviations. The 4×4 convolutions onto and from the 1×1 code are linear layers (same weights). The authors'
    code adds the feature distance to the discriminator loss as well and min-max scales scores over the test set;
    neither is in the paper and neither is done here. `adv_mode="objective"` replaces the feature term by the
    objective's generator loss on D(x'). The input-noise trick makes the autoencoder a denoiser: it puts noise on its
    input, D sees clean patches (as in the Polimi thesis). Drawn defects are on the input of the generator's step alone:
    what D is shown on further batches, or first, is made of patches as they are, as in scoring.

    Preset "thesis" (Gözgümüş): 5×5 networks with biases, spectral norm in D and both encoders, discriminator first,
    learning rates 5e-5 (G) and 1e-6 (D), adversarial term from the objective, per-sample norms ||x - x'||_1 and
    ||h - h'||_2 instead of means, score `enc_l1`.
    """

    settings_class = GanomalySettings
    settings: GanomalySettings
    discriminator: AnyCritic
    view_class = GanomalyView
    objectives: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("minimax", "nonsaturating", "lsgan", "mim"), DRIVES_D),
        **dict.fromkeys(("wgan", "wgan_gp", "hinge"), f"{DRIVES_D}; {NO_BATCH_NORM}"),
    }
    default_objective: ClassVar[Mapping[str, str]] = {"default": "nonsaturating", "thesis": "nonsaturating"}
    default_score: ClassVar[Mapping[str, str]] = {"default": "enc_mse", "thesis": "enc_l1"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "thesis": {
            "lr_g": 5e-5,
            "lr_d": 1e-6,
            "adv_mode": "objective",
            "reductions": "norm",
            "networks": "k5",
            "first": "discriminator",
            "reinit_d": False,
            "spectral_norm": True,
        },
    }

    def __init__(
        self,
        shape: PatchShape,
        settings: GanomalySettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        c, size, nz, width = shape.channels, shape.size, settings.nz, settings.width
        norm: networks.Norm = "batch" if objective.kind == "logit" else "layer"
        padded = settings.networks != "k4_valid"
        if settings.networks == "k5":
            self.encoder = networks.encoder_k5(c, size, nz, width, first_norm=False)
            self.decoder = networks.decoder_k5(c, size, nz, width)
            self.encoder_rec = networks.encoder_k5(c, size, nz, width, first_norm=False)
        else:
            self.encoder = networks.encoder_k4(c, size, nz, width, padded=padded)
            self.decoder = networks.decoder_k4(c, size, nz, width)
            self.encoder_rec = networks.encoder_k4(c, size, nz, width, padded=padded)
        if settings.critic == "pixels":
            self.discriminator = PixelCritic(c, width, norm, bias=objective.sees_offset)
        elif settings.networks == "k5":
            self.discriminator = networks.critic_k5(c, size, width, norm, **self.critic_head())
        else:
            minibatch_std = settings.minibatch_std
            self.discriminator = networks.critic_k4(c, size, width, norm, minibatch_std=minibatch_std, padded=padded)
        self.plays_on_output = settings.adv_mode == "objective"
        self.apply(networks.init_normal)
        if settings.spectral_norm:
            encoders = (self.encoder[0], self.encoder_rec[0]) if settings.networks == "k5" else ()
            for network in (self.discriminator, *encoders):
                networks.normalise_spectrum(network)

    def stages(self) -> tuple[Stage, ...]:
        settings = self.settings
        generator = Phase(
            "generator",
            ("encoder", "decoder", "encoder_rec"),
            self._generator_loss,
            self.optimizer("generator"),
        )
        discriminator = Phase(
            "discriminator",
            ("discriminator",),
            self._discriminator_loss,
            self.optimizer("discriminator"),
            repeats=self.critic_steps(),
            after_step=self._after_discriminator,
        )
        order = (generator, discriminator)
        return (Stage("gan", 50, order if settings.first == "generator" else order[::-1]),)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator.outputs(x)

    def patch_critic(self) -> nn.Module | None:
        return self.discriminator.sequence()

    def own_scores(self) -> dict[str, Score | Mixture]:
        return {
            "enc_mse": Score("mse(h, h')", lambda v: mse(v.z, v.h_rec)),
            "enc_l1": Score("||h - h'||_1", lambda v: (v.z.float() - v.h_rec.float()).abs().sum(1)),
            "enc_l2": Score("||h - h'||_2", lambda v: (v.z.float() - v.h_rec.float()).norm(dim=1)),
            "rec_l1": Score("||x - x'||_1", lambda v: (v.x - v.x_rec).abs().flatten(1).sum(1)),
        }

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        cfg = self.settings
        h = self.encoder(self.game.spoilt(self.game.seen(batch.x)))
        x_rec = self.decoder(h)
        h_rec = self.encoder_rec(x_rec)
        batch.shared["x_rec"] = x_rec.detach()
        if cfg.adv_mode == "objective":
            adv = self.game.g_loss(self.discriminator(x_rec))
        else:
            adv = mse(self.discriminator.features(batch.x), self.discriminator.features(x_rec)).mean()
        difference, code_difference = (batch.x - x_rec).float(), (h - h_rec).float()
        if cfg.reductions == "mean":
            con, enc = difference.abs().mean(), code_difference.square().mean()
        else:
            con, enc = difference.abs().flatten(1).sum(1).mean(), code_difference.norm(dim=1).mean()
        total = cfg.w_adv * adv + cfg.w_con * con + cfg.w_enc * enc
        losses = {"adv": adv, "con": con, "enc": enc}
        if cfg.w_ssim:
            losses["ssim"] = ssim(batch.x, x_rec).mean()
            total = total + cfg.w_ssim * losses["ssim"]
        return {"total": total, **losses}

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        def fake(n: int) -> list[Tensor]:
            x_rec = batch.shared.get("x_rec")
            return [self.reconstruct(self.game.seen(batch.x[:n])) if x_rec is None else x_rec[:n]]

        return critic_losses(self.game, self.discriminator, batch.x, fake, self.settings, weight=0.5, noisy=())

    def _after_discriminator(self, losses: Mapping[str, Tensor]) -> None:
        self.game.after_critic_step(self.discriminator)
        # A discriminator that has won gives no gradient: the authors' code starts it afresh. Only a loss
        # bounded below by zero tells so; a critic's loss may be any number.
        if self.settings.reinit_d and self.objective.kind == "logit" and losses["adversarial"] < 1e-5:
            self.discriminator.apply(networks.init_normal)
