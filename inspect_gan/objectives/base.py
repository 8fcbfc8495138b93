"""What an adversarial objective is.

An objective turns the raw outputs of a discriminator into losses. It knows tensors only: no network, no detector.
Outputs are (B,), losses come back unreduced as (B,) float32, so that reduction, weights and mixed precision are
decided in one place, the caller.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from inspect_gan.objectives.optimizers import light
from inspect_gan.registry import Registry
from inspect_gan.settings import Settings

Critic = Callable[..., Tensor]
Target = float | Tensor
Role = Literal["generator", "discriminator"]


@dataclass(frozen=True)
class Optimizer:
    """How a phase is optimised. `betas` apply to Adam and AdamW, lr is per step."""

    kind: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)

    def over(self, parameters: Iterable[nn.Parameter], fused: bool = True) -> torch.optim.Optimizer:
        """PyTorch's optimiser of these parameters. fused: Adam and AdamW in one kernel."""
        if self.kind == "rmsprop":
            return light(torch.optim.RMSprop)(parameters, lr=self.lr)
        if self.kind == "sgd":
            return light(torch.optim.SGD)(parameters, lr=self.lr)
        adam = torch.optim.AdamW if self.kind == "adamw" else torch.optim.Adam
        return light(adam)(parameters, lr=self.lr, betas=self.betas, fused=fused)


def both(optimizer: Optimizer) -> Mapping[Role, Optimizer]:
    """One optimiser for generators and discriminators."""
    return {"generator": optimizer, "discriminator": optimizer}


class Objective(ABC):
    """An adversarial loss on raw discriminator outputs.

    kind: what the raw output means: "logit" (of the probability to be real), "critic" (unbounded, higher = more
    real) or "energy" (non-negative, lower = more real). optimizers: those its paper asks for, by what they
    train ("generator": encoders of joint models too); a role that is missing keeps the detector's own. neutral: raw
    output of a discriminator that cannot tell; only that of 0 is a logit. sees_offset: whether a constant added to all
    outputs changes the discriminator's loss.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["logit", "critic", "energy"]] = "logit"
    soft_targets: ClassVar[bool] = False
    batch_norm_in_critic: ClassVar[bool] = True
    critic_steps: ClassVar[int] = 1
    neutral: float = 0.0
    sees_offset: ClassVar[bool] = True
    optimizers: Mapping[Role, Optimizer] = {}
    settings_class: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Settings | None = None):
        self.settings = settings if settings is not None else self.settings_class()

    def d_real(self, out: Tensor, target: Target = 1.0) -> Tensor:
        """Discriminator loss of real samples. out (B,) raw; target 1 = real, (B,) or a number. Returns (B,)."""
        return self._real(self._checked(out, target, hard=1.0), target)

    def d_fake(self, out: Tensor, target: Target = 0.0) -> Tensor:
        """Discriminator loss of generated samples. out (B,) raw; target 0 = generated. Returns (B,)."""
        return self._fake(self._checked(out, target, hard=0.0), target)

    def g_loss(self, fake_out: Tensor) -> Tensor:
        """Generator loss. fake_out (B,) raw. Returns (B,)."""
        return self._generator(self._checked(fake_out))

    def e_loss(self, real_out: Tensor) -> Tensor:
        """Encoder loss of joint models: pushes real pairs the wrong way. real_out (B,) raw. Returns (B,)."""
        return self._encoder(self._checked(real_out))

    def d_loss(self, real_out: Tensor, fake_out: Tensor, real: Target = 1.0, fake: Target = 0.0) -> Tensor:
        """Mean discriminator loss, a scalar. Raises ValueError when the two batches differ in shape."""
        if real_out.shape != fake_out.shape:
            raise ValueError(
                f"{self.name}: real outputs {tuple(real_out.shape)} and fake outputs {tuple(fake_out.shape)} differ"
            )
        return self.d_real(real_out, real).mean() + self.d_fake(fake_out, fake).mean()

    def regulariser(self, critic: Critic, real: Sequence[Tensor], fake: Sequence[Tensor]) -> dict[str, Tensor]:
        """Terms to add to the discriminator loss, by name. real and fake: the critic's arguments, each (B, ...)."""
        return {}

    @property
    def regularised(self) -> bool:
        """Whether it has such terms."""
        return type(self).regulariser is not Objective.regulariser

    def after_critic_step(self, network: nn.Module) -> None:  # noqa: B027  most objectives do nothing here
        """Called with the discriminator after each of its optimiser steps."""

    @abstractmethod
    def _real(self, out: Tensor, target: Target) -> Tensor: ...

    @abstractmethod
    def _fake(self, out: Tensor, target: Target) -> Tensor: ...

    @abstractmethod
    def _generator(self, out: Tensor) -> Tensor: ...

    @abstractmethod
    def _encoder(self, out: Tensor) -> Tensor: ...

    def _checked(self, out: Tensor, target: Target = 0.0, hard: float = 0.0) -> Tensor:
        """`out` in float32. Refuses any shape that would broadcast: (B,) against (B, 1) trains on B × B pairs."""
        shape = tuple(target.shape) if isinstance(target, Tensor) else None
        if out.dim() != 1 or (shape is not None and shape != tuple(out.shape)):
            raise ValueError(
                f"{self.name}: expected outputs of shape (B,) and targets of the same shape or a number, "
                f"got {tuple(out.shape)} and {shape if shape is not None else target}"
            )
        if not self.soft_targets and (isinstance(target, Tensor) or target != hard):
            raise ValueError(f"{self.name} has no targets to soften: use minimax, nonsaturating or lsgan")
        return out.float()


objectives: Registry[Objective] = Registry("objective", "inspect_gan.objectives")


def gradient_norm(critic: Critic, inputs: Sequence[Tensor]) -> Tensor:
    """||d critic / d inputs||_2 per sample over all entries of all inputs together: (B,), differentiable."""
    with torch.enable_grad():
        inputs = [part.detach().float().requires_grad_(True) for part in inputs]
        out = critic(*inputs).float()
        # Of a critic with an output for every pixel, their mean is what has a slope.
        grads = torch.autograd.grad(
            out.flatten(1).mean(1).sum() if out.dim() > 1 else out.sum(), inputs, create_graph=True
        )
    return torch.cat([grad.float().flatten(1) for grad in grads], dim=1).norm(dim=1)
