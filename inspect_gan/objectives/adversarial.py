"""The adversarial losses. u: raw output, l: raw output read as a logit, D = sigmoid(l), sp = softplus."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import ParametrizationList

from inspect_gan.objectives.base import Critic, Objective, Optimizer, Target, both, objectives
from inspect_gan.objectives.penalties import gradient_penalty
from inspect_gan.settings import Settings


class _CrossEntropy(Objective):
    soft_targets = True

    def _real(self, out: Tensor, target: Target) -> Tensor:
        return F.softplus(out) - target * out

    _fake = _real


@objectives.register("minimax")
class Minimax(_CrossEntropy):
    """The zero-sum game of Goodfellow et al. 2014, eq. 1: the generator maximises what D minimises."""

    def _generator(self, out: Tensor) -> Tensor:
        return -F.softplus(out)

    def _encoder(self, out: Tensor) -> Tensor:
        return -F.softplus(-out)


@objectives.register("nonsaturating")
class NonSaturating(_CrossEntropy):
    """Cross-entropy D; the generator maximises log D instead (Goodfellow et al. 2014, section 3)."""

    def _generator(self, out: Tensor) -> Tensor:
        return F.softplus(-out)

    def _encoder(self, out: Tensor) -> Tensor:
        return F.softplus(out)


class LeastSquaresSettings(Settings):
    """zero_sum: the form of the MIM papers, D ends in a sigmoid and the generator maximises D's own loss."""

    zero_sum: bool = False


@objectives.register("lsgan")
class LeastSquares(Objective):
    """Least squares on the raw output with targets 1 and 0 (Mao et al. 2017, eq. 9).

    `zero_sum` is the form printed in the MIM papers (She & Fan, Table I): D ends in a sigmoid and the generator
    maximises D's own loss. On raw outputs that form would reward u < 0, so it always applies the sigmoid.
    """

    soft_targets = True
    settings_class = LeastSquaresSettings
    settings: LeastSquaresSettings

    def __init__(self, settings: LeastSquaresSettings | None = None):
        super().__init__(settings)
        self.neutral = 0.0 if self.settings.zero_sum else 0.5

    def _output(self, out: Tensor) -> Tensor:
        return torch.sigmoid(out) if self.settings.zero_sum else out

    def _real(self, out: Tensor, target: Target) -> Tensor:
        return 0.5 * (self._output(out) - target).square()

    _fake = _real

    def _generator(self, out: Tensor) -> Tensor:
        if self.settings.zero_sum:
            return -0.5 * self._output(out).square()
        return 0.5 * (out - 1).square()

    def _encoder(self, out: Tensor) -> Tensor:
        if self.settings.zero_sum:
            return -0.5 * (self._output(out) - 1).square()
        return 0.5 * out.square()


class _Wasserstein(Objective):
    kind = "critic"
    sees_offset = False
    critic_steps = 5

    def _real(self, out: Tensor, target: Target) -> Tensor:
        return -out

    def _fake(self, out: Tensor, target: Target) -> Tensor:
        return out

    def _generator(self, out: Tensor) -> Tensor:
        return -out

    def _encoder(self, out: Tensor) -> Tensor:
        return out


UNCLIPPED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, ParametrizationList)


class WassersteinSettings(Settings):
    """clip: largest size of D's weights."""

    clip: float = Field(0.01, gt=0)


@objectives.register("wgan")
class Wasserstein(_Wasserstein):
    """Wasserstein distance; D's weights are clipped to [-clip, clip] after each step (Arjovsky 2017, alg. 1), but those
    under spectral normalisation, which bounds the slope already."""

    batch_norm_in_critic = False
    optimizers = both(Optimizer("rmsprop", 5e-5))
    settings_class = WassersteinSettings
    settings: WassersteinSettings

    @torch.no_grad()
    def after_critic_step(self, network: nn.Module) -> None:
        for module in network.modules():
            # Clipping the gain of a normalisation layer to 0.01 would silence the layer, not bound the slope; what a
            # parametrisation rescales would be cut to its signs.
            if not isinstance(module, UNCLIPPED):
                for weight in module.parameters(recurse=False):
                    weight.clamp_(-self.settings.clip, self.settings.clip)


class WassersteinGPSettings(Settings):
    """gp_weight: weight of the gradient penalty."""

    gp_weight: float = Field(10.0, ge=0)


