"""EncEBGAN, the encoded EBGAN (Gözgümüş, Polimi thesis, politesi 10589/149395)."""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from inspect_gan.detector import (
    Batch,
    DetectorSettings,
    EncodedView,
    PatchShape,
    Phase,
    Score,
    Stage,
    View,
    detectors,
)
from inspect_gan.models import networks
from inspect_gan.models.ebgan import EBGAN, EBGANSettings, EBGANView
from inspect_gan.objectives import Objective, Optimizer, TrickSettings, with_total
from inspect_gan.scoring.fusion import Mixture
from inspect_gan.scoring.residuals import distance


class EncEBGANSettings(EBGANSettings):
    """lr_e: learning rate of the encoder. w_feat: weight of the feature term in its loss. feat: what that compares, D's
    "embedding" e or what D "decoded", a. w: weight of the second part in the combined scores."""

    first: Literal["generator", "discriminator"] = "discriminator"
    lr_e: float = Field(5e-5, gt=0)
    w_feat: float = Field(0.4, ge=0)
    feat: Literal["embedding", "decoded"] = "embedding"
    w: float = Field(0.45, ge=0, le=1)


class EncEBGANView(EncodedView, EBGANView):
    """Adds the latent code of the patch; the reconstruction is the generator's."""

    detector: "EncEBGAN"

    @cached_property
    def decoded_rec(self) -> Tensor:
        """a(x'), (B, C, S, S)."""
        return self.detector.discriminator.decoder(self.features_rec)


@detectors.register("encebgan")
class EncEBGAN(EBGAN):
    """An EBGAN first, then an encoder into its frozen latent space.

    Stage `gan`: as in `ebgan`, but one discriminator step before the three generator steps, the first of which runs on
    the discriminator's batch.
    Stage `encoder`: G and D frozen, with x' = G(E(x)) and D's embedding e the encoder E minimises

        mean ||x - x'||_2 + w_feat · mean ||e(x) - e(x')||_2            w_feat 0.4

    Score: ||x - x'||_2 (`im1`); combinations of it with what D decodes and of the distances of codes, w 0.45. The
    encoder trains against the averaged weights of G and D, the ones that score.

    Preset "thesis": the same.
    """

    settings_class: ClassVar[type[DetectorSettings]] = EncEBGANSettings
    settings: EncEBGANSettings
    view_class: ClassVar[type[View]] = EncEBGANView
    default_score: ClassVar[Mapping[str, str]] = {"default": "im1", "thesis": "im1"}

    def __init__(
        self,
        shape: PatchShape,
        settings: EncEBGANSettings,
        objective: Objective,
        tricks: TrickSettings | None = None,
    ):
        super().__init__(shape, settings, objective, tricks)
        self.encoder = self._make_encoder()

    def _make_encoder(self) -> nn.Sequential:
        shape, settings = self.shape, self.settings
        return networks.encoder_k5(shape.channels, shape.size, settings.nz, settings.width).apply(networks.init_xavier)

    def stages(self) -> tuple[Stage, ...]:
        encoder = Phase("encoder", ("encoder",), self._encoder_loss, self._encoder_optimizer())
        # A generator that is not yet good cannot be mended by its encoder: most of a short budget goes to it.
        return (self._gan_stage(100, share=0.7), Stage("encoder", 300, (encoder,), share=0.3))

    def _encoder_optimizer(self) -> Optimizer:
        return Optimizer("adam", self.settings.lr_e, (0.5, 0.999))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.generator(self.encoder(x))

    def own_scores(self) -> dict[str, Score | Mixture]:
        w = self.settings.w
        image = Score("||x - x'||_2", lambda v: distance(v.x, v.x_rec))
        decoded = Score("||a(x) - a(x')||_2", lambda v: distance(v.decoded, v.decoded_rec))
        code = Score("||E(x) - e(x')||_2", lambda v: distance(v.z, v.features_rec))
        embedding = Score("||e(x) - e(x')||_2", lambda v: distance(v.features, v.features_rec))
        return {
            **self._energy_score(),
            "im1": image,
            "im2": decoded,
            "z1": code,
            "z2": embedding,
            "comb": Score("(1 - w) im1 + w im2", lambda v: (1 - w) * image.compute(v) + w * decoded.compute(v)),
            "comb_2": Score("(1 - w) z1 + w z2", lambda v: (1 - w) * code.compute(v) + w * embedding.compute(v)),
            "comb_matched": scale_matched("im1", image, "im2", decoded),
            "comb_2_matched": scale_matched("z1", code, "z2", embedding),
        }

    def _encoder_loss(self, batch: Batch) -> dict[str, Tensor]:
        return with_total(self._encoder_terms(batch.x, self.reconstruct(batch.x)))

    def _encoder_terms(self, x: Tensor, x_rec: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the encoder that leads from x to its reconstruction."""
        compared = self.discriminator.features if self.settings.feat == "embedding" else self.discriminator.reproduce
        feature = distance(compared(x), compared(x_rec)).mean()
        return {"image": distance(x, x_rec).mean(), "feature": self.settings.w_feat * feature}


def scale_matched(name_a: str, a: Score, name_b: str, b: Score) -> Mixture:
    """The sum of two scores at the weight at which they vary alike on normal patches, chosen without anomalies."""
    return Mixture(
        f"{name_a} + {name_b} scaled to vary alike on held-out normal patches", ((1, a.compute), (1, b.compute))
    )
