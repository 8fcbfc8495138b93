"""The training loop: the same for every detector.

A stage repeats iterations until its budget is spent; an iteration runs the stage's phases in order; a phase step is
freeze, loss, backward, clip, optimiser step, weight average.
"""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inspect_gan.config import TrainingSettings
from inspect_gan.detector import Batch, Detector, Phase, Stage
from inspect_gan.errors import CannotResume, UnhealthyTraining
from inspect_gan.hardware import Crowd, resolve_device, resolve_precision
from inspect_gan.imaging import atomic_file
from inspect_gan.layout import keep_layout_of_gradients, overwrite_inputs
from inspect_gan.run import HEALTHY_STATE
from inspect_gan.signals import on_stop_request
from inspect_gan.statistics import settling
from inspect_gan.training.averages import Averages, warm_up
from inspect_gan.training.checkpoint import State, load_state, save_state
from inspect_gan.training.health import TOO_SHORT, varies
from inspect_gan.training.launch import launch, load_scaler_state, scaler_state
from inspect_gan.training.monitor import Monitor


class Interrupted(Exception):
    """Training was stopped by a signal after a checkpoint was written."""


# Batches over which the running statistics of averaged weights are taken.
STATISTICS_BATCHES = 16


@dataclass
class Position:
    """Where training stands. draws: batches drawn; ticks: phase steps taken; seconds: spent in this stage."""

    stage: int = 0
    iteration: int = 0
    draws: int = 0
    ticks: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass(frozen=True)
class Budget:
    """Length of one stage: iterations, or seconds."""

    iterations: int | None = None
    seconds: float | None = None

    def spent(self, position: Position) -> bool:
        if self.iterations is not None:
            return position.iteration >= self.iterations
        assert self.seconds is not None
        return position.seconds >= self.seconds

    def share_done(self, position: Position) -> float:
        if self.iterations is not None:
            return position.iteration / self.iterations
        assert self.seconds is not None
        return min(position.seconds / self.seconds, 1.0)


def budgets(stages: tuple[Stage, ...], settings: TrainingSettings) -> list[Budget]:
    """Length of each stage: a total of steps or minutes by the stages' shares, else the published epochs."""
    shares = [stage.share / sum(stage.share for stage in stages) for stage in stages]
    if settings.minutes is not None:
        return [Budget(seconds=settings.minutes * 60 * share) for share in shares]
    if settings.steps is not None:
        return [Budget(iterations=max(round(settings.steps * share), 1)) for share in shares]
    return [Budget(iterations=stage.epochs * iterations_per_epoch(settings)) for stage in stages]


