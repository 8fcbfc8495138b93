"""SEncEBGAN, the sequentially encoded EBGAN (Gözgümüş, Polimi thesis, politesi 10589/149395)."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from inspect_gan.detector import (
    NATURAL,
    Batch,
    DetectorSettings,
    PatchShape,
    Phase,
    Score,
    Stage,
    View,
    detectors,
)
from inspect_gan.errors import InspectGanError
from inspect_gan.models import networks
from inspect_gan.models.encebgan import EncEBGAN, EncEBGANSettings, EncEBGANView, scale_matched
from inspect_gan.objectives import Game, Objective, Optimizer, TrickSettings, objectives, with_total
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance

PairObjective = Literal["minimax", "nonsaturating", "lsgan", "hinge", "mim"]
DROPOUT = 0.5
DENOISER_DEPTH = 20
DENOISER_FEATURE_SHARE = 0.25


class SEncEBGANSettings(EncEBGANSettings):
    """w_vis: weight of mean ||e(x) - e(G(z))||_2 in the generator's loss. w1, w2: weights in `comb_img`, `comb_noise`.

    use_dxx, use_dzz: add discriminators of image and of code pairs. pair_objective: the game these play. lr_pair: their
    learning rate. xx_concat: how that of image pairs sees its two patches, as channels or one above the other. third:
    what stage 3 trains, a second "encoder" or a "denoiser" of the reconstruction. lr_denoiser: the latter's learning
    rate.
    """

    feat: Literal["embedding", "decoded"] = "decoded"
    w_vis: float = Field(0.1, ge=0)
    w1: float = Field(0.25, ge=0)
    w2: float = Field(0.45, ge=0, le=1)
    use_dxx: bool = False
    use_dzz: bool = False
    pair_objective: PairObjective = "nonsaturating"
    lr_pair: float = Field(5e-6, gt=0)
    xx_concat: Literal["channel", "height"] = "channel"
    third: Literal["encoder", "denoiser"] = "encoder"
    lr_denoiser: float = Field(1e-4, gt=0)


class SEncEBGANView(EncEBGANView):
    """Adds what the third stage makes of the reconstruction."""

    detector: "SEncEBGAN"

    @cached_property
    def z_rec(self) -> Tensor:
        """E_r(x'), (B, nz)."""
        return self.detector.encoder_r(self.x_rec)

    @cached_property
    def mask(self) -> Tensor:
        """What the denoiser adds to x', (B, C, S, S)."""
        return self.detector.denoiser(self.x_rec)

    @cached_property
    def denoised(self) -> Tensor:
        """x' + mask, (B, C, S, S)."""
        return self.x_rec + self.mask


@detectors.register("sencebgan")
class SEncEBGAN(EncEBGAN):
    """An EBGAN, an encoder into its frozen latent space, and a second encoder that finds the codes again.

    Stage `gan`: as in `encebgan`; the generator's loss has one more term, w_vis · mean ||e(x) - e(G(z))||_2, 0.1.
    Stage `encoder_g`, all else frozen, with x' = G(E_g(x)) and D's decoding a (`feat="embedding"`: its embedding e):

        mean ||x - x'||_2 + w_feat · mean ||a(x) - a(x')||_2 [+ generator loss on D_xx(x, x')]           w_feat 0.4

    Stage `encoder_r`, all else frozen, with z = E_g(x):

        mean ||E_r(x') - z||_2 [+ generator loss on D_zz(z, E_r(x'))]

    With `use_dxx`, `use_dzz` each encoder step is followed by one of D_xx, which tells (x, x) from (x, x'), or D_zz,
    which tells (z, z) from (z, E_r(x')), on the same batch. The constant terms of the encoders' losses are left out.

    Score: `comb_img` = ||x - x'||_2 + w1 · ||z - E_r(x')||_2, w1 0.25; `comb_img_matched` takes the weight at which
    both vary alike on held-out normal patches, `comb_noise_matched` likewise.

    `third="denoiser"` replaces the second encoder by a residual denoiser R, twenty 3×3 convolutions that each add to
    the result and a last one: it learns mean ||y + R(y) - x||_2 on y = x' + N(0, I) and scores x' without noise. There
    is no `comb_img` then; its score is `comb`. The thesis pairs it with feat="embedding".

    Deviations. D_xx sees corresponding pixels of its two patches (`xx_concat="height"`: one above the other, as in the
    thesis); the last layer of D_zz is not spectrally normalised; the tricks act on stage `gan` only. The thesis' code
    exchanges the denoiser's two outputs in training, so that R there learns the image itself.

    Preset "thesis": the same.
    """

    settings_class: ClassVar[type[DetectorSettings]] = SEncEBGANSettings
    settings: SEncEBGANSettings
    view_class: ClassVar[type[View]] = SEncEBGANView
    pair_objectives: ClassVar[Mapping[str, str]] = dict.fromkeys(get_args(PairObjective), NATURAL)
    default_score: ClassVar[Mapping[str, str]] = {"default": "comb_img", "thesis": "comb_img"}

    def __init__(
        self,
        shape: PatchShape,
        settings: SEncEBGANSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        self.pair_game = Game(objectives.get(settings.pair_objective)(), TrickSettings())
        if settings.third == "encoder":
            self.encoder_r = self._make_encoder()
        else:
            self.denoiser = Denoiser(shape.channels, settings.width).apply(networks.init_xavier)
        if settings.use_dxx:
            self.critic_xx = self._initialised(
                networks.critic_xx(shape.channels, shape.size, settings.width, DROPOUT, concat=settings.xx_concat)
            )
        if settings.use_dzz:
            if settings.third == "denoiser":
                raise InspectGanError(
                    "detector.use_dzz compares the codes of the second encoder, which third=denoiser replaces: "
                    "set detector.use_dzz=false"
                )
            self.critic_zz = self._initialised(networks.critic_zz(settings.nz, settings.width, DROPOUT))

    def _initialised(self, critic: networks.Critic) -> networks.Critic:
        critic.apply(networks.init_xavier)
        if self.settings.spectral_norm:
            networks.normalise_spectrum(critic)
        return critic

    def stages(self) -> tuple[Stage, ...]:
        settings = self.settings
        encoder_g = [Phase("encoder_g", ("encoder",), self._encoder_loss, self._encoder_optimizer())]
        if settings.use_dxx:
            encoder_g.append(self._pair_phase("critic_xx", self._critic_xx_loss))
        gan = self._gan_stage(100, share=0.5)
        if settings.third == "denoiser":
            optimizer = Optimizer("adam", settings.lr_denoiser, (0.5, 0.999))
            denoiser = Phase("denoiser", ("denoiser",), self._denoiser_loss, optimizer)
            return gan, Stage("encoder_g", 400, tuple(encoder_g), 0.3), Stage("denoiser", 400, (denoiser,), 0.2)
        encoder_r = [Phase("encoder_r", ("encoder_r",), self._encoder_r_loss, self._encoder_optimizer())]
        if settings.use_dzz:
            encoder_r.append(self._pair_phase("critic_zz", self._critic_zz_loss))
        return gan, Stage("encoder_g", 100, tuple(encoder_g), 0.3), Stage("encoder_r", 400, tuple(encoder_r), 0.2)

    def _pair_phase(self, name: str, loss: Callable[[Batch], dict[str, Tensor]]) -> Phase:
        return Phase(name, (name,), loss, Optimizer("adam", self.settings.lr_pair, (0.5, 0.999)))

    def own_scores(self) -> dict[str, Score | Mixture]:
        settings = self.settings
        img = Score("||x - x'||_2", lambda v: distance(v.x, v.x_rec))
        noise_disc = Score("||z - e(x')||_2", lambda v: distance(v.z, v.features_rec))
        emb = Score("||e(x) - e(x')||_2", lambda v: distance(v.features, v.features_rec))
        scores: dict[str, Score | Mixture] = {
            **self._energy_score(),
            "img": img,
            "img_dec": Score("||a(x) - a(x')||_2", lambda v: distance(v.decoded, v.decoded_rec)),
            "noise_disc": noise_disc,
            "emb": emb,
            "comb_noise": Score(
                "(1 - w2) noise_disc + w2 emb",
                lambda v: (1 - settings.w2) * noise_disc.compute(v) + settings.w2 * emb.compute(v),
            ),
            "comb_noise_matched": scale_matched("noise_disc", noise_disc, "emb", emb),
            **(self._noise_scores(img) if settings.third == "encoder" else self._denoiser_scores()),
        }
        if settings.use_dxx:
            scores["dxx"] = Score(
                "||f_xx(x, x) - f_xx(x, x')||_1", lambda v: pair_distance(self.critic_xx, v.x, v.x_rec)
            )
        if settings.use_dzz:
            scores["dzz"] = Score(
                "||f_zz(z, z) - f_zz(z, E_r(x'))||_1", lambda v: pair_distance(self.critic_zz, v.z, v.z_rec)
            )
        return scores

    def published_score(self) -> str:
        return "comb" if self.settings.third == "denoiser" else super().published_score()

    def check_score(self, name: str) -> None:
        if self.settings.third == "denoiser" and name in ("noise", "comb_img"):
            raise InspectGanError(
                f"score '{name}' needs the second encoder, which third=denoiser replaces: set scoring.score=comb"
            )
        super().check_score(name)

    def _noise_scores(self, img: Score) -> dict[str, Score | Mixture]:
        noise = Score("||z - E_r(x')||_2", lambda v: distance(v.z, v.z_rec))
        w1 = self.settings.w1
        return {
            "noise": noise,
            "comb_img": Score("img + w1 noise", lambda v: img.compute(v) + w1 * noise.compute(v)),
            "comb_img_matched": scale_matched("img", img, "noise", noise),
        }

    def _denoiser_scores(self) -> dict[str, Score | Mixture]:
        share = DENOISER_FEATURE_SHARE
        im1 = Score("||x - x'||_1", lambda v: distance(v.x, v.x_rec, 1))
        im2 = Score("||e(x) - e(x')||_1", lambda v: distance(v.features, v.features_rec, 1))
        return {
            "pipe_1": Score("||x - x' - R(x')||_1", lambda v: distance(v.x, v.denoised, 1)),
            "pipe_2": Score("||x - x' - R(x')||_2", lambda v: distance(v.x, v.denoised)),
            "mask_1": Score("||x - R(x')||_1", lambda v: distance(v.x, v.mask, 1)),
            "mask_2": Score("||x - R(x')||_2", lambda v: distance(v.x, v.mask)),
            "im1": im1,
            "im2": im2,
            "comb": Score(
                f"{1 - share} im1 + {share} im2", lambda v: (1 - share) * im1.compute(v) + share * im2.compute(v)
            ),
        }

    def _generator_terms(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        real_codes = self.discriminator.features(self.game.seen(batch.x))
        visual = self.settings.w_vis * distance(real_codes, codes).mean()
        return {**super()._generator_terms(batch, codes), "visual": visual}

    def _encoder_loss(self, batch: Batch) -> dict[str, Tensor]:
        x_rec = self.reconstruct(batch.x)
        terms = self._encoder_terms(batch.x, x_rec)
        if self.settings.use_dxx:
            batch.shared["x_rec"] = x_rec.detach()
            terms["pair"] = self.pair_game.g_loss(self.critic_xx(batch.x, x_rec))
        return with_total(terms)

    def _critic_xx_loss(self, batch: Batch) -> dict[str, Tensor]:
        return self._pair_loss(self.critic_xx, batch.x, batch.shared["x_rec"])

    def _encoder_r_loss(self, batch: Batch) -> dict[str, Tensor]:
        z = self.encoder(batch.x)
        z_rec = self.encoder_r(self.generator(z))
        terms = {"code": distance(z_rec, z).mean()}
        if self.settings.use_dzz:
            batch.shared.update(z=z, z_rec=z_rec.detach())
            terms["pair"] = self.pair_game.g_loss(self.critic_zz(z, z_rec))
        return with_total(terms)

    def _critic_zz_loss(self, batch: Batch) -> dict[str, Tensor]:
        return self._pair_loss(self.critic_zz, batch.shared["z"], batch.shared["z_rec"])

    def _pair_loss(self, critic: networks.Critic, real: Tensor, rec: Tensor) -> dict[str, Tensor]:
        return {"total": self.pair_game.d_loss(critic(real, real), critic(real, rec))}

    def _denoiser_loss(self, batch: Batch) -> dict[str, Tensor]:
        x_rec = self.reconstruct(batch.x)
        noisy = x_rec + torch.randn_like(x_rec)
        return {"total": distance(noisy + self.denoiser(noisy), batch.x).mean()}


def pair_distance(critic: networks.Critic, a: Tensor, b: Tensor) -> Tensor:
    """||f(a, a) - f(a, b)||_1 of a pair discriminator's features f, (B,)."""
    return distance(critic.features(a, a), critic.features(a, b), 1)


class Denoiser(nn.Module):
    """What to add to a patch (B, C, S, S) to clean it: 3×3 convolutions, each of which also adds to the result."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self._parts = [max(width - 1, 1), channels]
        hidden = self._parts[0]
        inputs = [channels] + [hidden] * (DENOISER_DEPTH - 1)
        self.layers = nn.ModuleList(nn.Conv2d(c_in, sum(self._parts), 3, padding=1) for c_in in inputs)
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        mask = torch.zeros_like(y)
        for layer in self.layers:
            y, part = layer(y).split(self._parts, dim=1)
            y = y.relu()
            mask = mask + part
        return mask + self.last(y)
