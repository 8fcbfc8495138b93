"""A sweep from its plan to the results: what is left to do, in which order, and what a person sees of it."""

import shutil
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from inspect_gan.ablation.collect import results_of
from inspect_gan.ablation.engines import Engine
from inspect_gan.ablation.folder import CELLS, RUN, CellFolder
from inspect_gan.ablation.plan import Cell, Plan, wanted_scores, write_plan
from inspect_gan.ablation.progress import Board
from inspect_gan.errors import InspectGanError, first_line
from inspect_gan.imaging import remove_unfinished
from inspect_gan.locks import HAS_LOCKS, locked
from inspect_gan.signals import on_stop_request

LOCK = "sweep.lock"
LOOK_SECONDS = 0.5


def reopen_unmeasured(out: Path, cells: Sequence[Cell]) -> None:
    """Let cells that were done for a grid with other scores run again, which repeats their evaluation only."""
    for key, wanted in wanted_scores(cells).items():
        folder = CellFolder(out / CELLS / key)
        outcome = folder.outcome()
        if outcome is not None and outcome.status == "done" and wanted - outcome.scores.keys():
            folder.reopen()


def forget_failures(out: Path, cells: Sequence[Cell]) -> None:
    """Let failed and collapsed cells run again."""
    for key, result in results_of(out, cells).items():
        if result.outcome.status == "collapsed":  # what it learned is not worth going on from
            shutil.rmtree(out / CELLS / key / RUN, ignore_errors=True)
        if result.outcome.status in ("failed", "collapsed"):
            CellFolder(out / CELLS / key).forget()


def first_of_each_detector(plan: Plan) -> list[Cell]:
    """One cell per detector, to measure what it costs."""
    found: dict[str, Cell] = {}
    for cell in plan.cells:
        found.setdefault(plan.detector(cell), cell)
    return list(found.values())


def reserved(out: Path) -> AbstractContextManager[None]:
    """A sweep's folder while no other sweep works in it. Raises InspectGanError when one does."""
    if not HAS_LOCKS:
        raise InspectGanError("sweeps need Linux or macOS: Windows has no file locks that end with a process")
    return locked(out / LOCK, f"another sweep works in {out}: wait for its end, or choose another --out")


def run_cells(out: Path, plan: Plan, cells: Sequence[Cell], engine: Engine, console: Console) -> bool:
    """Write the plan and bring its cells, or some of them, to their results, those that have one excepted. Returns
    whether all have one in the end.

    On SIGINT or SIGTERM the running cells are stopped and KeyboardInterrupt is raised; they go on at the next start.
    """
    remove_unfinished(out)
    write_plan(out, plan)
    board = Board(plan, cells, results_of(out, cells), console)
    waiting = board.open_cells()
    running: dict[Future[bool], str] = {}
    with on_stop_request(_interrupt), board, engine:  # also where a shell made a background process deaf to Ctrl-C
        while waiting or running:
            while waiting and len(running) < engine.workers:
                key = waiting.pop(0)
                board.start(key)
                running[engine.submit(out / CELLS / key)] = key
            done, _ = wait(running, LOOK_SECONDS, FIRST_COMPLETED)
            for future in done:
                key = running.pop(future)
                result = results_of(out, [cell for cell in cells if cell.id == key]).get(key)
                board.finish(key, result, _loss(future))
            board.show(engine.workers)
    return not board.lost


def _loss(future: Future[bool]) -> str | None:
    """Why a cell came back without a result. Raises InspectGanError where no cell could have one, as on a full disk."""
    error = future.exception()
    if isinstance(error, InspectGanError):
        raise error
    if error is None:
        return None
    return f"its worker was lost ({first_line(error)})"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