def iterations_per_epoch(settings: TrainingSettings) -> int:
    return max(settings.epoch_patches // settings.batch_size, 1)


class Trainer:
    """Trains a detector in place; `averages.shadow` holds the weights that score, `latest` each phase's last
    logged losses.

    draw: number of the batch -> x (B, C, S, S) float32 in [-1, 1]; must depend on nothing else, so that a resumed
    run sees the batches an uninterrupted one would. state: where checkpoints go.
    """

    def __init__(
        self,
        detector: Detector,
        draw: Callable[[int], Tensor],
        settings: TrainingSettings,
        seed: int,
        state: Path,
        monitor: Monitor,
        fingerprint: str,
    ):
        self.device = resolve_device(settings.device)
        self.precision = resolve_precision(settings.precision, self.device)
        self.launched = launch(self.device, self.precision)
        self.detector = detector.to(self.launched.device).to(memory_format=torch.channels_last)
        self.averages = Averages(self.detector, warm_up(settings.ema))
        overwrite_inputs(self.detector)
        keep_layout_of_gradients(self.detector)
        self.position = Position()
        self._draw = draw
        self._settings = settings
        self._seed = seed
        self._state = state
        self._monitor = monitor
        self._fingerprint = fingerprint
        self._stages = detector.stages()
        self._budgets = budgets(self._stages, settings)
        self._per_epoch = iterations_per_epoch(settings)
        self._optimizers: dict[str, Any] = {}
        self.latest: dict[str, float] = {}
        self._alive = False  # as of the last checkpoint
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._start_stage()

    def fit(self) -> None:
        """Run all stages, from where `load` has put it if that was called. Raises Interrupted after SIGINT or SIGTERM,
        UnhealthyTraining on NaN or infinity."""
        try:
            self._monitor.begin(self.position.ticks)
            with _stop_request() as stopping:
                while True:
                    self._run_stage(stopping)
                    if self.position.stage == len(self._stages) - 1:
                        break
                    self._next_stage()
            self._save()
            self._settle_statistics()
        finally:
            self._monitor.close()

    def _run_stage(self, stopping: Callable[[], bool]) -> None:
        stage, budget = self._stages[self.position.stage], self._budgets[self.position.stage]
        self._monitor.start_stage(stage.name, budget.iterations)
        crowd = Crowd(torch.get_num_threads() if self.device == "cpu" else 1)
        last_saved = time.monotonic()
        while not budget.spent(self.position):
            started = time.monotonic()
            self._iterate(stage)
            position = self.position
            position.iteration += 1
            if position.iteration % self._settings.log_every == 0:
                self._log(stage)
            if position.iteration % self._settings.image_every == 0:
                self.averages.copy_buffers(self.detector)
                self._monitor.images(self.averages.shadow, self._tensor(0), stage.name, position.ticks)
            now = time.monotonic()
            position.seconds += now - started
            position.total_seconds += now - started
            self._monitor.advance(budget.share_done(position), position.draws * self._settings.batch_size)
            if line := crowd.noticed():
                self._monitor.say(line)
            if stopping():
                self._save()
                raise Interrupted
            if now - last_saved > self._settings.checkpoint_minutes * 60:
                self._save()
                last_saved = time.monotonic()
        if self._sums:
            self._log(stage)

    def _iterate(self, stage: Stage) -> None:
        self.detector.game.epoch = self.position.iteration // self._per_epoch
        batch: Batch | None = None
        for phase in stage.phases:
            for repeat in range(phase.repeats):
                if batch is None or repeat:
                    batch = Batch(self._tensor(self.position.draws))
                    self.position.draws += 1
                self._step(phase, batch)

    def _step(self, phase: Phase, batch: Batch) -> None:
        # One seed per step makes noise, latents and dropout a function of the position alone.
        torch.manual_seed(self._seed * 1_000_003 + self.position.ticks)
        self.position.ticks += 1
        freeze_others(self.detector, phase)
        optimizer = self._optimizers[phase.name]
        optimizer.zero_grad(set_to_none=True)
        with self.launched.autocast():
            losses = phase.loss(batch)
        self.launched.backward(losses["total"])
        if self._settings.clip_grad is not None:
            self.launched.clip_gradients(
                self.detector, optimizer, max_norm=self._settings.clip_grad, error_if_nonfinite=False
            )
        optimizer.step()
        losses = {name: value.detach() for name, value in losses.items()}
        if phase.after_step is not None:
            phase.after_step(losses)
        self.averages.update(self.detector, phase.trains)
        for name, value in losses.items():
            key = f"{phase.name}/{name}"
            self._sums[key] = self._sums[key] + value if key in self._sums else value.clone()
            self._counts[key] += 1

    def _log(self, stage: Stage) -> None:
        self._require_finite(self._sums)
        means = {key: float(total) / self._counts[key] for key, total in self._sums.items()}
        self.latest |= means
        self._sums.clear()
        self._counts.clear()
        self._monitor.scalars(stage.name, asdict(self.position), means)

    def _require_finite(self, parts: Mapping[str, Any]) -> None:
        """parts: tensors, or nested dictionaries of them, by what they are."""
        bad = [name for name, values in parts.items() if not _finite(values)]
        if bad:
            stage, kept = self._stages[self.position.stage].name, self._state.is_file()
            raise UnhealthyTraining(
                f"training failed in stage '{stage}' by iteration {self.position.iteration}: {', '.join(bad)} is no "
                f"longer a finite number; lower the learning rates, set training.clip_grad=1, or use "
                f"training.precision=32-true. "
                f"{f'The last good checkpoint is kept in {self._state.parent}' if kept else 'No checkpoint was made'}"
            )

    def _tensor(self, draw: int) -> Tensor:
        x = self._draw(draw).to(self.launched.device, non_blocking=True)
        return x.contiguous(memory_format=torch.channels_last)

    def _start_stage(self) -> None:
        stage = self._stages[self.position.stage]
        for name, network in self.detector.named_children():
            network.train(name in stage.trains)
        self._optimizers = {
            phase.name: self.launched.setup_optimizers(self._make_optimizer(phase)) for phase in stage.phases
        }

    def _next_stage(self) -> None:
        self.averages.copy_buffers(self.detector)
        self._settle_statistics()
        self.averages.hand_over(self.detector, self._stages[self.position.stage].trains)
        self.position.stage += 1
        self.position.iteration, self.position.seconds = 0, 0.0
        self._start_stage()
        self._save()

    @torch.no_grad()
    def _settle_statistics(self) -> None:
        """Give the averaged networks of the stage that ends running statistics of their own (Izmailov et al.,
        "Averaging weights leads to wider optima and better generalization", UAI 2018, section 3.2): those kept until
        then belong to the weights of the last few steps, and differ enough from run to run to move scores."""
        shadow = self.averages.shadow
        stage = shadow.stages()[self.position.stage]
        # Of the last iteration, which a resumed training may have none of left to do.
        shadow.game.epoch = max(self.position.iteration - 1, 0) // self._per_epoch
        with settling(shadow, stage.trains) as settle:
            for number in range(STATISTICS_BATCHES):
                torch.manual_seed(self._seed * 1_000_003 + number)
                settle(number)
                batch = Batch(self._tensor(number))
                for phase in stage.phases:
                    freeze_others(shadow, phase)
                    with self.launched.autocast():
                        phase.loss(batch)

    def _make_optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        # A fused step takes the scale of 16-mixed off the gradients by itself, which is too late to clip them.
        fused = self.precision != "16-mixed" or self._settings.clip_grad is None
        parameters = [p for name in phase.trains for p in getattr(self.detector, name).parameters()]
        return phase.optimizer.over(parameters, fused)

    def _save(self) -> None:
        # The last checkpoint is good: no loss told of what this step may have done to weights and optimisers.
        weights = {f"weights of {name}": network.state_dict() for name, network in self.detector.named_children()}
        moments = {
            f"gradients of {name}": optimizer.state_dict()["state"] for name, optimizer in self._optimizers.items()
        }
        self._require_finite({**self._sums, **weights, **moments})
        self.averages.copy_buffers(self.detector)
        self._keep_healthy()
        save_state(
            self._state,
            {
                "fingerprint": self._fingerprint,
                "position": asdict(self.position),
                "detector": self.detector.state_dict(),
                "shadow": self.averages.shadow.state_dict(),
                "updates": self.averages.updates,
                "optimizers": {name: opt.state_dict() for name, opt in self._optimizers.items()},
                "sums": self._sums,
                "counts": dict(self._counts),
                "latest": self.latest,
                "alive": self._alive,
                "signs": self.detector.game.signs,
                "precision": scaler_state(self.launched),
            },
        )
        self._monitor.flush()

    def _keep_healthy(self) -> None:
        """Before a checkpoint of a detector that has collapsed replaces one of a detector that had not, put that aside:
        a collapse is rarely undone."""
        if self.position.iteration < TOO_SHORT:
            return
        before = self._alive
        last = self.position.stage == len(self._stages) - 1
        self._alive = varies(self.averages.shadow, self._tensor(0), reconstructs=last)
        healthy = self._state.with_name(HEALTHY_STATE)
        if self._alive:
            healthy.unlink(missing_ok=True)
        elif before and self._state.is_file():
            with self._state.open("rb") as source, atomic_file(healthy) as copy:
                shutil.copyfileobj(source, copy)
            self._monitor.say(
                f"stage {self._stages[self.position.stage].name}, iteration {self.position.iteration}: the patches "
                f"that the detector makes are all alike; the checkpoint before is kept as {healthy}"
            )

    def load(self) -> None:
        """Go on from the last checkpoint. Raises CannotResume where there is none of this training."""
        state = load_state(self._state, self._fingerprint, self.launched.device)
        try:
            self._restore(State.model_validate(state))
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            raise CannotResume(f"{self._state} is damaged or of another detector ({why}); train again") from error
        if self._shortened():
            self._monitor.say(
                f"only stage {self._stages[self.position.stage].name} and what follows it are trained longer: stages "
                f"before it ended with less than their part of this budget; train into a new folder to give it to them"
            )

    def _shortened(self) -> bool:
        """Whether the stages that have ended had less than their parts of the budget, which was smaller then."""
        position, ticks = self.position, [sum(phase.repeats for phase in stage.phases) for stage in self._stages]
        ended = list(zip(self._budgets, ticks, strict=True))[: position.stage]
        steps = position.ticks - position.iteration * ticks[position.stage]
        seconds = position.total_seconds - position.seconds
        return steps < sum((budget.iterations or 0) * each for budget, each in ended) or seconds < sum(
            (budget.seconds or 0) - 1e-3 for budget, _ in ended
        )

    def _restore(self, state: State) -> None:
        self.position = Position(**state.position)  # type: ignore[arg-type]
        if min(asdict(self.position).values()) < 0 or self.position.stage >= len(self._stages):
            raise ValueError(f"a position of {self.position}")
        self._start_stage()
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state.optimizers[name])
        self.detector.load_state_dict(state.detector)
        self.averages.shadow.load_state_dict(state.shadow)
        self.averages.updates = {name: state.updates[name] for name in self.averages.updates}
        self._sums, self._counts = state.sums, defaultdict(int, state.counts)
        self.detector.game.signs = state.signs
        self.latest, self._alive = state.latest, state.alive
        load_scaler_state(self.launched, state.precision)


def freeze_others(detector: Detector, phase: Phase) -> None:
    """Let the phase train its sub-networks and no other."""
    for name, network in detector.named_children():
        network.requires_grad_(name in phase.trains)


def _finite(values: Any) -> bool:
    """Whether all numbers of all tensors in a nested dictionary are."""
    if isinstance(values, dict):
        return all(_finite(value) for value in values.values())
    return not isinstance(values, Tensor) or bool(torch.isfinite(values).all())


@contextmanager
def _stop_request() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a flag, so that a step is never cut in two."""
    received: list[int] = []

    def remember(number: int, _: Any) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    with on_stop_request(remember):
        yield lambda: bool(received)
