"""Swapped roles of real and generated patches change nothing but the sign of the discriminator's output.

With its last layer negated a discriminator is the same player under swapped roles: its other weights get the same
gradients, and the optimisers treat both signs alike. Two runs of the training loop from equal seeds must then end with
the same generator. Label flipping alone is therefore no ablation.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from inspect_gan.config import make_config
from inspect_gan.detector import Detector
from inspect_gan.models.networks import Critic
from inspect_gan.training.loop import Trainer
from inspect_gan.training.monitor import Monitor

SILENT = cast(Monitor, SimpleNamespace(**{name: lambda *_: None for name in dir(Monitor) if name[0] != "_"}))


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """A bias before a normalisation layer has no gradient but rounding, and Adam makes whole steps of gradients of any
    size; in double precision rounding is nothing beside the 1e-8 that Adam adds to its divisor."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def patches(draw: int) -> Tensor:
    return torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(draw)) * 2 - 1


def heads(detector: Detector) -> list[str]:
    """Names of the last layers' parameters of all discriminators."""
    critics = [name for name, network in detector.named_children() if isinstance(network, Critic)]
    return [
        f"{name}.head.{part}" for name in critics for part, _ in detector.get_submodule(name).head.named_parameters()
    ]


def trained(
    path: Path, settings: dict[str, Any], objective: str, tricks: dict[str, Any], flip: bool, negate: bool
) -> tuple[Detector, dict[str, Tensor]]:
    """A detector after three iterations of the training loop, and its weights before."""
    config = make_config(
        {
            "detector": {"nz": 6, "width": 4, **settings},
            "objective": objective,
            "tricks": {**tricks, "flip_labels": flip},
            "training": {"steps": 3, "batch_size": 6, "precision": "32-true", "device": "cpu"},
        }
    )
    torch.manual_seed(0)
    detector = config.build(1)
    with torch.no_grad():
        for name in heads(detector) if negate else ():
            detector.get_parameter(name).neg_()
    before = {name: value.detach().clone() for name, value in detector.named_parameters()}
    Trainer(detector, patches, config.training, 1, path / f"{flip}{negate}", SILENT, "").fit()
    return detector, before


@pytest.mark.parametrize(
    ("settings", "objective", "tricks"),
    [
        ({"name": "anogan"}, "nonsaturating", {}),
        ({"name": "anogan", "w_fm": 0.1}, "minimax", {"input_noise": 0.75}),
        ({"name": "anogan"}, "mim", {}),
        ({"name": "anogan", "spectral_norm": True}, "hinge", {}),
        ({"name": "bigan", "penalty": "normal"}, "nonsaturating", {}),
        ({"name": "bigan"}, "wgan", {}),
        ({"name": "alad"}, "nonsaturating", {}),
        ({"name": "alad", "objective_all": True}, "hinge", {}),
        ({"name": "rcgan"}, "nonsaturating", {}),
        ({"name": "ganomaly", "adv_mode": "objective"}, "nonsaturating", {}),
        ({"name": "skip_ganomaly"}, "minimax", {}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_swapped_roles_train_the_same_generator(
    settings: dict[str, Any], objective: str, tricks: dict[str, Any], tmp_path: Path
) -> None:
    plain, before = trained(tmp_path, settings, objective, tricks, flip=False, negate=False)
    flipped, _ = trained(tmp_path, settings, objective, tricks, flip=True, negate=True)
    negative = heads(plain)
    assert negative
    for name, value in plain.named_parameters():
        other = flipped.get_parameter(name)
        wanted = -value if name in negative else value
        assert torch.allclose(other, wanted, rtol=0, atol=1e-6), name
    moved = generator_weight(plain)
    assert (plain.get_parameter(moved) - before[moved]).abs().max() > 1e-4


def test_swapped_roles_alone_are_another_run(tmp_path: Path) -> None:
    """Without negating the last layer the weights differ: equality above is no accident of the short run."""
    settings = {"name": "anogan"}
    plain, _ = trained(tmp_path, settings, "nonsaturating", {}, flip=False, negate=False)
    other, _ = trained(tmp_path, settings, "nonsaturating", {}, flip=True, negate=False)
    name = generator_weight(plain)
    assert not torch.allclose(plain.get_parameter(name), other.get_parameter(name), rtol=0, atol=1e-5)


def generator_weight(detector: Detector) -> str:
    """Name of the weight of the generating network's last layer."""
    names = [name for name, value in detector.named_parameters() if name.endswith("weight") and value.dim() == 4]
    return next(name for name in reversed(names) if name.partition(".")[0] in ("generator", "decoder"))
