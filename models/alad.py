"""ALAD (Zenati, Romain, Foo, Lecouat & Chandrasekhar, "Adversarially Learned Anomaly Detection", ICDM 2018)."""

from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from inspect_gan.detector import (
    NATURAL,
    NO_BATCH_NORM,
    ONE_COEFFICIENT,
    PAIR_ONLY,
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
from inspect_gan.objectives import Game, Objective, TrickSettings, objectives, with_total
from inspect_gan.objectives.penalties import PairPenaltySettings, critic_losses, penalise_encoder
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance


class ALADSettings(PairPenaltySettings, DetectorSettings):
    """spectral_norm: on E, D_xz, D_xx and D_zz, all layers but the last of each. minibatch_std: in D_xz.
    critic_steps: those of D_xz, and of the other two where `objective_all` is set. dropout: in the discriminators.
    allow_zz: train with D_zz. xx_concat: how D_xx sees its two patches, as channels or one above the other.
    objective_all: D_xx and D_zz play the objective's game too, else the non-saturating one."""

    spectral_norm: bool = True
    dropout: float = Field(0.2, ge=0, lt=1)
    allow_zz: bool = True
    xx_concat: Literal["channel", "height"] = "channel"
    objective_all: bool = False


class ALADView(EncodedView):
    """Adds the code and what the discriminators say of (x, E(x)), (x, x) and (x, x')."""

    detector: "ALAD"

    @cached_property
    def discriminated(self) -> tuple[Tensor, Tensor]:
        """D_xz(x, E(x)) (B,) raw, and f_xz(x, E(x)) (B, n_d)."""
        return self.detector.discriminator_xz.outputs(self.x, self.z)

    @cached_property
    def features_rec(self) -> Tensor:
        """f_xz(x', E(x)), (B, n_d)."""
        return self.detector.discriminator_xz.features(self.x_rec, self.z)

    @cached_property
    def cycle_features(self) -> Tensor:
        """f_xx(x, x), (B, n_d)."""
        return self.detector.discriminator_xx.features(self.x, self.x)

    @cached_property
    def cycle_rec(self) -> tuple[Tensor, Tensor]:
        """D_xx(x, x') (B,) raw, and f_xx(x, x') (B, n_d)."""
        return self.detector.discriminator_xx.outputs(self.x, self.x_rec)


@detectors.register("alad")
class ALAD(PriorDetector):
    """A bidirectional GAN whose cycles x -> z -> x' and z -> x -> z' are judged by discriminators of their own.

    With x' = G(E(x)), z' = E(G(z)), z ~ N(0, I), the discriminators tell apart

        D_xz   (x, E(x)) from (G(z), z)    with the objective
        D_xx   (x, x) from (x, x')         with cross-entropy
        D_zz   (z, z) from (z, z')         with cross-entropy

    and G and E minimise together g_loss(D_xz(G(z), z)) + e_loss(D_xz(x, E(x))) + sp(-D_xx(x, x')) + sp(-D_zz(z, z'))
    (sp: softplus; the paper's saddle-point objective in its non-saturating form). Order per batch: D_xz, D_xx, D_zz
    with one z, then G and E in one step with a fresh z. Scores: ||f_xx(x, x) - f_xx(x, x')||_1 with the features f_xx
    of D_xx (default), ||x - x'||_1, ||x - x'||_2, `logits` sp(-D_xx(x, x')) (of a critic -D_xx(x, x')).

    Deviations. The cycle terms of (x, x) and (z, z) in the loss of G and E, which are constant there, are left out.
    The two patches enter D_xx as channels instead of one above the other, where no kernel sees corresponding pixels
    (`xx_concat="height"`). 1×1 convolutions on codes are linear layers. No early stopping. Objectives that forbid
    batch normalisation get layer normalisation in D_xz. Input noise acts on the real x in every pair and on G(z) in
    D_xz, soft and exchanged labels act on D_xz, swapped roles on all three. `penalty` switches on the penalty
    distribution of RCGAN. `res_feature` compares the features of D_xz for (x, E(x)) and (x', E(x)).

    Preset "thesis" (Gözgümüş, politesi 10589/149395): learning rates 5e-5 (G, E) and 1e-6 (discriminators), dropout
    0.25. Its code gives D_xz 1024 outputs instead of one; that is not reproduced.
    """

    settings_class = ALADSettings
    settings: ALADSettings
    discriminator_xz: AnyCritic
    view_class = ALADView
    objectives: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("minimax", "nonsaturating"), NATURAL),
        **dict.fromkeys(("lsgan", "mim"), PAIR_ONLY),
        "wgan": f"{UNCALIBRATED}; {NO_BATCH_NORM}; {PAIR_ONLY}",
        "wgan_gp": f"{UNCALIBRATED}; {NO_BATCH_NORM}; {ONE_COEFFICIENT}; {PAIR_ONLY}",
        "hinge": f"{UNCALIBRATED}; {PAIR_ONLY}",
    }
    default_objective: ClassVar[Mapping[str, str]] = {"default": "nonsaturating", "thesis": "nonsaturating"}
    default_score: ClassVar[Mapping[str, str]] = {"default": "features", "thesis": "features"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "thesis": {"lr_g": 5e-5, "lr_d": 1e-6, "dropout": 0.25},
    }

    def __init__(
        self,
        shape: PatchShape,
        settings: ALADSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        c, size, nz, width = shape.channels, shape.size, settings.nz, settings.width
        norm: networks.Norm = "batch" if objective.batch_norm_in_critic else "layer"
        self.generator = networks.generator_dcgan(c, size, nz, width)
        self.encoder = encoder(c, size, nz, width)
        self.discriminator_xz = (
            PixelCritic(c, width, norm, nz, bias=objective.sees_offset)
            if settings.critic == "pixels"
            else critic_xz(c, size, nz, width, norm, settings.dropout, **self.critic_head())
        )
        self.discriminator_xx = networks.critic_xx(c, size, width, settings.dropout, concat=settings.xx_concat)
        self.discriminator_zz = networks.critic_zz(nz, width, settings.dropout) if settings.allow_zz else None
        self.apply(networks.init_normal)
        if settings.spectral_norm:
            for name, network in self.named_children():
                if name != "generator":
                    networks.normalise_spectrum(network)
        # Whether two things are equal has a certain answer: labels of D_xx and D_zz are never softened or exchanged.
        self.cycle = Game(
            objective if settings.objective_all else objectives.get("nonsaturating")(),
            TrickSettings(flip_labels=self.game.tricks.flip_labels),
        )

    def stages(self) -> tuple[Stage, ...]:
        steps = self.critic_steps()
        cycle_steps = steps if self.settings.objective_all else 1
        phases = [
            self.critic_phase("discriminator_xz", self._xz_loss, self.game, steps),
            self.critic_phase("discriminator_xx", self._xx_loss, self.cycle, cycle_steps),
        ]
        if self.discriminator_zz is not None:
            phases.append(self.critic_phase("discriminator_zz", self._zz_loss, self.cycle, cycle_steps))
        both = Phase(
            "generator_encoder",
            ("generator", "encoder"),
            self._generator_encoder_loss,
            self.optimizer("generator"),
        )
        return (Stage("gan", 50, (*phases, both)),)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(self.encoder(x))

    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator_xz.outputs(x, self.encoder(x))

    def own_scores(self) -> dict[str, Score | Mixture]:
        return {
            "features": Score(
                "||f_xx(x, x) - f_xx(x, x')||_1", lambda v: distance(v.cycle_features, v.cycle_rec[1], 1)
            ),
            "l1": Score("||x - x'||_1", lambda v: distance(v.x, v.x_rec, 1)),
            "l2": Score("||x - x'||_2", lambda v: distance(v.x, v.x_rec)),
            "logits": Score(
                "-log sigmoid(D_xx(x, x')), of a critic -D_xx(x, x')", lambda v: self.cycle.doubt(v.cycle_rec[0])
            ),
        }

    def _xz_loss(self, batch: Batch) -> dict[str, Tensor]:
        def fake(n: int) -> list[Tensor]:
            z = self._z(batch)
            return [self._x_fake(batch) if n == len(z) else self.generator(z[:n]), z[:n]]

        code = partial(self._z_enc, batch)
        return critic_losses(self.game, self.discriminator_xz, batch.x, fake, self.settings, self.encoder, code)

    def _xx_loss(self, batch: Batch) -> dict[str, Tensor]:
        x_rec, seen = self.generator(self._z_enc(batch)), self.game.seen(batch.x)
        return with_total(self.cycle.critic_terms(self.discriminator_xx, [seen, seen], [seen, x_rec]))

    def _zz_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert self.discriminator_zz is not None
        z, z_rec = self._z(batch), self.encoder(self._x_fake(batch))
        return with_total(self.cycle.critic_terms(self.discriminator_zz, [z, z], [z, z_rec]))

    def _z(self, batch: Batch) -> Tensor:
        """z for the discriminators, as G(z) and E(x) drawn or made once for all three."""
        return batch.once("z", lambda: batch.latent(self.settings.nz))

    def _x_fake(self, batch: Batch) -> Tensor:
        return batch.once("x_fake", lambda: self.generator(self._z(batch)))

    def _z_enc(self, batch: Batch) -> Tensor:
        return batch.once("z_enc", lambda: self.encoder(batch.x))

    def _generator_encoder_loss(self, batch: Batch) -> dict[str, Tensor]:
        z, seen = batch.latent(self.settings.nz), self.game.seen(batch.x)
        x_fake = self.generator(z)
        terms = {"generator": self.game.g_loss(self.discriminator_xz(self.game.seen(x_fake), z))}
        if self.discriminator_zz is not None:
            terms["cycle_z"] = self.cycle.g_loss(self.discriminator_zz(z, self.encoder(x_fake)))
        z_enc = self.encoder(batch.x)
        terms["encoder"] = self.game.e_loss(self.discriminator_xz(seen, z_enc))
        terms["cycle_x"] = self.cycle.g_loss(self.discriminator_xx(seen, self.generator(z_enc)))
        return penalise_encoder(
            with_total(terms), self.game, self.discriminator_xz, self.encoder, batch.x, self.settings
        )


def encoder(channels: int, size: int, nz: int, width: int) -> nn.Sequential:
    """x (B, C, S, S) -> (B, nz): 4×4 stride-2 convolutions with batch normalisation down to 2×2, then `head`.

    Of the 16 taps of `head`, the four inner ones see the 2×2 map, the others its padding.
    """
    widths = [min(max(width // 2, 1) * 2**i, 8 * width) for i in range(networks.halvings(size, 2))]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        body=networks.conv_pyramid(channels, widths, 4, "batch", first_norm=True),
        head=networks.down(widths[-1], nz, 4),
        code=nn.Flatten(),
    )
    return nn.Sequential(layers)


def critic_xz(
    channels: int, size: int, nz: int, width: int, norm: networks.Norm, dropout: float, **head: bool
) -> networks.Critic:
    """D_xz: convolutions on x down to 4×4, two layers on z, one on both; features: its output after dropout."""
    widths = [min(2 * width * 2**i, 8 * width) for i in range(networks.halvings(size, 4))]
    x_net = nn.Sequential(networks.conv_pyramid(channels, widths, 4, norm, first_norm=False), nn.Flatten())
    of_z, joint = 8 * width, 16 * width
    z_net = networks.perceptron([nz, of_z, of_z], dropout)
    both = networks.perceptron([16 * widths[-1] + of_z, joint], dropout)
    return networks.Critic(networks.PairBody(x_net, z_net, both), joint, **head)
