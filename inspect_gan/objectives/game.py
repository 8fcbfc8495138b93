"""The adversarial game: an objective with the training tricks that act on its targets and on what D sees.

An objective knows nothing of softened labels or swapped roles; `Game` stands between it and the detector.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inspect_gan.errors import InspectGanError
from inspect_gan.objectives.base import Critic, Objective
from inspect_gan.patches.drawn import draw_defects
from inspect_gan.settings import Settings


class TrickSettings(Settings):
    """Tricks on labels and inputs, all off by default.

    input_noise: standard deviation, in epoch 0, of the noise added to what D sees (thesis: 0.75). noise_epochs: over
    which it falls linearly to zero. noise_floor: below which it does not fall.
    soft_labels: D's targets are drawn from [1 - soft_labels, 1] and [0, soft_labels] (thesis: 0.1).
    label_noise: share of D's targets that are exchanged at random (thesis: 0.05, together with soft labels).
    flip_labels: real and generated exchange their roles for D and for its opponents.
    drawn_defects: share of the patches on which defects are drawn before an autoencoder is to reproduce them without.
    """

    input_noise: float = Field(0.0, ge=0)
    noise_epochs: int = Field(10, ge=1)
    noise_floor: float = Field(0.05, ge=0)
    soft_labels: float = Field(0.0, ge=0, lt=0.5)
    label_noise: float = Field(0.0, ge=0, lt=0.5)
    flip_labels: bool = False
    drawn_defects: float = Field(0.0, ge=0, le=1)


class Game:
    """Mean adversarial losses, scalars, of raw outputs (B,), or (B, 1, S, S) of a discriminator of pixels.

    epoch: counts from 0, set by the training loop; the noise schedule depends on it. signs: running mean share of
    "real" and "fake" samples that D takes for real, which tells whether D has won; empty for energies and for outputs
    that count up to a common offset.
    Raises InspectGanError for label tricks on an objective without labels.
    """

    def __init__(self, objective: Objective, tricks: TrickSettings):
        if (tricks.soft_labels or tricks.label_noise) and not objective.soft_targets:
            raise InspectGanError(
                f"objective '{objective.name}' has no labels to soften or exchange: use minimax, nonsaturating or "
                f"lsgan, or set tricks.soft_labels=0 and tricks.label_noise=0"
            )
        self.objective = objective
        self.tricks = tricks
        self.epoch = 0
        self.signs: dict[str, Tensor] = {}

    def noise_level(self) -> float:
        """Standard deviation of the input noise in the current epoch: max(start (E - e) / E, floor)."""
        tricks = self.tricks
        if not tricks.input_noise:
            return 0.0
        return max(tricks.input_noise * (tricks.noise_epochs - self.epoch) / tricks.noise_epochs, tricks.noise_floor)

    def seen(self, x: Tensor) -> Tensor:
        """What D sees of a patch: x with fresh input noise, x itself when the trick is off."""
        level = self.noise_level()
        return x + level * torch.randn_like(x) if level else x

    def spoilt(self, x: Tensor) -> Tensor:
        """What a reconstruction starts from: x with drawn defects that it has to mend, or x itself."""
        share = self.tricks.drawn_defects
        return draw_defects(x, share)[0] if share else x

    def d_real(self, out: Tensor) -> Tensor:
        self._note("real", out)
        return self._d(out, real=not self.tricks.flip_labels)

    def d_fake(self, out: Tensor) -> Tensor:
        self._note("fake", out)
        return self.d_penalty(out)

    def d_penalty(self, out: Tensor) -> Tensor:
        """As `d_fake`, for samples that are neither real nor generated."""
        return self._d(out, real=self.tricks.flip_labels)

    def d_pixels(self, out: Tensor, drawn: Tensor) -> Tensor:
        """Discriminator loss of pixels, penalty samples where `drawn` (bool), else real; both (B, 1, S, S)."""
        flip = self.tricks.flip_labels
        return torch.where(drawn.flatten(), self._of_each(out, real=flip), self._of_each(out, real=not flip)).mean()

    def d_loss(self, real_out: Tensor, fake_out: Tensor) -> Tensor:
        return self.d_real(real_out) + self.d_fake(fake_out)

    def critic_terms(self, critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor]) -> dict[str, Tensor]:
        """Terms of a discriminator's loss, scalars by name. real, fake: its arguments, each (B, ...)."""
        adversarial = self.d_loss(critic(*real), critic(*fake))
        return {"adversarial": adversarial, **self.regulariser(critic, real, fake)}

    def g_loss(self, fake_out: Tensor) -> Tensor:
        """Swapped roles make the generator an encoder: it pushes samples that D calls real."""
        return (self.objective.e_loss if self.tricks.flip_labels else self.objective.g_loss)(fake_out.flatten()).mean()

    def e_loss(self, real_out: Tensor) -> Tensor:
        return (self.objective.g_loss if self.tricks.flip_labels else self.objective.e_loss)(real_out.flatten()).mean()

    def towards_real(self, out: Tensor) -> Tensor:
        """Raw outputs (B,) -> the same in float32, with the sign at which higher = more real."""
        return -out.float() if (self.objective.kind == "energy") != self.tricks.flip_labels else out.float()

    def d_slope(self, out: Tensor) -> Tensor:
        """Size of the slope of `d_penalty` at each raw output, (B,) -> (B,): 0 where D has nothing more to learn, of a
        cross-entropy the probability to be real."""
        loss = self.objective.d_real if self.tricks.flip_labels else self.objective.d_fake
        with torch.enable_grad():
            out = out.detach().flatten().float().requires_grad_()
            return torch.autograd.grad(loss(out).sum(), out)[0].abs()

    def doubt(self, out: Tensor) -> Tensor:
        """How far D is from calling samples real, higher = more anomalous. out (B,) raw. Returns (B,) float32.

        Cross-entropy against "real" of a logit, softplus(-l); of other outputs, which have no logit, -u; an energy
        itself.
        """
        away = -self.towards_real(out)
        return F.softplus(away) if self.objective.kind == "logit" and not self.objective.neutral else away

    def regulariser(self, critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor]) -> dict[str, Tensor]:
        return self.objective.regulariser(critic, real, fake)

    def after_critic_step(self, network: nn.Module) -> None:
        self.objective.after_critic_step(network)

    def _note(self, kind: str, out: Tensor) -> None:
        if self.objective.kind == "energy" or not self.objective.sees_offset:  # no value is between real and generated
            return
        real = out.detach() > self.objective.neutral
        share = (~real if self.tricks.flip_labels else real).float().mean()
        self.signs[kind] = torch.lerp(self.signs[kind], share, 0.02) if kind in self.signs else share

    def _d(self, out: Tensor, real: bool) -> Tensor:
        return self._of_each(out, real).mean()

    def _of_each(self, out: Tensor, real: bool) -> Tensor:
        out = out.flatten()
        loss = self.objective.d_real if real else self.objective.d_fake
        tricks = self.tricks
        if not (tricks.soft_labels or tricks.label_noise):
            return loss(out)
        off = tricks.soft_labels * torch.rand(out.shape, device=out.device)
        exchanged = torch.rand(out.shape, device=out.device) < tricks.label_noise
        target = torch.where(exchanged, 1 - off, off)
        return loss(out, 1 - target if real else target)


def with_total(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Loss terms, already weighted, with their sum as "total"."""
    return {"total": torch.stack([term.float() for term in terms.values()]).sum(), **terms}
