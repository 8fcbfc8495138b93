"""EBGAN as an anomaly detector (Zhao, Mathieu & LeCun, ICLR 2017; Gözgümüş, Polimi thesis, politesi 10589/149395)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from inspect_gan.detector import (
    ADAPTED,
    NATURAL,
    NO_BATCH_NORM,
    Batch,
    DetectorSettings,
    PatchShape,
    Phase,
    PriorDetector,
    Score,
    Stage,
    View,
    detectors,
)
from inspect_gan.errors import InspectGanError
from inspect_gan.models import networks
from inspect_gan.objectives import Objective, Optimizer, Role, TrickSettings, with_total
from inspect_gan.objectives.energy import EnergyAdapter, EnergyMargin
from inspect_gan.objectives.penalties import pulling_away
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance, ssim

MARGIN_RMS, MARGIN_SSIM = 0.625, 0.5


class EBGANSettings(DetectorSettings):
    """energy: "norm" ||a(x) - x||_2, "mse", their mean square, or "ssim", the mean of 1 - SSIM(x, a(x)). w_pt: weight
    of the pulling-away term. pt_squared: it takes squared cosines. g_steps: generator steps per discriminator step;
    None: 3, but 1 where critic_steps or the objective ask for several discriminator steps. spectral_norm: on D's
    encoder. first: which of the two is trained first in an iteration."""

    spectral_norm: bool = True
    energy: networks.EnergyName = "norm"
    w_pt: float = Field(0.25, ge=0)
    pt_squared: bool = True
    g_steps: int | None = Field(None, ge=1)
    first: Literal["generator", "discriminator"] = "generator"


class EBGANView(View):
    """Adds what D's autoencoder and the generator make of the patch."""

    detector: "EBGAN"

    @cached_property
    def features(self) -> Tensor:
        """e(x), (B, nz)."""
        return self.detector.features(self.x)

    @cached_property
    def energy(self) -> Tensor:
        """En(x), (B,)."""
        return self.detector.discriminator.energy(self.x, self.decoded)

    @cached_property
    def discriminated(self) -> tuple[Tensor, Tensor]:
        return self.detector.discriminator.judge(self.energy), self.features

    @cached_property
    def decoded(self) -> Tensor:
        """a(x), (B, C, S, S)."""
        return self.detector.discriminator.decoder(self.features)

    @cached_property
    def x_rec(self) -> Tensor:
        return self.decoded

    @cached_property
    def x_gen(self) -> Tensor:
        """G(e(x)), (B, C, S, S)."""
        return self.detector.generator(self.features)

    @cached_property
    def features_gen(self) -> Tensor:
        """e(G(e(x))), (B, nz)."""
        return self.detector.features(self.x_gen)

    @cached_property
    def decoded_gen(self) -> Tensor:
        """a(G(e(x))), (B, C, S, S)."""
        return self.detector.discriminator.decoder(self.features_gen)


