"""What a person sees of a running training: progress, losses on disk, TensorBoard."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from inspect_gan.detector import Detector

PLAIN_EVERY_SECONDS = 10.0
GRID_PATCHES = 16


class Monitor:
    """Writes stats.jsonl and TensorBoard events into a run folder and shows progress.

    On a terminal a bar with patches per second and time left; elsewhere a plain line every ten seconds.
    """

    def __init__(self, run: Path, console: Console):
        self._stats = run / "stats.jsonl"
        self._tb_folder = run / "tb"
        self._writer = SummaryWriter(str(self._tb_folder))
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

    def scalars(self, stage: str, position: Mapping[str, Any], losses: Mapping[str, float]) -> None:
        """One line of stats.jsonl: the position and mean losses since the last line."""
        line = {"name": stage, **position, **losses}
        with self._stats.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in losses.items():
            self._writer.add_scalar(f"{stage}/{name}", value, position["ticks"])

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
        for name, panel in panels.items():
            self._writer.add_image(f"{stage}/{name}", make_grid(panel.float().clamp(0, 1), nrow=4), ticks)

    def rewind(self, ticks: int) -> None:
        """Forget what was logged after a checkpoint that training resumes from."""
        if self._stats.is_file():
            lines = self._stats.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["ticks"] <= ticks]
            self._stats.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._writer.close()
        self._writer = SummaryWriter(str(self._tb_folder), purge_step=ticks + 1)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._writer.close()


def _clock(seconds: float) -> str:
    if seconds != seconds:
        return "unknown time"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
