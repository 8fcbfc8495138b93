"""Weight averages against the closed form of the recursion."""

import pytest
import torch
from torch import nn

from inspect_gan.config import make_config
from inspect_gan.detector import Detector
from inspect_gan.training.averages import Averages, warm_up

TINY = {"detector": {"name": "ganomaly", "nz": 4, "width": 2}}


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    return make_config(TINY).build(1)


def child(detector: Detector, name: str) -> nn.Module:
    return dict(detector.named_children())[name]


def fill(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def test_constant_decay(detector: Detector) -> None:
    fill(detector, 0.0)
    averages = Averages(detector, lambda k: 0.999)
    fill(detector, 1.0)
    wanted = {1: 0.001, 10: 0.009955, 100: 0.095208, 1000: 0.632305}
    weight = next(child(averages.shadow, "decoder").parameters())
    for step in range(1, 1001):
        averages.update(detector, ["decoder"])
        if step in wanted:
            assert weight.flatten()[0].item() == pytest.approx(wanted[step], abs=2e-6)
    for parameter in child(averages.shadow, "decoder").parameters():
        assert parameter.unique().numel() == 1
    assert averages.updates["decoder"] == 1000


def test_warm_up() -> None:
    decay = warm_up(0.999)
    assert [decay(k) for k in (0, 1, 8, 90)] == pytest.approx([0.1, 2 / 11, 0.5, 0.91])
    # (1 + k) / (10 + k) = 0.999 at k = 8990.
    assert decay(8989) < 0.999
    assert decay(8991) == decay(10**9) == 0.999
    assert warm_up(0.0)(100) == 0.0


def test_decay_depends_on_the_updates_of_each_sub_network(detector: Detector) -> None:
    fill(detector, 0.0)
    averages = Averages(detector, warm_up(0.999))
    fill(detector, 1.0)
    averages.update(detector, ["encoder", "decoder"])
    averages.update(detector, ["encoder"])

    def value(name: str) -> float:
        return next(child(averages.shadow, name).parameters()).flatten()[0].item()

    assert value("decoder") == pytest.approx(0.9)
    assert value("encoder") == pytest.approx(1 - 0.1 * 2 / 11)
    assert value("encoder_rec") == value("discriminator") == 0.0
    assert averages.updates == {"encoder": 2, "decoder": 1, "encoder_rec": 0, "discriminator": 0}


def test_shadow_is_a_frozen_copy_in_eval_mode(detector: Detector) -> None:
    detector.train()
    averages = Averages(detector, warm_up(0.999))
    assert not averages.shadow.training and detector.training
    assert not any(parameter.requires_grad for parameter in averages.shadow.parameters())
    assert all(parameter.requires_grad for parameter in detector.parameters())
    before = {name: value.clone() for name, value in averages.shadow.state_dict().items()}
    fill(detector, 5.0)
    for name, value in averages.shadow.state_dict().items():
        assert torch.equal(value, before[name])


def test_buffers_are_copied_not_averaged(detector: Detector) -> None:
    averages = Averages(detector, lambda k: 0.999)
    detector.train()
    detector.reconstruct(torch.randn(4, 1, 32, 32))
    averages.update(detector, ["encoder", "decoder"])
    live, shadow = dict(detector.named_buffers()), dict(averages.shadow.named_buffers())
    statistics = [name for name in live if name.endswith("running_mean") and name.startswith("decoder")]
    assert statistics
    assert not any(torch.equal(live[name], shadow[name]) for name in statistics)
    averages.copy_buffers(detector)
    assert all(torch.equal(live[name], shadow[name]) for name in live)
    # Copies: a later batch does not move them.
    detector.reconstruct(torch.randn(4, 1, 32, 32))
    assert not any(torch.equal(live[name], shadow[name]) for name in statistics)


def test_hand_over_gives_the_averaged_weights_of_the_named_networks(detector: Detector) -> None:
    fill(detector, 0.0)
    averages = Averages(detector, lambda k: 0.75)
    fill(detector, 1.0)
    averages.update(detector, ["encoder", "decoder"])
    averages.hand_over(detector, ["decoder"])

    def values(name: str) -> set[float]:
        return {v for parameter in child(detector, name).parameters() for v in parameter.flatten().tolist()}

    assert values("decoder") == {0.25}
    assert values("encoder") == {1.0}
    assert all(parameter.requires_grad for parameter in child(detector, "decoder").parameters())
    # Handed over by value: the average goes its own way afterwards.
    fill(detector, 2.0)
    averages.update(detector, ["decoder"])
    assert next(child(averages.shadow, "decoder").parameters()).flatten()[0].item() == pytest.approx(
        0.75 * 0.25 + 0.25 * 2
    )
    assert values("decoder") == {2.0}
