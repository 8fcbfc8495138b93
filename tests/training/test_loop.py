"""The loop: budgets, resume, interruption, unhealthy numbers, evenly on every detector."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from inspect_gan.config import Config, load_config
from inspect_gan.detector import Detector, detectors
from inspect_gan.errors import InspectGanError, UnhealthyTraining
from inspect_gan.imaging import Image
from inspect_gan.locks import locked
from inspect_gan.run import load_held_out, load_record, load_weights
from inspect_gan.training import fit, loop
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


def sources(count: int = 2, seed: int = 0, shape: tuple[int, int, int] = (64, 160, 1)) -> list[Source]:
    rng = np.random.default_rng(seed)
    images = [Image(rng.random(shape, dtype=np.float32), 32) for _ in range(count)]
    return [Source(f"image {i}", lambda image=image: image) for i, image in enumerate(images)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    detector = load_weights(run / "weights.safetensors").detector
    assert not any(module.training for module in detector.modules())
    return detector.state_dict()


def stats(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def assert_same_weights(run: Path, other: Path) -> None:
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


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

    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    lines = [stats(tmp_path / run) for run in ("whole", "parts")]
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


def test_images_that_were_moved_are_the_same(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=2"), tmp_path / "run")
    for steps in (3, 4):
        moved = [Source(f"/elsewhere/{steps}/{source.name}", source.load) for source in sources()]
        fit_run(moved, config(f"training.steps={steps}"), tmp_path / "run", resume=True)
    fit_run(sources(), config("training.steps=4"), tmp_path / "whole")
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    assert [entry["name"] for entry in load_record(tmp_path / "run" / "config.yaml")[1]["data"]] == [
        "image 0",
        "image 1",
    ]


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


@pytest.mark.parametrize(("budget", "short", "long"), [("steps", 4, 12), ("minutes", 0.0001, 0.1)])
def test_a_stage_that_has_ended_is_not_trained_longer_and_it_is_said(
    budget: str, short: float, long: float, tmp_path: Path
) -> None:
    console = Console(file=(tmp_path / "log").open("w"), width=300)
    settings = ["detector.name=fanogan", "detector.critic_steps=2"]
    said = []
    for length in (short, short, long, long):
        with suppress(UnhealthyTraining):
            run, resume = tmp_path / "run", (tmp_path / "run").exists()
            fit_run(sources(), config(*settings, f"training.{budget}={length}"), run, resume=resume, console=console)
        console.file.flush()
        said.append((tmp_path / "log").read_text().count("only stage encoder and what follows it are trained longer"))
    console.file.close()
    assert said == [0, 0, 1, 2]


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


def spoil(monkeypatch: pytest.MonkeyPatch, tick: int, how: Callable[[Trainer], None]) -> None:
    """Let `how` change a trainer after so many steps, behind finite losses."""
    step = Trainer._step

    def spoilt(self: Trainer, *args: object) -> None:
        step(self, *args)  # type: ignore[arg-type]
        if self.position.ticks == tick:
            how(self)

    monkeypatch.setattr(Trainer, "_step", spoilt)


@torch.no_grad()
def ruin_weights(trainer: Trainer) -> None:
    next(trainer.detector.decoder.parameters()).fill_(float("inf"))  # type: ignore[operator, union-attr]


def explode_gradients(trainer: Trainer) -> None:
    """Squares beyond float32 in Adam's second moment: the weight would stand still for ever."""
    moments = next(iter(trainer._optimizers["generator"].state.values()))
    moments["exp_avg_sq"].fill_(float("inf"))


