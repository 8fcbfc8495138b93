"""Skip-GANomaly (Akçay, Atapour-Abarghouei & Breckon, IJCNN 2019)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inspect_gan.detector import (
    NATURAL,
    NO_BATCH_NORM,
    Batch,
    Detector,
    DetectorSettings,
    PatchShape,
    Phase,
    Score,
    Stage,
    detectors,
)
from inspect_gan.models import networks
from inspect_gan.models.networks import SLOPE, Critic, Norm, down, halvings, norm2d, pyramid, up
from inspect_gan.models.pixel_critic import AnyCritic, PixelCritic
from inspect_gan.objectives import Objective, TrickSettings, with_total
from inspect_gan.objectives.penalties import PenaltySettings, critic_losses
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance, l2, mse, ssim

DROPOUT = 0.3


class SkipGanomalySettings(PenaltySettings, DetectorSettings):
    """w_adv, w_con, w_lat: weights of the generator's adversarial, reconstruction and feature terms. w_ssim: weight of
    1 - SSIM(x, x'). lam: weight of the reconstruction in the scores. nz: size of D's features with networks "k4"; there
    is no other latent code. networks: kernels of 4×4 px (the authors' code) or 5×5 px (the thesis). first: which of the
    two is trained first in an iteration."""

    w_adv: float = Field(1.0, ge=0)
    w_con: float = Field(50.0, ge=0)
    w_lat: float = Field(1.0, ge=0)
    w_ssim: float = Field(0.0, ge=0)
    lam: float = Field(0.9, ge=0, le=1)
    networks: Literal["k4", "k5"] = "k4"
    first: Literal["generator", "discriminator"] = "generator"


@detectors.register("skip_ganomaly")
class SkipGanomaly(Detector):
    """A U-Net G, which reconstructs a patch with skip connections around its bottleneck, and a discriminator D.

    With x' = G(x), f = D's features, generator loss (eqs 1-4):

        w_adv · objective's generator loss on D(x') + w_con · mean|x - x'| + w_lat · mse(f(x), f(x'))   1, 50, 1

    Discriminator loss: the objective's on D(x) and D(x'). Score: lam · mse(x, x') + (1 - lam) · mse(f(x), f(x')),
    lam 0.9 (eq. 5). Order: generator, then discriminator on the same x'.

    Deviations. The 4×4 and 3×3 convolutions on D's way from its 4×4 map to one number are linear layers (same
    weights), the channels of D are capped like those of G, the learning rate does not decay, and scores are not
    min-max scaled over the test set. The authors' code adds the feature distance to the discriminator loss as well,
    which is not in the paper and not done here. The input-noise trick puts noise on x' as D sees it, not on x (as in
    the Polimi thesis). Drawn defects are on the input of the generator's step alone: what D is shown on further
    batches, or first, is made of patches as they are, as in scoring.

    Preset "thesis" (Gözgümüş): 5×5 networks with biases, normalised everywhere and activated before instead of after
    the skip connections branch off, dropout 0.3 before D's last layer, discriminator first, learning rates 5e-5 (G)
    and 5e-6 (D), w_con 40; scores are sums of norms with lam 0.2.
    """

    settings_class = SkipGanomalySettings
    settings: SkipGanomalySettings
    discriminator: AnyCritic
    objectives: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("nonsaturating", "minimax", "lsgan", "mim"), NATURAL),
        **dict.fromkeys(("wgan", "wgan_gp", "hinge"), NO_BATCH_NORM),
    }
    default_objective: ClassVar[Mapping[str, str]] = {"default": "nonsaturating", "thesis": "nonsaturating"}
    default_score: ClassVar[Mapping[str, str]] = {"default": "comb", "thesis": "comb_l1"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "thesis": {
            "lr_g": 5e-5,
            "lr_d": 5e-6,
            "w_con": 40.0,
            "lam": 0.2,
            "networks": "k5",
            "first": "discriminator",
        },
    }

    def __init__(
        self,
        shape: PatchShape,
        settings: SkipGanomalySettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        c, size, width = shape.channels, shape.size, settings.width
        norm: Norm = "batch" if objective.kind == "logit" else "layer"
        k4 = settings.networks == "k4"
        self.generator = unet_k4(c, size, width) if k4 else unet_k5(c, size, width)
        if settings.critic == "pixels":
            self.discriminator = PixelCritic(c, width, norm, bias=objective.sees_offset)
        elif k4:
            self.discriminator = skip_critic_k4(c, size, settings.nz, width, norm, settings.minibatch_std)
        else:
            self.discriminator = skip_critic_k5(c, size, width, norm, **self.critic_head())
        self.apply(networks.init_normal)
        if settings.spectral_norm:
            networks.normalise_spectrum(self.discriminator)

    def stages(self) -> tuple[Stage, ...]:
        settings = self.settings
        generator = Phase("generator", ("generator",), self._generator_loss, self.optimizer("generator"))
        discriminator = self.critic_phase("discriminator", self._discriminator_loss)
        order = (generator, discriminator)
        return (Stage("gan", 50, order if settings.first == "generator" else order[::-1]),)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(x)

    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator.outputs(x)

    def patch_critic(self) -> nn.Module | None:
        return self.discriminator.sequence()

    def own_scores(self) -> dict[str, Score | Mixture]:
        lam = self.settings.lam

        def of_norms(p: int) -> Score:
            return Score(
                f"lam ||x - x'||_{p} + (1 - lam) ||f(x) - f(x')||_2",
                lambda v: lam * distance(v.x, v.x_rec, p) + (1 - lam) * distance(v.features, v.features_rec),
            )

        return {
            "comb": Score(
                "lam mse(x, x') + (1 - lam) mse(f(x), f(x'))",
                lambda v: lam * l2(v.x, v.x_rec) + (1 - lam) * mse(v.features, v.features_rec)[:, None, None, None],
            ),
            "rec": Score("mse(x, x')", lambda v: mse(v.x, v.x_rec)),
            "lat": Score("mse(f(x), f(x'))", lambda v: mse(v.features, v.features_rec)),
            "comb_l1": of_norms(1),
            "comb_l2": of_norms(2),
        }

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        cfg = self.settings
        x_rec = self.generator(self.game.spoilt(batch.x))
        batch.shared["x_rec"] = x_rec.detach()
        out, features = self.discriminator.outputs(self.game.seen(x_rec))
        losses = {
            "adv": cfg.w_adv * self.game.g_loss(out),
            "con": cfg.w_con * (batch.x - x_rec).float().abs().mean(),
            "lat": cfg.w_lat * mse(self.discriminator.features(batch.x), features).mean(),
        }
        if cfg.w_ssim:
            losses["ssim"] = cfg.w_ssim * ssim(batch.x, x_rec).mean()
        return with_total(losses)

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        def fake(n: int) -> list[Tensor]:
            x_rec = batch.shared.get("x_rec")
            return [self.generator(batch.x[:n]) if x_rec is None else x_rec[:n]]

        return critic_losses(self.game, self.discriminator, batch.x, fake, self.settings, noisy=("generated",))


class UNet(nn.Module):
    """Stages that halve the size down to 1×1, then stages that double it; each of the latter but the first also sees
    the output of the former of its size. (B, C, S, S) -> (B, C, S, S)."""

    def __init__(self, downs: list[nn.Module], ups: list[nn.Module]):
        super().__init__()
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for stage in self.downs:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for stage in self.ups:
            x = stage(x)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        return x


def unet_k4(channels: int, size: int, width: int) -> UNet:
    """The authors' U-Net: 4×4 stages without biases, which activate what they receive."""
    widths = pyramid(width, halvings(size, 1))
    last = len(widths) - 1
    downs: list[nn.Module] = []
    ups: list[nn.Module] = []
    for i, c in enumerate(widths):
        above = widths[i - 1] if i else channels
        enter = [nn.LeakyReLU(SLOPE)] if i else []
        norm: Norm = "batch" if 0 < i < last else "none"
        downs.append(nn.Sequential(*enter, down(above, c, 4, bias=False), *norm2d(norm, c)))
        joined = c if i == last else 2 * c
        leave = norm2d("batch", above) if i else [nn.Tanh()]
        ups.insert(0, nn.Sequential(nn.ReLU(), up(joined, above, 4, bias=i == 0), *leave))
    return UNet(downs, ups)


