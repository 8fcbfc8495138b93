"""What a person sees of a sweep: its budget before it starts, a live table while it runs."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from inspect_gan.ablation.folder import Result
from inspect_gan.ablation.plan import Cell, Plan

STATES = ("open", "running", "done", "collapsed", "failed", "lost")


def seconds_per_cell(plan: Plan, cells: Iterable[Cell], results: Mapping[str, Result]) -> dict[str, float]:
    """Mean seconds of the finished cells by detector; failed ones ended too early to count."""
    seconds: dict[str, dict[str, float]] = {}
    for cell in cells:
        if cell.id in results and results[cell.id].outcome.status != "failed":
            seconds.setdefault(plan.detector(cell), {})[cell.id] = results[cell.id].usage.seconds
    return {detector: sum(found.values()) / len(found) for detector, found in seconds.items()}


def seconds_left(
    plan: Plan, left: Sequence[Cell], measured: Mapping[str, float], workers: int, gone: float = 0.0
) -> float | None:
    """Wall-clock seconds for cells that have no result; a detector that was not measured counts like the mean of the
    others. None when nothing was measured. gone: seconds that these cells have behind them, together."""
    if not measured:
        return None
    typical = sum(measured.values()) / len(measured)
    unique = {cell.id: measured.get(plan.detector(cell), typical) for cell in left}
    return max(sum(unique.values()) - gone, 0.0) / min(workers, max(len(unique), 1))


def budget_lines(plan: Plan, results: Mapping[str, Result], workers: int) -> list[str]:
    """Cells, what is not applicable, seconds per cell, hours."""
    unique = {cell.id: cell for cell in plan.cells}
    left = [cell for key, cell in unique.items() if key not in results]
    unmeasured = sum(results[key].outcome.status == "open" for key in unique.keys() & results.keys())
    to_do, shared = len(left) + unmeasured, len(plan.cells) - len(unique)
    lines = [
        f"{len(unique)} cells{f' ({shared} more places of the grid share them)' if shared else ''}, "
        f"{len(unique) - to_do} finished, {to_do} to do on {workers} workers"
    ]
    if unmeasured:
        lines.append(f"{unmeasured} of those to do are trained and lack scores: the budget leaves them out")
    for one in plan.not_applicable:
        labels = " ".join(f"{axis}={value}" for axis, value in one.labels.items())
        lines.append(f"not applicable: {labels}: {one.reason}")
    measured = seconds_per_cell(plan, plan.cells, results)
    lines += [f"measured: {detector} {seconds:.1f} s per cell" for detector, seconds in sorted(measured.items())]
    seconds = seconds_left(plan, left, measured, workers)
    if not left:
        return lines
    if seconds is not None:
        return [*lines, f"budget: {seconds / 3600:.2f} hours to go"]
    minutes = [plan.identities[cell.id]["config"]["training"]["minutes"] for cell in left]
    if all(minutes):
        hours = sum(minutes) / 60 / min(workers, len(left))
        lines.append(f"budget: {hours:.2f} hours of training, and what evaluation takes; --trial measures both")
    else:
        lines.append("budget: unknown until the first cells are done; --trial runs one of each detector and tells")
    return lines


class Board:
    """State of every cell, shown as a table on a terminal and as a line per finished cell elsewhere.

    results: by id. lost: why cells ended without a result.
    """

    def __init__(self, plan: Plan, cells: Sequence[Cell], results: Mapping[str, Result], console: Console):
        self.results = dict(results)
        self.lost: dict[str, str] = {}
        self._plan = plan
        self._cells = {cell.id: cell for cell in cells}
        self._states: dict[str, str] = {
            key: results[key].outcome.status if key in results else "open" for key in self._cells
        }
        self._begun: dict[str, float] = {}
        self._console = console
        self._workers = 1
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def open_cells(self) -> list[str]:
        """Ids of the cells that wait for their start."""
        return [key for key, state in self._states.items() if state == "open"]

    def start(self, key: str) -> None:
        self._states[key] = "running"
        self._begun[key] = time.monotonic()

    def finish(self, key: str, result: Result | None, loss: str | None) -> None:
        if result is None or result.outcome.status == "open":
            self.lost[key] = loss or "it was stopped"
            self._states[key] = "lost"
            text = f"lost, {self.lost[key]}"
        else:
            self.results[key] = result
            self._states[key] = result.outcome.status
            text = f"{result.outcome.status}, {result.usage.seconds:.1f} s"
            text += f": {result.outcome.reason}" if result.outcome.reason else ""
        if self._live is None or result is None or result.outcome.status != "done":
            self._console.print(f"{self._summary()}: {self._cells[key].title} {text}")

    def show(self, workers: int) -> None:
        self._workers = workers
        if self._live is not None:
            self._live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Cells by detector and state, and the time left."""
        rows: dict[str, Counter[str]] = {}
        for key, state in self._states.items():
            rows.setdefault(self._plan.detector(self._cells[key]), Counter())[state] += 1
        total = sum(rows.values(), Counter())
        shown = [state for state in STATES if total[state] or state != "lost"]
        table = Table("detector", *shown, "s per cell", caption=f"{self._clock()} left")
        measured = seconds_per_cell(self._plan, self._cells.values(), self.results)
        for detector, counts in rows.items():
            seconds = f"{measured[detector]:.1f}" if detector in measured else "–"
            table.add_row(detector, *(str(counts[state]) for state in shown), seconds)
        table.add_section()
        table.add_row("all", *(str(total[state]) for state in shown), "")
        return table

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _summary(self) -> str:
        counts = Counter(self._states.values())
        failed = counts["failed"] + counts["collapsed"]
        return (
            f"{counts['done'] + failed} of {len(self._states)} cells, {failed} failed or collapsed, "
            f"{counts['running']} running, {self._clock()} left"
        )

    def _clock(self) -> str:
        open_cells = [self._cells[key] for key, state in self._states.items() if state in ("open", "running")]
        measured = seconds_per_cell(self._plan, self._cells.values(), self.results)
        # A running cell has part of its time behind it.
        gone = sum(time.monotonic() - self._begun[cell.id] for cell in open_cells if cell.id in self._begun)
        seconds = seconds_left(self._plan, open_cells, measured, self._workers, gone)
        # Of a cell that is measured again the seconds of its training say nothing.
        if seconds is None or any(cell.id in self.results for cell in open_cells):
            return "unknown time"
        return clock(seconds)


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
