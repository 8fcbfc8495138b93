"""Optimisers that leave PyTorch's compiler alone are PyTorch's to the bit, and do leave it alone."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from inspect_gan.objectives.optimizers import light

KINDS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.999), "fused": True}),
    (torch.optim.AdamW, {"lr": 0.01, "fused": True}),
    (torch.optim.RMSprop, {"lr": 0.01}),
    (torch.optim.SGD, {"lr": 0.01}),
]


def step(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    network(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_same_steps_as_pytorch_through_a_saved_state(
    kind: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    theirs = copy.deepcopy(ours)
    our_optimizer: Any = light(kind)(ours.parameters(), **options)
    their_optimizer: Any = kind(theirs.parameters(), **options)
    for seed in range(3):
        step(ours, our_optimizer, seed)
        step(theirs, their_optimizer, seed)
    resumed: Any = light(kind)(ours.parameters(), **options)
    resumed.load_state_dict(copy.deepcopy(our_optimizer.state_dict()))
    step(ours, resumed, 3)
    step(theirs, their_optimizer, 3)
    assert isinstance(resumed, kind)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, torch.zeros_like(a))


def test_a_step_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from inspect_gan.objectives import Optimizer\n"
        "for kind in ('adam', 'adamw', 'rmsprop', 'sgd'):\n"
        "    weight = torch.nn.Parameter(torch.ones(2))\n"
        "    optimizer = Optimizer(kind).over([weight])\n"
        "    optimizer.zero_grad()\n"
        "    weight.sum().backward()\n"
        "    optimizer.step()\n"
        "    optimizer.load_state_dict(optimizer.state_dict())\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
