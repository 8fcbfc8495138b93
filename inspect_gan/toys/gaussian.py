"""Every adversarial objective against one Gaussian on the line.

After She & Fan, "MIM-based GAN: Information Metric to Amplify Small Probability Events Importance in Generative
Adversarial Networks", section IV-B: real data N(4, 1.25), generator losses of the objectives beside each other. There a
discriminator is trained first and then held; here both play on, as in the detectors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inspect_gan.objectives import Objective, Optimizer, Role, objectives
from inspect_gan.toys.side_by_side import REPLICAS, Critics, Perceptrons, make_optimizer, seeded, spread

BATCH = 128  # samples per step and replica
MEAN, STD = 4.0, 1.25  # of the real samples
RECORDS = 100  # per curve, at most
QUANTILES = 1000  # of z, on which mean and standard deviation of G(z) are measured without sampling noise

RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    "minimax": ("minimax", {}),
    "nonsaturating": ("nonsaturating", {}),
    "lsgan": ("lsgan", {}),
    "wgan": ("wgan", {}),
    "wgan_gp": ("wgan_gp", {}),
    "hinge": ("hinge", {}),
    "mim": ("mim", {}),
    "mim, generator=heuristic": ("mim", {"generator": "heuristic"}),
    "mim, output=raw": ("mim", {"output": "raw"}),
}


@dataclass(frozen=True)
class Curves:
    """Records of one objective. step: (N,). loss, mean, std: (N, REPLICAS), the generator's loss, averaged over the
    steps since the record before, mean and standard deviation of G(z) at that step."""

    step: Tensor
    loss: Tensor
    mean: Tensor
    std: Tensor


def make_rival(label: str) -> Objective:
    """The objective behind a label of `RIVALS`."""
    name, settings = RIVALS[label]
    kind = objectives.get(name)
    return kind(kind.settings_class(**settings))


def optimizer_of(objective: Objective, role: Role) -> Optimizer:
    """What the objective's paper asks for, else what most detectors were published with."""
    return objective.optimizers.get(role, Optimizer())


def train_rival(label: str, seed: int, steps: int) -> Curves:
    """Train G(z), z ~ N(0, 1), against D with an objective of `RIVALS`. One seed: the same first weights for all."""
    objective = make_rival(label)
    with seeded(seed):
        generator, critic = Perceptrons(REPLICAS, 1, 1), Critics(REPLICAS, 1)
        optimize_g = make_optimizer(optimizer_of(objective, "generator"), [generator])
        optimize_d = make_optimizer(optimizer_of(objective, "discriminator"), [critic])
        step_of_record, records, every = [], [], math.ceil(steps / RECORDS)
        loss = torch.zeros(REPLICAS)
        for step in range(1, steps + 1):
            critic.requires_grad_(True)
            for _ in range(objective.critic_steps):
                real = MEAN + STD * _noise()
                with torch.no_grad():
                    fake = generator(_noise())
                extra = objective.regulariser(critic, [real], [fake]).values()
                optimize_d(torch.stack([objective.d_loss(critic(real), critic(fake)), *extra]).sum())
                objective.after_critic_step(critic)
            critic.requires_grad_(False)
            losses = objective.g_loss(critic(generator(_noise())))
            optimize_g(losses.mean())
            loss += _apart(losses.detach()).mean(1) / every
            if step % every == 0:
                step_of_record.append(step)
                records.append(torch.stack([loss, *_moments(generator)]))
                loss.zero_()
    return Curves(torch.tensor(step_of_record), *torch.stack(records, dim=1))


def _noise() -> Tensor:
    return torch.randn(REPLICAS * BATCH, 1)


def _apart(values: Tensor) -> Tensor:
    """(REPLICAS · n,) -> (REPLICAS, n)."""
    return values.unflatten(0, (REPLICAS, -1))


@torch.no_grad()
def _moments(generator: Perceptrons) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of G(z), each (REPLICAS,)."""
    shares = (torch.arange(QUANTILES) + 0.5) / QUANTILES
    z = torch.special.ndtri(shares).repeat(REPLICAS)[:, None]
    made = _apart(generator(z).squeeze(1))
    return made.mean(1), made.std(1)


def push(label: str, outputs: Tensor) -> Tensor:
    """-dL_G/du at raw outputs u (N,): how hard a generated sample is pushed towards "real". Returns (N,)."""
    u = outputs.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(make_rival(label).g_loss(u).sum(), u)
    return -slope


def summary(curves: Curves) -> dict[str, Mapping[str, Any]]:
    """|mean - MEAN| and |std - STD| over the last tenth of the records: each replica, and their mean and deviation."""
    last = max(len(curves.mean) // 10, 1)
    errors = {"mean_error": curves.mean - MEAN, "std_error": curves.std - STD}
    return {name: spread(error[-last:].abs().mean(0)) for name, error in errors.items()}
