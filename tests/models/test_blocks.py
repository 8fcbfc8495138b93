"""Spectral normalisation and minibatch standard deviation."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from inspect_gan.models.networks import Critic, critic_k5, init_normal, normalise_spectrum


def test_spectral_norm_bounds_every_layer_but_the_head() -> None:
    torch.manual_seed(0)
    critic = critic_k5(1, 32, 8, "none")
    critic.apply(init_normal)
    with torch.no_grad():
        for parameter in critic.body.parameters():
            parameter.mul_(50)
    normalise_spectrum(critic)
    for _ in range(30):
        critic(torch.randn(4, 1, 32, 32))
    layers = [m for m in critic.body.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        top = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        assert top.item() == pytest.approx(1, abs=1e-2)
    assert not is_parametrized(critic.head)


def test_power_iteration_reaches_the_top_singular_value() -> None:
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    network = nn.Sequential(layer)
    normalise_spectrum(network)
    for _ in range(10):
        network(torch.randn(1, 2))
    assert torch.linalg.matrix_norm(layer.weight, ord=2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("passes", "wanted"), [(1, 2.771356), (2, 2.996755), (5, 3.0)])
def test_each_training_pass_takes_one_power_iteration(passes: int, wanted: float) -> None:
    """Singular values 3 and 1; from (0.6, 0.8) on the estimate of the larger one comes nearer with each pass."""
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    network = nn.Sequential(layer)
    normalise_spectrum(network)
    layer.parametrizations.weight[0]._v.copy_(torch.tensor([0.6, 0.8, 0.0]))
    for _ in range(passes):
        network(torch.randn(4, 3))
    network.eval()  # scoring leaves the estimate alone
    for _ in range(3):
        assert 3.0 / layer.weight[0, 0].item() == pytest.approx(wanted, abs=2e-6)


def test_weights_under_spectral_norm_can_be_drawn_afresh() -> None:
    critic = critic_k5(1, 32, 8, "batch")
    normalise_spectrum(critic)
    before = critic.body[0][0].parametrizations.weight.original.clone()
    critic.apply(init_normal)
    after = critic.body[0][0].parametrizations.weight.original
    assert not torch.equal(before, after)
    assert after.std().item() == pytest.approx(0.02, rel=0.2)


def test_minibatch_std_sees_variety_in_training_only() -> None:
    torch.manual_seed(0)
    critic = Critic(nn.Flatten(), 16, minibatch_std=True)
    with torch.no_grad():
        critic.head.weight.zero_()
        critic.head.weight[0, -1] = 1
        critic.head.bias.zero_()
    varied, uniform = torch.randn(64, 1, 4, 4), torch.randn(1, 1, 4, 4).expand(64, 1, 4, 4)
    assert critic(uniform).max().item() == pytest.approx(0, abs=2e-4)
    assert critic(varied)[0].item() == pytest.approx(varied.flatten(1).std(0, correction=0).mean().item(), rel=1e-5)
    critic.eval()
    alone = critic(varied[:1])
    torch.testing.assert_close(critic(varied)[:1], alone)
    torch.testing.assert_close(critic(uniform)[:1], alone)
