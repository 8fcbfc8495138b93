"""The whole of `inspect-gan ablate`: grid, data, plan, cells, report."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from inspect_gan.ablation.collect import results_of
from inspect_gan.ablation.data import UNDRAWN, open_data
from inspect_gan.ablation.engines import Engine, Local, Ray
from inspect_gan.ablation.grid import DataEntry, Limits, load_grid
from inspect_gan.ablation.plan import Plan, make_plan
from inspect_gan.ablation.progress import budget_lines
from inspect_gan.ablation.report import INDEX, RESULTS_CSV, TABLES_MD, TABLES_TEX, write_report
from inspect_gan.ablation.supervise import Job
from inspect_gan.ablation.sweep import (
    first_of_each_detector,
    forget_failures,
    reopen_unmeasured,
    reserved,
    run_cells,
)
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import cores

DRAWINGS = "data"


@dataclass(frozen=True)
class Options:
    """workers: cells side by side, None: one per GPU, else per core. data: paths that replace the grid's data sets."""

    engine: Literal["local", "ray"] = "local"
    workers: int | None = None
    data: tuple[Path, ...] = ()
    dry_run: bool = False
    trial: bool = False
    retry_failed: bool = False


def run_ablation(source: str | Path, overrides: Iterable[str], out: Path, options: Options, console: Console) -> None:
    """Run a grid, or what is left of it, and write its report to `out`.

    Raises InspectGanError for a wrong grid, unusable data, or a second sweep in the same folder; KeyboardInterrupt
    when stopped, after the report of what is done was written.
    """
    grid, lines = load_grid(source, overrides)
    if options.data:
        grid = grid.model_copy(update={"data": _named(options.data)})
    data = {name: open_data(name, entry, out / DRAWINGS, draw=False) for name, entry in grid.data.items()}
    if options.dry_run:
        plan = make_plan(grid, lines, data)
        console.print("\n".join(budget_lines(plan, results_of(out, plan.cells), _workers(plan, options))))
        return
    with reserved(out):
        for name, files in data.items():
            if files.digest.startswith(UNDRAWN):
                console.print(f"drawing images: {out / DRAWINGS}")
                data[name] = open_data(name, grid.data[name], out / DRAWINGS)
        plan = make_plan(grid, lines, data)
        _sweep(out, plan, grid.limits, options, console)


def _sweep(out: Path, plan: Plan, limits: Limits, options: Options, console: Console) -> None:
    workers = _workers(plan, options)

    def say_budget() -> None:
        console.print("\n".join(budget_lines(plan, results_of(out, plan.cells), workers)))

    cells = first_of_each_detector(plan) if options.trial else plan.cells
    reopen_unmeasured(out, cells)
    if options.retry_failed:
        forget_failures(out, cells)
    say_budget()
    job, gpus = _job(limits, workers), _gpus(plan)
    engine: Engine = Local(job, workers, gpus) if options.engine == "local" else Ray(job, workers, gpus)
    try:
        if not run_cells(out, plan, cells, engine, console):
            console.print("some cells lost their worker and have no result: the same command runs them again")
    finally:
        if results_of(out, plan.cells):
            write_report(out)
            tables = ", ".join(str(out / name) for name in (TABLES_MD, TABLES_TEX, RESULTS_CSV))
            console.print(f"report: {out / INDEX}\ntables: {tables}")
    if options.trial:
        say_budget()


def _workers(plan: Plan, options: Options) -> int:
    return min(options.workers or len(_gpus(plan)) or cores(), len(plan.identities))


def _job(limits: Limits, workers: int) -> Job:
    if limits.memory_mb is not None and not Path("/proc/self/status").is_file():
        raise InspectGanError("limits.memory_mb needs Linux: leave it out")
    seconds = None if limits.minutes is None else limits.minutes * 60
    return Job(seconds, limits.memory_mb, max(cores() // workers, 1))


def _named(paths: tuple[Path, ...]) -> dict[str, DataEntry]:
    """Data sets named after their folder or file."""
    found = {(path.absolute().name if path.is_dir() else path.absolute().stem): DataEntry(train=path) for path in paths}
    if len(found) < len(paths):
        raise InspectGanError("two --data have the same name: put them into the grid under different names")
    return found


def _gpus(plan: Plan) -> tuple[str, ...]:
    """Ids of the GPUs that cells will use."""
    if all(values["config"]["training"]["device"] == "cpu" for values in plan.identities.values()):
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(visible.split(",")) if visible else tuple(map(str, range(torch.cuda.device_count())))
