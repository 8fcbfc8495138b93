"""Where training patches are cut. A GPU is stood in for by the device "meta", whose tensors hold no values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from inspect_gan.config import load_config
from inspect_gan.hardware import free_memory
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.training import fit


def batches(channels: int = 1, *overrides: str, scaling: str = "minus1_1") -> Callable[[int], Tensor]:
    """Of 1.2 MB of images, three times as much in colour."""
    rng = np.random.default_rng(0)
    images = [rng.random((height, 400, channels), dtype=np.float32) for height in (350, 400)]
    preprocess = Preprocess.model_validate({"size": 8, "channels": channels, "scaling": scaling})
    return fit.batches(images, preprocess, load_config(None, [*overrides]))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "resolve_device", lambda device: "meta")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scaling", ["minus1_1", "per_patch_std"])
@pytest.mark.usefixtures("elsewhere")
def test_images_that_fit_stay_on_the_device(channels: int, scaling: str) -> None:
    batch = batches(channels, scaling=scaling)(0)
    assert batch.is_meta
    assert batch.shape == (64, channels, 8, 8)
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("elsewhere")
def test_images_on_disk_stay_on_the_host() -> None:
    assert batches(1, "data.memory_mb=1")(0).device.type == "cpu"


@pytest.mark.parametrize(("free", "device"), [(2.3e6, "cpu"), (2.5e6, "meta")])
@pytest.mark.usefixtures("elsewhere")
def test_images_take_half_of_the_free_memory_at_most(free: float, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "free_memory", lambda device: free)
    assert batches()(0).device.type == device


def test_free_memory_is_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {"cuda": (3_000, 8_000)}[device])
    assert free_memory("cuda") == 3_000
    assert free_memory("cpu") == float("inf")


@pytest.mark.parametrize("scaling", ["minus1_1", "per_patch_std"])
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_the_same_from_memory_and_from_disk(channels: int, scaling: str) -> None:
    memory = batches(channels, scaling=scaling)
    disk = batches(channels, "data.memory_mb=1", scaling=scaling)
    assert all(torch.equal(memory(number), disk(number)) for number in range(3))