@detectors.register("ebgan")
class EBGAN(PriorDetector):
    """A GAN whose discriminator is an autoencoder; what it reproduces badly is anomalous.

    D has the embedding e(x), the decoding a(x) and the energy En(x) = ||a(x) - x||_2. With z ~ N(0, I) and m the
    margin of the objective,

        D   mean En(x) + mean max(0, m - En(G(z)))                                   (eq. 1)
        G   mean En(G(z)) + w_pt · pulling_away(e(G(z)))         w_pt 0.25           (eq. 2, section 2.4)

    Order: three generator steps, each with new z, then one discriminator step. Margin, unless `objective.margin` gives
    it: an RMS error of 0.625 times the contrast c of the training patches (the running RMS of their standard
    deviations), m = 0.625 c √(C S²), 0.39 c² with energy "mse", 0.5 with "ssim". `hinge_active` logs the share of
    generated patches below it.

    Score: the energy. Reconstruction: a(x). The thesis feeds D's embedding to G, x' = G(e(x)), and scores `im1`,
    `im2`, `z1`, `z2`, although G was trained on N(0, I) and never on e(x).

    Any other objective plays on u = (b - En) / s with running mean b and deviation s of the energies: experimental.

    Deviations. The published w_pt is 0.1, the thesis' 0.25. The thesis applies the hinge to the mean of the batch
    (`objective.hinge_on=batch`) and does not square the cosines (`pt_squared=false`), which rewards opposite codes. Its
    margin of 20 is the one above for its standardised grey patches of 32 pixels, where c is 1; on patches of less
    contrast it exceeds every real energy and D learns to reproduce nothing.

    Preset "thesis": the same, score `im1`.
    """

    settings_class: ClassVar[type[DetectorSettings]] = EBGANSettings
    settings: EBGANSettings
    view_class: ClassVar[type[View]] = EBGANView
    published_optimizers: ClassVar[Mapping[Role, Optimizer]] = {
        "generator": Optimizer("adam", 1e-5),
        "discriminator": Optimizer("adam", 5e-6),
    }
    objectives: ClassVar[Mapping[str, str]] = {
        "ebgan": NATURAL,
        **dict.fromkeys(("minimax", "nonsaturating", "lsgan", "hinge", "mim"), ADAPTED),
        **dict.fromkeys(("wgan", "wgan_gp"), f"{ADAPTED}; {NO_BATCH_NORM}"),
    }
    default_objective: ClassVar[Mapping[str, str]] = {"default": "ebgan", "thesis": "ebgan"}
    default_score: ClassVar[Mapping[str, str]] = {"default": "energy", "thesis": "im1"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}, "thesis": {}}

    def __init__(
        self,
        shape: PatchShape,
        settings: EBGANSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        self._refuse_what_energies_lack()
        c, size, nz, width = shape.channels, shape.size, settings.nz, settings.width
        self.generator = networks.generator_k5(c, size, nz, width)
        self.discriminator = networks.EnergyCritic(
            c,
            size,
            nz,
            width,
            "batch" if objective.batch_norm_in_critic else "layer",
            energy=settings.energy,
            adapter=None if objective.kind == "energy" else EnergyAdapter(),
        )
        self.apply(networks.init_xavier)
        if settings.spectral_norm:
            networks.normalise_spectrum(self.discriminator.encoder)

    def _refuse_what_energies_lack(self) -> None:
        if self.game.tricks.flip_labels:
            raise InspectGanError(
                f"{self.name} cannot exchange the roles of real and generated patches, its discriminator would learn "
                f"to reproduce the generated ones: set tricks.flip_labels=false"
            )
        if self.settings.minibatch_std:
            raise InspectGanError(
                f"{self.name} has no last layer that could see the spread of a batch, the pulling-away term takes its "
                f"place: set detector.minibatch_std=false"
            )

    def stages(self) -> tuple[Stage, ...]:
        return (self._gan_stage(100),)

    def _gan_stage(self, epochs: int, share: float = 1.0) -> Stage:
        generator = Phase(
            "generator",
            ("generator",),
            self._generator_loss,
            self.optimizer("generator"),
            repeats=self._generator_steps(),
        )
        discriminator = self.critic_phase("discriminator", self._discriminator_loss)
        order = (generator, discriminator)
        return Stage("gan", epochs, order if self.settings.first == "generator" else order[::-1], share)

    def _generator_steps(self) -> int:
        if self.settings.g_steps is not None:
            return self.settings.g_steps
        return 3 if self.critic_steps() == 1 else 1

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.discriminator.reproduce(x)

    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features: the embedding e(x), (B, nz)."""
        energy, codes = self.discriminator.energies(x)
        return self.discriminator.judge(energy), codes

    def features(self, x: Tensor) -> Tensor:
        return self.discriminator.features(x)

    def own_scores(self) -> dict[str, Score | Mixture]:
        return {
            **self._energy_score(),
            "im1": Score("||x - x'||_2, x' = G(e(x))", lambda v: distance(v.x, v.x_gen)),
            "im2": Score("||x - a(x')||_2", lambda v: distance(v.x, v.decoded_gen)),
            "z1": Score("||e(x) - e(x')||_1", lambda v: distance(v.features, v.features_gen, 1)),
            "z2": Score("||e(x) - e(x')||_2", lambda v: distance(v.features, v.features_gen)),
        }

    def _energy_score(self) -> dict[str, Score]:
        text = "En(x), D's reproduction error"
        if self.settings.energy == "ssim":
            return {"energy": Score(text, lambda v: ssim(v.x, v.decoded))}
        return {"energy": Score(text, lambda v: v.energy)}

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        fake = self.game.seen(self.generator(batch.latent(self.settings.nz)))
        energy, codes = self.discriminator.energies(fake)
        adversarial = self.game.g_loss(self.discriminator.judge(energy))
        return with_total({"adversarial": adversarial, **self._generator_terms(batch, codes)})

    def _generator_terms(self, batch: Batch, codes: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the generator beside the adversarial one. codes: e(G(z)), (B, nz)."""
        settings = self.settings
        return {"pulling_away": settings.w_pt * pulling_away(codes, squared=settings.pt_squared)}

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        real = self.game.seen(batch.x)
        fake = self.game.seen(self.generator(batch.latent(self.settings.nz)))
        reproduction = self.discriminator.reproduce(self.game.spoilt(real))
        real_energy, fake_energy = self.discriminator.energy(real, reproduction), self.discriminator.energies(fake)[0]
        if self.discriminator.adapter is not None:
            self.discriminator.adapter.observe(real_energy, fake_energy)
        self._fit_margin(batch.x)
        judge = self.discriminator.judge
        adversarial = self.game.d_loss(judge(real_energy), judge(fake_energy))
        terms = self.game.regulariser(self.discriminator, [real], [fake])
        losses = with_total({"adversarial": adversarial, **terms})
        if isinstance(self.objective, EnergyMargin):
            losses["hinge_active"] = (fake_energy < self.objective.margin).float().mean()
        return losses

    def _fit_margin(self, x: Tensor) -> None:
        """Set the objective's margin from the contrast of the patches seen so far."""
        if not isinstance(self.objective, EnergyMargin) or self.objective.settings.margin is not None:
            return
        self.discriminator.contrast.observe(x.float().flatten(1).var(dim=1, correction=0).mean().sqrt())
        if self.settings.energy == "ssim":
            self.objective.margin = MARGIN_SSIM
            return
        rms = MARGIN_RMS * self.discriminator.contrast.value
        self.objective.margin = rms * x[0].numel() ** 0.5 if self.settings.energy == "norm" else rms.square()
