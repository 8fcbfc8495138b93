"""The plain GAN that AnoGAN and f-AnoGAN search for a patch in."""

from pydantic import Field
from torch import Tensor, nn

from inspect_gan.detector import Batch, DetectorSettings, Phase, PriorDetector, Stage
from inspect_gan.models.pixel_critic import AnyCritic
from inspect_gan.objectives import with_total
from inspect_gan.objectives.penalties import PenaltySettings, critic_losses
from inspect_gan.scoring.residuals import distance


class LatentGANSettings(PenaltySettings, DetectorSettings):
    """w_fm: weight of feature matching, mean ||f(x) - f(G(z))||_2, in the generator's loss."""

    w_fm: float = Field(0.0, ge=0)


class LatentGAN(PriorDetector):
    """A generator of N(0, I) codes and a discriminator of patches, trained in a stage `gan`.

    Per iteration: discriminator steps on x and G(z), each on a fresh batch, then one generator step with a fresh z.
    Subclasses create `generator` and `discriminator`.
    """

    settings: LatentGANSettings
    generator: nn.Module
    discriminator: AnyCritic

    def gan_stage(self, epochs: int, share: float = 1.0) -> Stage:
        discriminator = self.critic_phase("discriminator", self._discriminator_loss)
        generator = Phase("generator", ("generator",), self._generator_loss, self.optimizer("generator"))
        return Stage("gan", epochs, (discriminator, generator), share)

    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator.outputs(x)

    def patch_critic(self) -> nn.Module | None:
        return self.discriminator.sequence()

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        z = batch.latent(self.settings.nz)
        return critic_losses(
            self.game,
            self.discriminator,
            batch.x,
            lambda n: [self.generator(z[:n])],
            self.settings,
        )

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        fake = self.game.seen(self.generator(batch.latent(self.settings.nz)))
        out, features = self.discriminator.outputs(fake)
        terms = {"adversarial": self.game.g_loss(out)}
        if self.settings.w_fm:
            real = self.features(self.game.seen(batch.x))
            terms["feature_matching"] = self.settings.w_fm * distance(real, features).mean()
        return with_total(terms)