def unet_k5(channels: int, size: int, width: int) -> UNet:
    """The thesis' U-Net: 5×5 stages with biases, which activate what they pass on, the narrowest nothing at all."""
    widths = pyramid(width, halvings(size, 1))
    last = len(widths) - 1
    downs: list[nn.Module] = []
    ups: list[nn.Module] = []
    for i, c in enumerate(widths):
        above = widths[i - 1] if i else channels
        enter = [*norm2d("batch", c), nn.LeakyReLU(SLOPE)] if i < last else []
        downs.append(nn.Sequential(down(above, c, 5), *enter))
        joined = c if i == last else 2 * c
        leave = [*norm2d("batch", above), nn.ReLU()] if i else [nn.Tanh()]
        ups.insert(0, nn.Sequential(up(joined, above, 5), *leave))
    return UNet(downs, ups)


def skip_critic_k4(channels: int, size: int, nz: int, width: int, norm: Norm, minibatch_std: bool) -> Critic:
    """The authors' discriminator, bias-free; features: nz numbers, a linear map of its 4×4 map."""
    widths = pyramid(width, halvings(size, 4))
    body = nn.Sequential(
        networks.conv_pyramid(channels, widths, 4, norm, first_norm=False, bias=False),
        nn.Flatten(),
        nn.Linear(16 * widths[-1], nz, bias=False),
    )
    return Critic(body, nz, bias=False, minibatch_std=minibatch_std)


def skip_critic_k5(channels: int, size: int, width: int, norm: Norm, **head: bool) -> Critic:
    """The thesis' discriminator; features: its 4×4 map, flattened, after dropout."""
    widths = pyramid(width, halvings(size, 4))
    body = nn.Sequential(
        networks.conv_pyramid(channels, widths, 5, norm, first_norm=True), nn.Flatten(), nn.Dropout(DROPOUT)
    )
    return Critic(body, 16 * widths[-1], **head)