@pytest.mark.parametrize(
    ("how", "what"), [(ruin_weights, "weights of decoder"), (explode_gradients, "gradients of generator")]
)
def test_a_checkpoint_is_never_replaced_by_a_spoilt_one(
    how: Callable[[Trainer], None], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = ["training.log_every=1000", "training.checkpoint_minutes=1e-6", "training.steps=12"]
    spoil(monkeypatch, 12, how)  # two steps an iteration: in the sixth
    with pytest.raises(UnhealthyTraining, match=f"{what} is no longer a finite number.*last good checkpoint is kept"):
        fit_run(sources(), config(*often), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["position"]["iteration"] == 5
    assert all(torch.isfinite(value).all() for value in state["detector"].values())
    monkeypatch.undo()
    fit_run(sources(), config(*often), tmp_path / "run", resume=True)
    fit_run(sources(), config(*often), tmp_path / "whole")
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_the_last_checkpoint_before_a_collapse_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alike: list[int] = []
    monkeypatch.setattr(loop, "TOO_SHORT", 3)
    monkeypatch.setattr(loop, "varies", lambda detector, x, reconstructs: len(alike) < 5 and not alike.append(1))  # type: ignore[func-returns-value]
    console = Console(file=(tmp_path / "log").open("w"), width=300)
    settings = config("training.checkpoint_minutes=1e-6", "training.steps=12")
    fit_run(sources(), settings, tmp_path / "run", console=console)
    console.file.close()
    # Looked at from the third iteration on, alive five times.
    assert (tmp_path / "log").read_text().count("are all alike") == 1
    kept = torch.load(tmp_path / "run" / "state_healthy.pt", weights_only=True)
    assert (kept["position"]["iteration"], kept["alive"]) == (7, True)

    # It is a checkpoint like any other: training can end there.
    (tmp_path / "run" / "state_healthy.pt").replace(tmp_path / "run" / "state.pt")
    fit_run(sources(), config("training.checkpoint_minutes=1e-6", "training.steps=7"), tmp_path / "run", resume=True)
    fit_run(sources(), config("training.steps=7"), tmp_path / "short")
    assert_same_weights(tmp_path / "run", tmp_path / "short")


def test_want_of_memory_is_reported_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(trainer: Trainer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    spoil(monkeypatch, 12, no_memory)
    settings = config("training.checkpoint_minutes=1e-6", "training.steps=12")
    with pytest.raises(InspectGanError, match=r"batch_size=8 \(CUDA out of memory.*batch_size=4; the last checkpoint"):
        fit_run(sources(), settings, tmp_path / "run")
    monkeypatch.undo()
    fit_run(sources(), settings, tmp_path / "run", resume=True)


def test_want_of_memory_that_says_nothing_for_the_smallest_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(trainer: Trainer) -> None:
        raise MemoryError

    spoil(monkeypatch, 1, no_memory)
    with pytest.raises(InspectGanError, match=r"batch_size=3 \(MemoryError\).*with a smaller detector\.width"):
        fit_run(sources(), config("training.steps=1", "training.batch_size=3"), tmp_path / "run")


def test_a_run_stopped_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=4"), tmp_path / "whole")
    run = tmp_path / "run"
    fit_run(sources(), config("training.steps=3"), run)
    for name in ("state.pt", "weights.safetensors", "health.json", "held_out.npz"):
        (run / name).unlink()
    fit_run(sources(), config("training.steps=4"), run, resume=True)
    assert_same_weights(run, tmp_path / "whole")
    assert [line["iteration"] for line in stats(run)] == [3, 4]

    # Even before its configuration was written: hidden files are no run, and nothing is resumed by mistake.
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / f".{'0' * 32}.tmp").write_text("half")
    fit_run(sources(), config("training.steps=4"), tmp_path / "empty", resume=True)
    assert_same_weights(tmp_path / "empty", tmp_path / "whole")
    assert not list((tmp_path / "empty").glob("*.tmp"))
    (run / "state.pt").unlink()
    with pytest.raises(InspectGanError, match=r"nothing to resume: .*state\.pt"):
        fit_run(sources(), config("training.steps=4"), run, resume=True)


def test_a_longer_budget_is_part_of_the_run(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=4"), tmp_path / "run")
    fit_run(sources(), config("training.steps=8"), tmp_path / "run", resume=True)
    assert load_record(tmp_path / "run" / "config.yaml")[0].training.steps == 8


@pytest.mark.parametrize(
    "own", [["detector.name=rcgan"], ["tricks.input_noise=0.75", "training.epoch_patches=8"]], ids=["rcgan", "noise"]
)
def test_the_same_training_gives_the_same_files(own: list[str], tmp_path: Path) -> None:
    names = ("weights.safetensors", "health.json", "held_out.npz")
    settings = config(*own, "training.steps=4")
    for run in ("a", "b"):
        fit_run(sources(), settings, tmp_path / run)
    fit_run(sources(), settings, tmp_path / "b", resume=True)  # finished already
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_resumed_run_keeps_its_division_at_another_rate(tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "run" / "config.yaml"
    wide = sources(1, shape=(96, 640, 1))  # a tenth holds 6 blocks; two tenths would be held out for a rate of 0.17
    fit_run(wide, config("training.steps=3"), run)
    held_out = (run / "held_out.npz").read_bytes()
    first = path.read_text()
    path.write_text(first.replace("  divided_for: 0.3\n", ""))  # as earlier versions wrote it
    for steps, rate in ((4, ["scoring.target_fpr=0.17"]), (5, [])):
        fit_run(wide, load_config(path, [f"training.steps={steps}", *rate]), run, resume=True)
        assert load_record(path)[0].scoring.target_fpr == 0.17
    assert (run / "held_out.npz").read_bytes() == held_out
    fit_run(wide, config("training.steps=5"), tmp_path / "whole")
    assert_same_weights(run, tmp_path / "whole")

    before = path.read_bytes()
    with pytest.raises(InspectGanError, match="needs at least 9 held-out normal patches, there are 6"):
        fit_run(wide, load_config(path, ["training.steps=6", "scoring.target_fpr=0.1"]), run, resume=True)
    (run / "state.pt").write_bytes(b"damaged")
    with pytest.raises(InspectGanError, match=r"state\.pt is damaged"):
        fit_run(wide, load_config(path, ["training.steps=6", "scoring.target_fpr=0.2"]), run, resume=True)
    assert path.read_bytes() == before


def test_a_line_of_statistics_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=3"), tmp_path / "run")
    with (tmp_path / "run" / "stats.jsonl").open("a") as file:
        file.write('{"name": "gan", "it')
    fit_run(sources(), config("training.steps=6"), tmp_path / "run", resume=True)
    assert [line["iteration"] for line in stats(tmp_path / "run")] == [3, 6]


def test_health_knows_the_losses_of_every_stage(tmp_path: Path) -> None:
    own = ["detector.name=fanogan", "objective=nonsaturating", "detector.penalty=normal"]
    fit_run(sources(), config(*own, "training.steps=6"), tmp_path / "run")
    last = {line["name"]: line for line in stats(tmp_path / "run")}
    (name,) = [name for name in last["gan"] if name.endswith("/penalty_real")]
    assert name not in last["encoder"]
    assert json.loads((tmp_path / "run" / "health.json").read_text())["penalty_real"] == last["gan"][name]


def test_one_process_trains_in_a_run(tmp_path: Path) -> None:
    fit_run(sources(), config("training.steps=2"), tmp_path / "run")
    (tmp_path / "new").mkdir()
    for run, resume in (("run", True), ("new", False)):
        with (
            locked(tmp_path / run / ".lock"),
            pytest.raises(InspectGanError, match="another process trains in"),
        ):
            fit_run(sources(), config("training.steps=4"), tmp_path / run, resume=resume)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]


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


def test_a_gpu_that_is_not_there_is_asked_for_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InspectGanError, match="finds no GPU here; use auto or cpu"):
        fit_run(sources(), config("training.device=cuda", "training.steps=1"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


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


def test_pictures_are_made_with_the_statistics_of_the_day_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[Trainer] = []
    shown: list[int] = []
    step, images = Trainer._step, loop.Monitor.images

    def remember(self: Trainer, *args: object) -> None:
        trainers[:] = [self]
        step(self, *args)  # type: ignore[arg-type]

    def compare(self: loop.Monitor, detector: Detector, x: torch.Tensor, stage: str, ticks: int) -> None:
        pairs = zip(detector.buffers(), trainers[0].detector.buffers(), strict=True)
        assert all(torch.equal(average, live) for average, live in pairs)
        shown.append(ticks)
        images(self, detector, x, stage, ticks)

    fit_run(sources(), config("training.steps=6"), tmp_path / "without")
    monkeypatch.setattr(Trainer, "_step", remember)
    monkeypatch.setattr(loop.Monitor, "images", compare)
    fit_run(sources(), config("training.steps=6", "training.image_every=2"), tmp_path / "with")
    assert len(shown) == 3
    assert_same_weights(tmp_path / "without", tmp_path / "with")


def test_few_images_give_up_more_of_themselves(tmp_path: Path) -> None:
    # 2 images of 64×160 px: a band of 32 px holds 2 × 2 blocks, one of 48 px (0.3 · 160) no more.
    fit_run(sources(), config("training.steps=1", "scoring.target_fpr=0.2"), tmp_path / "enough")
    with pytest.raises(InspectGanError, match=r"needs at least 9 held-out normal patches, there are 4"):
        fit_run(sources(), config("training.steps=1", "scoring.target_fpr=0.1"), tmp_path / "short")
    assert not (tmp_path / "short").exists()
    wide = sources(1, shape=(96, 640, 1))
    # One tenth holds 3 × 2 blocks, 0.2 holds 3 × 4; eleven are the fewest whose highest is not the threshold.
    fit_run(wide, config("training.steps=1", "scoring.target_fpr=0.17"), tmp_path / "widened")
    with np.load(tmp_path / "widened" / "held_out.npz") as held:
        assert [held[name].shape for name in held.files] == [(96, 128, 1)]


@pytest.mark.parametrize(("rate", "regions"), [(0.2, 2), (0.7, 1)])
def test_as_much_held_out_material_is_kept_as_the_rate_needs(
    rate: float, regions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "HELD_OUT_PIXELS", 1)
    # Two bands of two blocks: nine are comfortable for a rate of 0.2, two for one of 0.7.
    fit_run(sources(), config("training.steps=1", f"scoring.target_fpr={rate}"), tmp_path / "run")
    assert len(load_held_out(tmp_path / "run" / "held_out.npz")) == regions
