import copy

import torch
from torch import nn

from inspect_gan.config import make_config
from inspect_gan.layout import keep_layout_of_gradients, overwrite_inputs


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Sequential(nn.Conv2d(4, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.LeakyReLU(0.2)),
        nn.Flatten(),
        nn.Linear(24, 3),
        nn.LayerNorm(3),
        nn.ReLU(),
    )
    return layers.double().to(memory_format=torch.channels_last)


def gradients(layers: nn.Module, twice: bool) -> list[torch.Tensor]:
    torch.manual_seed(1)
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    out = layers(x).square().sum()
    if twice:
        (slope,) = torch.autograd.grad(out, x, create_graph=True)
        out = out + slope.square().sum()
    out.backward()
    assert x.grad is not None
    return [x.grad, *(p.grad for p in layers.parameters() if p.grad is not None)]


def test_gradients_are_the_same_also_of_gradients() -> None:
    plain = network()
    lean = copy.deepcopy(plain)
    overwrite_inputs(lean)
    keep_layout_of_gradients(lean)
    for twice in (False, True):
        for a, b in zip(gradients(plain, twice), gradients(lean, twice), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        plain.zero_grad()
        lean.zero_grad()


def in_place(layers: nn.Module) -> list[bool]:
    return [bool(layer.inplace) for layer in layers.modules() if isinstance(layer, nn.LeakyReLU | nn.ReLU)]


def test_only_what_nothing_else_reads_is_overwritten() -> None:
    layers = network()
    overwrite_inputs(layers)
    assert in_place(layers) == [True, True, True]
    # The input of a Sequential belongs to somebody else, a tanh's backward pass reads its output.
    foreign = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Identity(), nn.ReLU())
    overwrite_inputs(foreign)
    assert in_place(foreign) == [False, False]
    unnormalised = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Identity(), nn.ReLU())
    overwrite_inputs(unnormalised)
    assert in_place(unnormalised) == [True]


def test_gradients_come_in_the_layout_of_the_network() -> None:
    seen: list[bool] = []
    layers = network()
    keep_layout_of_gradients(layers)
    flatten = layers[3]
    flatten.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    layers[2].register_full_backward_hook(
        lambda _, __, out: seen.append(out[0].is_contiguous(memory_format=torch.channels_last))
    )
    gradients(layers, twice=False)
    assert seen == [True, True]


def test_detectors_have_something_to_overwrite() -> None:
    for name in ("ganomaly", "skip_ganomaly", "ebgan"):
        detector = make_config({"detector": {"name": name, "width": 4, "nz": 4}}).build(1)
        before = sum(in_place(detector))
        overwrite_inputs(detector)
        assert sum(in_place(detector)) > before == 0
