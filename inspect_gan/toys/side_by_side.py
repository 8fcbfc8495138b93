"""Small perceptrons that learn next to each other in one tensor, so that repetitions cost hardly more than one run."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inspect_gan.objectives import Optimizer

REPLICAS = 3  # trainings from different first weights, behind every result
WIDTH = 64  # of both hidden layers
SLOPE = 0.2  # of LeakyReLU below zero, as in the detectors


class Perceptrons(nn.Module):
    """`count` perceptrons n_in -> WIDTH -> WIDTH -> n_out with weights of their own, drawn as `nn.Linear` draws them.

    Inputs (count · B, n), concatenated to n_in columns; rows i B to (i + 1) B belong to perceptron i, and nothing
    passes from one to another. Returns (count · B, n_out). `count` times a mean loss over all rows is the sum of the
    perceptrons' own losses, so each gets the gradient it would get alone.
    """

    def __init__(self, count: int, n_in: int, n_out: int):
        super().__init__()
        self.count = count
        layers = pairwise((n_in, WIDTH, WIDTH, n_out))
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in layers:
            bound = 1 / math.sqrt(fan_in)
            self.weights.append(torch.empty(count, fan_in, fan_out).uniform_(-bound, bound))
            self.biases.append(torch.empty(count, 1, fan_out).uniform_(-bound, bound))

    def forward(self, *inputs: Tensor) -> Tensor:
        hidden = torch.cat(inputs, dim=1).unflatten(0, (self.count, -1))
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if depth:
                hidden = F.leaky_relu(hidden, SLOPE)
            hidden = torch.baddbmm(bias, hidden, weight)
        return hidden.flatten(0, 1)


class Critics(Perceptrons):
    """Discriminators: raw outputs (count · B,)."""

    def __init__(self, count: int, n_in: int):
        super().__init__(count, n_in, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return super().forward(*inputs).squeeze(1)


def make_optimizer(wanted: Optimizer, networks: Sequence[nn.Module]) -> Callable[[Tensor], None]:
    """A function that takes a mean loss over all rows and changes the weights of `networks` by one step."""
    optimizer = wanted.over([parameter for network in networks for parameter in network.parameters()])
    count = networks[0].count if isinstance(networks[0], Perceptrons) else 1

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        (count * loss).backward()
        optimizer.step()

    return step


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All random numbers inside follow from `seed`; those outside are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def spread(values: Tensor) -> dict[str, Any]:
    """One number per replica, (R,), for a report: all of them, their mean and their standard deviation."""
    return {"mean": values.mean().item(), "std": values.std().item(), "replicas": values.tolist()}
