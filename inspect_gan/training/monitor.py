"""What a person sees of a running training: progress, losses on disk, TensorBoard."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from inspect_gan.detector import Detector
from inspect_gan.errors import InspectGanError, writing
from inspect_gan.events import quiet_writers
from inspect_gan.imaging import atomic_text

PLAIN_EVERY_SECONDS = 10.0
GRID_PATCHES = 16


class Monitor:
    """Writes stats.jsonl and TensorBoard events into a run folder and shows progress.

    On a terminal a bar with patches per second and time left; elsewhere a plain line every ten seconds.
    """

    def __init__(self, run: Path, console: Console):
        self._stats = run / "stats.jsonl"
        self._tb_folder = run / "tb"
        self._writer: SummaryWriter | None = None
        self._held = ExitStack()
        self._console = console
        self._bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                console=console,
            )
            if console.is_terminal
            else None
        )
        self._task: Any = None
        self._name = ""
        self._begun = self._said = time.monotonic()
        self._first: tuple[float, int] | None = None

    def begin(self, ticks: int) -> None:
        """Start to write after `ticks` phase steps; what was logged beyond, by a part of the training that was lost, is
        forgotten."""
        if self._stats.is_file():
            text = self._stats.read_text(encoding="utf-8", errors="replace")
            kept = [line for line in text.splitlines() if 0 <= _ticks(line) <= ticks]
            atomic_text(self._stats, "".join(line + "\n" for line in kept))
        elif self._stats.exists():  # opening a pipe would wait for ever
            raise InspectGanError(f"{self._stats} is not a file: remove it")
        self._held.enter_context(quiet_writers())
        with writing(self._tb_folder):
            self._writer = SummaryWriter(str(self._tb_folder), purge_step=ticks + 1)

    def start_stage(self, name: str, iterations: int | None) -> None:
        """iterations: length of the stage, None when it is limited by time."""
        self._name = name
        self._begun = self._said = time.monotonic()
        self._first = None
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(f"stage {name}", total=1.0, rate="")

    def advance(self, share: float, patches: int) -> None:
        """share: of the stage that is done, 0 to 1. patches: drawn since training began."""
        if self._first is None:
            self._first = (share, patches)
            return
        now = time.monotonic()
        elapsed = max(now - self._begun, 1e-9)
        rate = (patches - self._first[1]) / elapsed
        gained = share - self._first[0]
        left = (1 - share) / gained * elapsed if gained > 0 else float("nan")
        text = f"{rate:,.0f} patches/s, {_clock(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=share, rate=text)
        elif now - self._said > PLAIN_EVERY_SECONDS:
            self._said = now
            self._console.print(f"stage {self._name}: {share:4.0%}, {text}")

    def say(self, line: str) -> None:
        """Something a person should know at once."""
        self._console.print(line)

    def scalars(self, stage: str, position: Mapping[str, Any], losses: Mapping[str, float]) -> None:
        """One line of stats.jsonl: the position and mean losses since the last line."""
        line = {"name": stage, **position, **losses}
        with writing(self._stats), self._stats.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        with self._events() as events:
            for name, value in losses.items():
                events.add_scalar(f"{stage}/{name}", value, position["ticks"])

    @torch.no_grad()
    def images(self, detector: Detector, x: Tensor, stage: str, ticks: int) -> None:
        """Real patches, reconstructions, residuals and, where there is a prior, generated patches."""
        from torchvision.utils import make_grid  # not before the first pictures: it would delay every start

        x = x[:GRID_PATCHES]
        x_rec = detector.reconstruct(x)
        panels = {"real": (x + 1) / 2, "reconstructed": (x_rec + 1) / 2, "residual": (x - x_rec).abs() / 2}
        generated = detector.generate(GRID_PATCHES)
        if generated is not None:
            panels["generated"] = (generated + 1) / 2
        with self._events() as events:
            for name, panel in panels.items():
                events.add_image(f"{stage}/{name}", make_grid(panel.float().clamp(0, 1), nrow=4), ticks)

    def flush(self) -> None:
        with self._events() as events:
            events.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        try:
            if self._writer is not None:
                with self._events() as events:
                    events.close()
        finally:
            self._held.close()

    @contextmanager
    def _events(self) -> Iterator[SummaryWriter]:
        assert self._writer is not None
        with writing(self._tb_folder):
            yield self._writer


def _ticks(line: str) -> int:
    """Of a line of stats.jsonl; -1 of one that was not written to its end."""
    try:
        return int(json.loads(line)["ticks"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return -1


def _clock(seconds: float) -> str:
    if seconds != seconds:
        return "unknown time"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
