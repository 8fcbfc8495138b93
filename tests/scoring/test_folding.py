"""Folded detectors score as the plain ones do."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from inspect_gan.config import make_config
from inspect_gan.detector import Detector, detectors
from inspect_gan.models.networks import up
from inspect_gan.scoring.folding import folded


def used(name: str, preset: str) -> Detector:
    """A detector whose normalisation layers have seen data and whose weights are no longer the initial ones."""
    torch.manual_seed(0)
    quick = {"search_steps": 2, "s_test_steps": 2} if name == "anogan" else {}
    values = {"name": name, "preset": preset, "nz": 6, "width": 4, **quick}
    detector = make_config({"detector": values}).build(1)
    with torch.no_grad():
        for key, value in detector.state_dict().items():
            if key.endswith(("running_mean", "bias")):
                value.add_(0.1 * torch.randn_like(value))
            elif key.endswith("running_var"):
                value.mul_(0.5 + torch.rand_like(value))
    return detector.eval()


@pytest.mark.parametrize("preset", ["default", "thesis"])
@pytest.mark.parametrize("name", detectors.names())
def test_scores_are_the_same(name: str, preset: str) -> None:
    detector = used(name, preset)
    before = copy.deepcopy(detector.state_dict())
    x = torch.rand(5, 1, 32, 32) * 2 - 1
    light = folded(detector)
    with torch.inference_mode():
        plain, fast = detector.scores(x), light.scores(x.clone())
    for key, value in plain.patch.items():
        # Of numbers near zero that were made from larger ones, only the first digits are alike.
        assert torch.allclose(fast.patch[key], value, rtol=1e-5, atol=1e-5), key
    for key, value in plain.maps.items():
        assert torch.allclose(fast.maps[key], value, rtol=1e-4, atol=1e-4), key
    # The detector itself is as it was, and still trains.
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_nothing_is_left_to_normalise() -> None:
    detector = make_config({"detector": {"name": "ganomaly", "preset": "thesis", "width": 4, "nz": 6}}).build(1)
    assert any(parametrize.is_parametrized(module) for module in detector.modules())
    light = folded(detector)
    assert any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in light.modules())
    assert not any(parametrize.is_parametrized(module) for module in light.modules())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_thin_layers_that_double_are_convolutions(channels: int, kernel: int, bias: bool) -> None:
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": "ganomaly", "width": 2, "nz": 3}}).build(channels)
    detector.decoder = nn.Sequential(up(6, channels, kernel, bias), nn.Tanh())
    light = folded(detector)
    assert not any(isinstance(module, nn.ConvTranspose2d) for module in light.decoder.modules())
    for height, width in ((1, 1), (2, 5), (16, 16)):
        x = torch.randn(2, 6, height, width)
        torch.testing.assert_close(light.decoder(x), detector.decoder(x), rtol=1e-5, atol=1e-6)


def test_wide_layers_stay() -> None:
    detector = make_config({"detector": {"name": "ganomaly", "width": 8, "nz": 3}}).build(1)
    kept = [module.out_channels for module in folded(detector).modules() if isinstance(module, nn.ConvTranspose2d)]
    assert kept == [16, 8]
