"""Training on one CPU without Lightning Fabric is training with it, wherever the images are kept."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision

from inspect_gan.config import load_config
from inspect_gan.detector import Batch, Phase
from inspect_gan.imaging import Image
from inspect_gan.run import load_weights
from inspect_gan.training import loop
from inspect_gan.training.fit import Source, fit_run
from inspect_gan.training.launch import Launch, fabric
from inspect_gan.training.loop import Trainer


@pytest.mark.parametrize("clip", ["null", "0.01"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_weights_equal_those_trained_with_fabric_from_images_on_disk(
    precision: str, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image(np.random.default_rng(0).random((480, 800, 1), dtype=np.float32), 32)
    tiny = ["detector.nz=8", "detector.width=4", "training.batch_size=8", "scoring.target_fpr=0.3"]
    tiny += ["training.steps=6", f"training.precision={precision}", f"training.clip_grad={clip}"]

    def trained(name: str, memory_mb: int) -> dict[str, torch.Tensor]:
        settings = load_config(None, [*tiny, f"data.memory_mb={memory_mb}"])
        fit_run([Source("image", lambda: image)], settings, tmp_path / name)
        return load_weights(tmp_path / name / "weights.safetensors").detector.state_dict()

    without = trained("without", 100)
    monkeypatch.setattr(loop, "launch", fabric)
    with_fabric = trained("with", 1)  # the image takes 1.5 MB
    assert all(torch.equal(value, with_fabric[key]) for key, value in without.items())


def test_half_precision_clips_gradients_without_their_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(device: str, precision: str) -> Launch:
        scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0))
        return cast(Launch, Fabric(accelerator="cpu", devices=1, plugins=[scaled]))

    norms: list[float] = []
    step = Trainer._step

    def measured(self: Trainer, phase: Phase, batch: Batch) -> None:
        step(self, phase, batch)
        gradients = [p.grad for name in phase.trains for p in getattr(self.detector, name).parameters()]
        norms.append(float(torch.nn.utils.get_total_norm([grad for grad in gradients if grad is not None])))

    monkeypatch.setattr(loop, "launch", half)
    monkeypatch.setattr(Trainer, "_step", measured)
    image = Image(np.random.default_rng(0).random((96, 160, 1), dtype=np.float32), 32)
    tiny = ["detector.nz=8", "detector.width=4", "training.batch_size=8", "scoring.target_fpr=0.3"]
    settings = load_config(None, [*tiny, "training.steps=2", "training.precision=16-mixed", "training.clip_grad=0.01"])
    fit_run([Source("image", lambda: image)], settings, tmp_path / "run")
    assert norms == pytest.approx([0.01] * 4, rel=1e-3)