@objectives.register("wgan_gp")
class WassersteinGP(_Wasserstein):
    """Wasserstein distance with a gradient penalty in place of clipping (Gulrajani et al. 2017, eq. 3).

    The penalty is per sample, so D must not couple the samples of a batch: no batch normalisation.
    """

    batch_norm_in_critic = False
    optimizers = both(Optimizer("adam", 1e-4, (0.0, 0.9)))
    settings_class = WassersteinGPSettings
    settings: WassersteinGPSettings

    def regulariser(self, critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"gradient_penalty": self.settings.gp_weight * gradient_penalty(critic, real, fake)}


@objectives.register("hinge")
class Hinge(Objective):
    """Hinge loss of the geometric and spectrally normalised GANs (Miyato et al. 2018, eqs 16-17)."""

    kind = "critic"

    def _real(self, out: Tensor, target: Target) -> Tensor:
        return F.relu(1 - out)

    def _fake(self, out: Tensor, target: Target) -> Tensor:
        return F.relu(1 + out)

    def _generator(self, out: Tensor) -> Tensor:
        return -out

    def _encoder(self, out: Tensor) -> Tensor:
        return out


class MIMSettings(Settings):
    """output: D's range, [0, 1] or all reals. generator: the paper's "zero_sum" loss or its non-saturating analogue.
    optimizers: the detector's own, or AdamW for G and plain SGD for D."""

    output: Literal["sigmoid", "raw"] = "sigmoid"
    generator: Literal["zero_sum", "heuristic"] = "zero_sum"
    optimizers: Literal["detector", "adamw_sgd"] = "detector"


@objectives.register("mim")
class MIM(Objective):
    """Message importance measure: exp in place of log (She & Fan, "MIM-based GAN", eqs 3-4).

    D minimises E[exp(1 - D(x))] + E[exp(D(G(z)))]; G maximises the second term.

    output: "sigmoid" keeps D in [0, 1] as the paper states; the optimum 1/2 + 1/2 ln(p/q) of its Lemma 1 is then
    clipped where p/q leaves [1/e, e]. "raw" lets D range over the reals; exp is continued by its tangent above
    5, which keeps slope and convexity and cannot overflow.
    optimizers: "adamw_sgd" is the pairing of MIM-GAN for time series (Lu et al., algorithm 1): AdamW for G, plain
    gradient descent for D, both at 5e-4; "detector" keeps those of the detector.
    generator: "zero_sum" is the paper's; through a sigmoid it saturates for a confident D exactly as minimax
    does. "heuristic" minimises E[exp(1 - D(G(z)))] instead, the analogue of the non-saturating loss.
    """

    settings_class = MIMSettings
    settings: MIMSettings
    LINEAR_ABOVE = 5.0

    def __init__(self, settings: MIMSettings | None = None):
        super().__init__(settings)
        self.neutral = 0.0 if self.settings.output == "sigmoid" else 0.5
        if self.settings.optimizers == "adamw_sgd":
            self.optimizers = {
                "generator": Optimizer("adamw", 5e-4, (0.9, 0.999)),
                "discriminator": Optimizer("sgd", 5e-4),
            }

    def _importance(self, out: Tensor, sign: float, shift: float) -> Tensor:
        """exp(shift + sign * D)."""
        if self.settings.output == "sigmoid":
            return torch.exp(shift + sign * torch.sigmoid(out))
        return linearised_exp(shift + sign * out, self.LINEAR_ABOVE)

    def _real(self, out: Tensor, target: Target) -> Tensor:
        return self._importance(out, -1.0, 1.0)

    def _fake(self, out: Tensor, target: Target) -> Tensor:
        return self._importance(out, 1.0, 0.0)

    def _generator(self, out: Tensor) -> Tensor:
        if self.settings.generator == "heuristic":
            return self._importance(out, -1.0, 1.0)
        return -self._importance(out, 1.0, 0.0)

    def _encoder(self, out: Tensor) -> Tensor:
        if self.settings.generator == "heuristic":
            return self._importance(out, 1.0, 0.0)
        return -self._importance(out, -1.0, 1.0)


def linearised_exp(u: Tensor, cut: float) -> Tensor:
    """exp(u) for u < cut, its tangent exp(cut) (1 + u - cut) above: continuous in value and slope, convex."""
    # Half precision often hits the cut itself, where clamp has no slope: it belongs to the tangent.
    return torch.where(u < cut, torch.exp(u.clamp(max=cut)), math.exp(cut) * (1 + u - cut))
