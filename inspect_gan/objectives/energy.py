"""The margin objective on energies, and the adapter that lets energies play any other objective."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inspect_gan.objectives.base import Objective, Target, objectives
from inspect_gan.settings import Settings


class EnergyMarginSettings(Settings):
    """margin: energy from which on D leaves generated samples alone; None: 20, the thesis' value for the 2-norm over
    a grey 32×32 patch of unit variance, which a detector replaces by what that means for its own patches. hinge_on:
    each sample (the paper) or the mean of the batch (the thesis)."""

    margin: float | None = Field(None, gt=0)
    hinge_on: Literal["sample", "batch"] = "sample"


@objectives.register("ebgan")
class EnergyMargin(Objective):
    """Energies, low for real samples, pushed up to a margin for generated ones (Zhao et al. 2017, eqs 1-2).

    D minimises En(x) + max(0, m - En(G(z))), G minimises En(G(z)). At the optimum D's energy is 0 where real samples
    are the denser, m elsewhere. An encoder of real samples has no place in the paper; its loss here is the hinge, the
    role of D with the sides exchanged.

    margin: m; a detector that knows the scale of its energies may set it as long as the settings do not.
    """

    kind = "energy"
    settings_class = EnergyMarginSettings
    settings: EnergyMarginSettings
    PUBLISHED_MARGIN = 20.0

    def __init__(self, settings: EnergyMarginSettings | None = None):
        super().__init__(settings)
        margin = self.settings.margin
        self.margin: float | Tensor = self.PUBLISHED_MARGIN if margin is None else margin

    def _real(self, out: Tensor, target: Target) -> Tensor:
        return out

    def _fake(self, out: Tensor, target: Target) -> Tensor:
        return self._hinge(out)

    def _generator(self, out: Tensor) -> Tensor:
        return out

    def _encoder(self, out: Tensor) -> Tensor:
        return self._hinge(out)

    def _hinge(self, out: Tensor) -> Tensor:
        if self.settings.hinge_on == "batch":
            out = out.mean().expand_as(out)
        return (self.margin - out).relu()


class RunningMean(nn.Module):
    """Mean of a number over the batches observed, all alike at first, then exponential with decay 0.99."""

    value: Tensor
    batches: Tensor
    DECAY = 0.99

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))

    @torch.no_grad()
    def observe(self, number: Tensor) -> None:
        """number: a scalar, of one batch."""
        self.batches += 1
        self.value.lerp_(number.float(), (1 / self.batches).clamp_min(1 - self.DECAY))

    def or_else(self, number: Tensor) -> Tensor:
        """The mean, `number` before the first observation."""
        return torch.where(self.batches > 0, self.value, number)


class EnergyAdapter(nn.Module):
    """Energies En (B,) -> outputs u = (b - En) / s (B,) that any logit or critic objective takes.

    b and s are running means of the mean and the standard deviation of the energies of real and generated samples
    together; for the gradient they are constants. Before the first observation a batch is standardised by its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.deviation = RunningMean(), RunningMean()

    def observe(self, real: Tensor, fake: Tensor) -> None:
        """Take the energies (B,) of a real and a generated batch into the statistics."""
        energy = torch.cat([real, fake]).detach().float()
        self.mean.observe(energy.mean())
        self.deviation.observe(energy.std(correction=0))

    def forward(self, energy: Tensor) -> Tensor:
        own = energy.detach().float()
        deviation = self.deviation.or_else(own.std(correction=0)).clamp_min(1e-6)
        return (self.mean.or_else(own.mean()) - energy) / deviation
