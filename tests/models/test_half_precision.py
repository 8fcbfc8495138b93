"""Training steps in float16 with MIM, whose exponential overflows there above 11, and with a loss scaler."""

import math

import pytest
import torch
from torch import Tensor

from inspect_gan.config import make_config
from inspect_gan.detector import Batch, Detector, Phase

HALF_MAX = 65504.0
E5 = math.exp(5.0)
# Slope of D's loss in a bias that lifts all its outputs, at the upper and the lower end of half precision: of raw
# outputs that of the tangent, real samples pulling up and generated ones down; none through a sigmoid.
SLOPES = {("raw", 1): E5, ("raw", -1): -E5, ("sigmoid", 1): 0.0, ("sigmoid", -1): 0.0}


def build(output: str, generator: str = "zero_sum") -> Detector:
    torch.manual_seed(0)
    values = {
        "detector": {"name": "anogan", "nz": 6, "width": 4, "lr_g": 1e-3, "lr_d": 1e-3},
        "objective": {"name": "mim", "output": output, "generator": generator},
    }
    return make_config(values).build(1).train()


def patches() -> Tensor:
    return torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def loss(detector: Detector, phase: Phase, half: bool = True) -> Tensor:
    """What the phase minimises, with the other networks frozen and all gradients cleared."""
    for name, network in detector.named_children():
        network.requires_grad_(name in phase.trains)
    detector.zero_grad()
    with torch.autocast("cpu", torch.float16, enabled=half):
        return phase.loss(Batch(patches()))["total"]


def trained_parameters(detector: Detector, phase: Phase) -> list[torch.nn.Parameter]:
    return [p for name in phase.trains for p in detector.get_submodule(name).parameters()]


@pytest.mark.parametrize("end", [1, -1])
@pytest.mark.parametrize("generator", ["zero_sum", "heuristic"])
@pytest.mark.parametrize("output", ["sigmoid", "raw"])
def test_steps_with_outputs_at_the_ends_of_half_precision(output: str, generator: str, end: int) -> None:
    detector = build(output, generator)
    bias = detector.get_parameter("discriminator.head.bias")
    with torch.no_grad():
        bias.fill_(end * HALF_MAX)
    with torch.autocast("cpu", torch.float16):
        out = detector.discriminate(patches())[0]
    assert out.dtype == torch.float16
    assert out.tolist() == [end * HALF_MAX] * 4
    for phase in detector.stages()[0].phases:
        total = loss(detector, phase)
        assert total.isfinite()
        total.backward()
        gradients = [p.grad for p in trained_parameters(detector, phase)]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        if phase.name == "discriminator":
            assert bias.grad is not None
            assert bias.grad.item() == pytest.approx(SLOPES[output, end], rel=1e-3)
        torch.optim.Adam(trained_parameters(detector, phase), 1e-3).step()
    assert all(p.isfinite().all() for p in detector.parameters())


@pytest.mark.parametrize("output", ["sigmoid", "raw"])
def test_gradients_near_those_of_single_precision(output: str) -> None:
    detector = build(output)
    for phase in detector.stages()[0].phases:
        gradients = []
        for half in (True, False):
            torch.manual_seed(2)
            (1024 * loss(detector, phase, half)).backward()  # below the smallest half number without a scale
            parts = [p.grad for p in trained_parameters(detector, phase)]
            gradients.append(torch.cat([part.flatten() / 1024 for part in parts if part is not None]))
        assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[1].norm()


def test_a_scaler_skips_the_steps_that_overflow() -> None:
    """Raw outputs at the upper end: the tangent's slope of 148 times a scale of 65536 is more than half precision."""
    detector = build("raw")
    phase = detector.stages()[0].phases[0]
    bias = detector.get_parameter("discriminator.head.bias")
    with torch.no_grad():
        bias.fill_(1000.0)
    parameters = trained_parameters(detector, phase)
    optimizer, scaler = torch.optim.Adam(parameters, 1e-3), torch.amp.GradScaler("cpu", init_scale=65536.0)
    before, taken = [p.detach().clone() for p in parameters], []
    for _ in range(20):
        scale = scaler.get_scale()
        scaler.scale(loss(detector, phase)).backward()
        scaler.step(optimizer)
        scaler.update()
        taken.append(scaler.get_scale() >= scale)
        unchanged = all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
        assert unchanged == (not any(taken))
    assert not taken[0] and taken[-1]
    assert all(p.isfinite().all() for p in parameters)
    assert bias.item() < 1000
