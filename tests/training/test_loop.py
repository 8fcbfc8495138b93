"""The loop: budgets, resume, interruption, unhealthy numbers, evenly on every detector."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from inspect_gan.config import Config, load_config
from inspect_gan.detector import detectors
from inspect_gan.errors import InspectGanError, UnhealthyTraining
from inspect_gan.imaging import Image
from inspect_gan.run import load_weights
from inspect_gan.training import loop
from inspect_gan.training.fit import Source, fit_run
from inspect_gan.training.loop import Interrupted, Trainer, budgets

TINY = [
    "detector.nz=8",
    "detector.width=4",
    "training.batch_size=8",
    "training.log_every=3",
    "training.precision=32-true",
    "scoring.target_fpr=0.3",
]


def config(*overrides: str) -> Config:
    return load_config(None, [*TINY, *overrides])


def sources(count: int = 2, seed: int = 0) -> list[Source]:
    rng = np.random.default_rng(seed)
    images = [Image(rng.random((64, 160, 1), dtype=np.float32), 32) for _ in range(count)]
    return [Source(f"image {i}", lambda image=image: image) for i, image in enumerate(images)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    detector = load_weights(run / "weights.safetensors").detector
    assert not any(module.training for module in detector.modules())
    return detector.state_dict()


@pytest.mark.parametrize("name", detectors.names())
def test_resumed_run_equals_uninterrupted_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(f"detector.name={name}", "training.steps=10")
    fit_run(sources(), settings, tmp_path / "whole")

    taken = 0
    step = Trainer._step

    def stop_midway(self: Trainer, *args: object) -> None:
        nonlocal taken
        step(self, *args)  # type: ignore[arg-type]
        taken += 1
        if taken in (7, 17):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_step", stop_midway)
    for resume in (False, True):
        with pytest.raises(Interrupted):
            fit_run(sources(), settings, tmp_path / "parts", resume=resume)
        assert not (tmp_path / "parts" / "weights.safetensors").exists()
    fit_run(sources(), settings, tmp_path / "parts", resume=True)

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    lines = [
        [json.loads(line) for line in (tmp_path / run / "stats.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    for line in (*lines[0], *lines[1]):
        del line["seconds"], line["total_seconds"]
    assert lines[0] == lines[1]


def test_same_seed_same_weights_other_seed_other_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit_run(sources(), config("training.steps=3", f"seed={seed}"), tmp_path / name)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_resume_refuses_other_settings_and_lists_them(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=2"), tmp_path / "run")
    with pytest.raises(InspectGanError, match=r"detector\.nz: 8 -> 9; seed: 0 -> 5"):
        fit_run(sources(), config("training.steps=2", "detector.nz=9", "seed=5"), tmp_path / "run", resume=True)


def test_resume_refuses_other_images(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=2"), tmp_path / "run")
    with pytest.raises(InspectGanError, match="other training images"):
        fit_run(sources(seed=1), config("training.steps=4"), tmp_path / "run", resume=True)


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=2"), tmp_path / "run")
    before = weights(tmp_path / "run")
    with pytest.raises(InspectGanError, match="not empty"):
        fit_run(sources(), config("training.steps=2", "seed=1"), tmp_path / "run")
    assert all(torch.equal(before[key], value) for key, value in weights(tmp_path / "run").items())


def test_a_finished_run_can_be_trained_longer(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=4"), tmp_path / "short")
    fit_run(sources(), config("training.steps=8"), tmp_path / "short", resume=True)
    fit_run(sources(), config("training.steps=8"), tmp_path / "long")
    short, long = weights(tmp_path / "short"), weights(tmp_path / "long")
    assert all(torch.equal(short[key], long[key]) for key in long)


def test_nan_ends_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=3"), tmp_path / "run")
    before = (tmp_path / "run" / "state.pt").read_bytes()
    spoilt = Image(np.full((64, 160, 1), np.nan, dtype=np.float32), 32)
    trainer_images = [Source("image 0", lambda: spoilt), Source("image 1", lambda: spoilt)]
    with pytest.raises(UnhealthyTraining, match=r"no longer a finite number.*learning rates"):
        fit_run(trainer_images, config("training.steps=3", "patches.range=full"), tmp_path / "bad")
    assert UnhealthyTraining.exit_code == 3
    assert not (tmp_path / "bad" / "state.pt").exists()
    assert (tmp_path / "run" / "state.pt").read_bytes() == before


def test_budgets_follow_the_stages() -> None:
    stages = config("detector.name=fanogan").build(1).stages()
    by_steps = budgets(stages, config("training.steps=100").training)
    assert [b.iterations for b in by_steps] == [70, 30]
    by_minutes = budgets(stages, config("training.minutes=10").training)
    assert [b.seconds for b in by_minutes] == pytest.approx([420, 180])
    published = budgets(stages, load_config(None).training)
    assert [b.iterations for b in published] == [50 * 800, 100 * 800]


def test_time_budget_ends(tmp_path: Path) -> None:
    with suppress(UnhealthyTraining):  # how much is learned in a second depends on the machine
        fit_run(sources(), config("training.minutes=0.003"), tmp_path / "run")
    last = json.loads((tmp_path / "run" / "stats.jsonl").read_text().splitlines()[-1])
    assert last["iteration"] >= 1


def test_critic_steps_each_see_a_fresh_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bytes]] = []
    step = Trainer._step

    def record(self: Trainer, phase: loop.Phase, batch: loop.Batch) -> None:
        seen.append((phase.name, batch.x.numpy().tobytes()))
        step(self, phase, batch)

    monkeypatch.setattr(Trainer, "_step", record)
    settings = config("detector.name=fanogan", "detector.critic_steps=3", "training.steps=2", "data.augment=none")
    fit_run(sources(), settings, tmp_path / "run")
    names = [name for name, _ in seen]
    assert names[:4] == ["discriminator"] * 3 + ["generator"]
    assert len({x for name, x in seen[:3]}) == 3
    assert seen[3][1] == seen[2][1]


def test_half_precision_on_a_cpu_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU can")
    with pytest.raises(InspectGanError, match="bf16-mixed or 32-true"):
        fit_run(sources(), config("training.precision=16-mixed", "training.steps=1"), tmp_path / "run")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_precisions_train_finite_weights(precision: str, tmp_path: Path) -> None:
    fit_run(sources(), config(f"training.precision={precision}", "training.steps=3"), tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_tensorboard_and_plain_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect_gan.training.monitor.PLAIN_EVERY_SECONDS", 0.0)
    console = Console(file=(tmp_path / "log").open("w"), force_terminal=False)
    settings = config("detector.name=fanogan", "training.steps=6", "training.image_every=2")
    fit_run(sources(), settings, tmp_path / "run", console=console)
    console.file.close()
    assert "patches/s" in (tmp_path / "log").read_text()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tb"))
    events.Reload()
    assert {f"gan/{kind}" for kind in ("real", "reconstructed", "residual", "generated")} <= set(
        events.Tags()["images"]
    )
    assert "gan/discriminator/gradient_penalty" in events.Tags()["scalars"]


def test_few_images_give_up_more_of_themselves(tmp_path: Path) -> None:
    # 2 images of 64×160 px: a band of 32 px holds 2 × 2 blocks, one of 48 px (0.3 · 160) no more.
    fit_run(sources(), config("training.steps=1", "scoring.target_fpr=0.2"), tmp_path / "enough")
    with pytest.raises(InspectGanError, match=r"needs at least 9 held-out normal patches, there are 4"):
        fit_run(sources(), config("training.steps=1", "scoring.target_fpr=0.1"), tmp_path / "short")
    assert not (tmp_path / "short").exists()
    wide = [Source("wide", lambda: Image(np.random.default_rng(0).random((96, 640, 1), dtype=np.float32), 32))]
    # One tenth holds 3 × 2 blocks, 0.2 holds 3 × 4.
    fit_run(wide, config("training.steps=1", "scoring.target_fpr=0.09"), tmp_path / "widened")
    with np.load(tmp_path / "widened" / "held_out.npz") as held:
        assert [held[name].shape for name in held.files] == [(96, 128, 1)]
