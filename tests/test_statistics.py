"""Running statistics of networks."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from inspect_gan.statistics import settling, statistics_kept


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(2), spectral_norm(nn.Conv2d(2, 2, 1)))
        self.second = nn.BatchNorm2d(2)


def test_passes_that_leave_no_trace() -> None:
    layer = nn.BatchNorm2d(2)
    with statistics_kept(layer):
        layer(torch.randn(4, 2, 3, 3) + 5)
    assert layer.running_mean is not None and layer.running_mean.tolist() == [0, 0] and layer.momentum == 0.1


def test_settled_statistics_are_those_of_the_passes() -> None:
    torch.manual_seed(0)
    pair = Pair().eval()
    pair.first[0].running_mean.fill_(77)
    vector = pair.first[1].parametrizations.weight[0]._u.clone()
    with settling(pair, ["first"]) as settle:
        for number in range(16):
            settle(number)
            pair.first(3 + 2 * torch.randn(64, 2, 8, 8))
            pair.second(torch.randn(4, 2, 3, 3) + 9)
    assert pair.first[0].running_mean.tolist() == pytest.approx([3, 3], abs=0.05)
    assert pair.first[0].running_var.tolist() == pytest.approx([4, 4], rel=0.02)
    assert pair.second.running_mean.tolist() == [0, 0]
    assert torch.equal(pair.first[1].parametrizations.weight[0]._u, vector)
    assert pair.first[0].momentum == 0.1 and not pair.first.training
    assert not any(parameter.requires_grad for parameter in pair.parameters())
