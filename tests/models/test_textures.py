"""A short training on waves, then waves with a bright spot: the smallest run from which a detector must return better
than chance. Spots stand out by nothing but their shape: the contrast of the waves varies more than their brightness."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from inspect_gan.config import make_config
from inspect_gan.detector import Detector
from inspect_gan.evaluation.metrics import auroc
from inspect_gan.training.loop import Trainer
from inspect_gan.training.monitor import Monitor

SILENT = cast(Monitor, SimpleNamespace(**{name: lambda *_: None for name in dir(Monitor) if name[0] != "_"}))
ROWS, COLS = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")


def textures(n: int, seed: int) -> Tensor:
    """Waves 16 pixels long of random contrast and phase, with some noise: (n, 1, 32, 32) in [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    contrast, phase = torch.rand(2, n, 1, 1, 1, generator=random)
    waves = (0.2 + 0.7 * contrast) * torch.sin(2 * math.pi * (COLS / 16 + phase))
    return (waves + 0.05 * torch.randn(n, 1, 32, 32, generator=random)).clamp(-1, 1)


def with_spot(patches: Tensor, seed: int) -> Tensor:
    """A bright spot about 8 pixels wide somewhere in the middle half of each patch."""
    row, col = 8 + 16 * torch.rand(2, len(patches), 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    spot = torch.exp(-((ROWS - row).square() + (COLS - col).square()) / 32)
    return (1 - spot) * patches + 0.7 * spot


def told_apart(detector: Detector) -> float:
    x = torch.cat([textures(200, 10**6), with_spot(textures(200, 10**6 + 1), 0)])
    with torch.no_grad():
        scores = detector.eval().scores(x, ["res_l2"]).patch["res_l2"]
    return auroc(np.repeat([False, True], 200), scores.numpy())


def test_spots_are_told_from_textures(tmp_path: Path) -> None:
    config = make_config(
        {
            "detector": {"name": "ganomaly", "nz": 16, "width": 8},
            "training": {"steps": 200, "batch_size": 16, "precision": "32-true", "device": "cpu"},
        }
    )
    torch.manual_seed(0)
    detector = config.build(1)
    assert told_apart(detector) < 0.6
    trainer = Trainer(detector, lambda draw: textures(16, draw), config.training, 1, tmp_path / "state", SILENT, "")
    trainer.fit()
    assert told_apart(trainer.averages.shadow) > 0.7
