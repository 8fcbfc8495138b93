"""The discriminator that judges every pixel."""

import pytest
import torch

from inspect_gan.models.pixel_critic import PixelCritic


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_critic_of_pixels(size: int, channels: int) -> None:
    critic = PixelCritic(channels, 4, "batch").eval()
    x = torch.randn(2, channels, size, size)
    out, features = critic.outputs(x)
    assert out.shape == (2, 1, size, size) and features.shape == (2, 32)
    assert torch.equal(critic.features(x), features) and torch.equal(critic(x), out)


def test_critic_of_pixels_looks_at_the_code() -> None:
    torch.manual_seed(0)
    critic = PixelCritic(1, 4, "batch", nz=3).eval()
    x = torch.randn(1, 1, 32, 32)
    assert not torch.equal(critic(x, torch.zeros(1, 3)), critic(x, torch.ones(1, 3)))


def test_frozen_critic_of_pixels_keeps_its_statistics() -> None:
    critic = PixelCritic(1, 4, "batch").train()

    def statistics() -> list[float]:
        return [value.sum().item() for name, value in critic.named_buffers() if "running" in name]

    before = statistics()
    critic.requires_grad_(False)
    critic(torch.randn(2, 1, 32, 32))
    critic.features(torch.randn(2, 1, 32, 32))
    assert statistics() == before
    critic.requires_grad_(True)
    critic(torch.randn(2, 1, 32, 32))
    assert statistics() != before
