"""Sweeps: every cell exactly once, however often the sweep is killed; locks, failures, order, what is shown."""

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from inspect_gan.ablation.collect import results_of
from inspect_gan.ablation.engines import Local, Ray
from inspect_gan.ablation.folder import CELLS, CellFolder, Outcome, Result, Usage
from inspect_gan.ablation.plan import Plan, write_plan
from inspect_gan.ablation.progress import Board, budget_lines, clock, seconds_left, seconds_per_cell
from inspect_gan.ablation.supervise import Job
from inspect_gan.ablation.sweep import (
    first_of_each_detector,
    forget_failures,
    reopen_unmeasured,
    reserved,
    run_cells,
)
from inspect_gan.errors import InspectGanError

Make = Callable[..., Plan]
Fake = tuple[str, ...]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def sweep(out: Path, plan: Plan, fake: Fake, workers: int = 2) -> bool:
    with reserved(out):
        return run_cells(out, plan, plan.cells, Local(Job(command=fake), workers), quiet())


def notes(out: Path, what: str) -> Counter[str]:
    """How often the work of each cell began or ended."""
    lines = (out / "notes.txt").read_text().splitlines() if (out / "notes.txt").is_file() else []
    return Counter(line.split()[1] for line in lines if line.startswith(what))


def behave(out: Path, code: str) -> None:
    out.mkdir(exist_ok=True)
    (out / "behaviour.py").write_text(code)


SWEEP = """
import sys
from pathlib import Path
from rich.console import Console
from inspect_gan.ablation.data import open_data
from inspect_gan.ablation.engines import Local, Ray
from inspect_gan.ablation.grid import load_grid
from inspect_gan.ablation.plan import make_plan
from inspect_gan.ablation.supervise import Job
from inspect_gan.ablation.sweep import reserved, run_cells

grid, lines = load_grid(sys.argv[1])
out = Path(sys.argv[2])
plan = make_plan(grid, lines, {name: open_data(name, entry, out) for name, entry in grid.data.items()})
with reserved(out):
    run_cells(out, plan, plan.cells, Local(Job(command=sys.argv[3:]), 2), Console())
"""


def test_a_sweep_killed_at_several_moments_ends_with_every_cell_exactly_once(
    make: Make, fake: Fake, grid_file: Path, tmp_path: Path
) -> None:
    plan, out = make(), tmp_path / "out"
    behave(out, "import time; time.sleep(0.3)")
    for ends in (0, 2, 5):
        process = subprocess.Popen([sys.executable, "-c", SWEEP, str(grid_file), str(out), *fake])
        while notes(out, "begins").total() == 0 or notes(out, "ends").total() < ends:
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(results_of(out, plan.cells)) < len(plan.cells)
    assert sweep(out, plan, fake)
    results = results_of(out, plan.cells)
    assert set(results) == {cell.id for cell in plan.cells}
    assert {result.outcome.status for result in results.values()} == {"done"}
    # A cell whose outcome was written is never worked on again: only those killed at work began more than once.
    assert notes(out, "begins").total() <= len(plan.cells) + 3 * 2
    assert max(notes(out, "ends").values()) <= 2
    before = notes(out, "begins")
    assert sweep(out, plan, fake)
    assert notes(out, "begins") == before


def test_failed_cells_do_not_stop_a_sweep_and_are_repeated_on_request_only(
    make: Make, fake: Fake, tmp_path: Path
) -> None:
    plan, out = make("seeds=[0]"), tmp_path / "out"
    bad = plan.cells[0].id
    behave(out, f"if folder.path.name == '{bad}': raise ValueError('no luck')")
    assert sweep(out, plan, fake)
    results = results_of(out, plan.cells)
    assert {key for key, result in results.items() if result.outcome.status == "failed"} == {bad}
    assert results[bad].outcome.reason == "ValueError: no luck"
    behave(out, "")
    sweep(out, plan, fake)
    assert notes(out, "begins")[bad] == 1
    forget_failures(out, plan.cells)
    sweep(out, plan, fake)
    assert notes(out, "begins") == Counter([cell.id for cell in plan.cells] + [bad])
    assert results_of(out, plan.cells)[bad].outcome.status == "done"


def test_other_scores_are_to_do_and_earlier_ones_stay_done(make: Make, fake: Fake, tmp_path: Path) -> None:
    out, grid = tmp_path / "out", ("seeds=[0]", "tricks=[]")
    first, other = make(*grid, "scores=[default]"), make(*grid, "scores=[res_l1]")
    behave(out, "outcome = Outcome('done', None, dict.fromkeys(('enc_mse', 'comb'), {'pixel_auroc': 0.5}))")
    assert sweep(out, first, fake)
    statuses = {result.outcome.status for result in results_of(out, other.cells).values()}
    assert statuses == {"open"}
    shown = "\n".join(budget_lines(other, results_of(out, other.cells), 2))
    assert "2 cells, 0 finished, 2 to do on 2 workers" in shown
    assert "2 of those to do are trained" in shown
    reopen_unmeasured(out, other.cells[:1])
    behave(out, "")
    with reserved(out):
        assert run_cells(out, other, other.cells[:1], Local(Job(command=fake), 2), quiet())
    assert [result.outcome.status for result in results_of(out, other.cells).values()] == ["done", "open"]
    again, untouched = (cell.id for cell in first.cells)
    assert CellFolder(out / CELLS / untouched).outcome() is not None
    assert sweep(out, first, fake)
    assert notes(out, "begins") == Counter({again: 2, untouched: 1})
    # Killed when the new outcome was there but not yet the result: it is not worked on again.
    CellFolder(out / CELLS / again).write_result(finished(1.0))
    reopen_unmeasured(out, other.cells[:1])
    with reserved(out):
        assert run_cells(out, other, other.cells[:1], Local(Job(command=fake), 2), quiet())
    assert notes(out, "begins")[again] == 2
    assert results_of(out, other.cells)[again].outcome.status == "done"


def test_a_second_sweep_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with reserved(tmp_path), pytest.raises(InspectGanError, match="another sweep works in"), reserved(tmp_path):
        pass


def test_a_survivor_of_an_earlier_sweep_is_waited_for(make: Make, fake: Fake, tmp_path: Path) -> None:
    plan, out = make("tricks=[]", "seeds=[0]", "axes={}"), tmp_path / "out"
    behave(out, "import time; time.sleep(1)")
    write_plan(out, plan)
    cell = out / "cells" / plan.cells[0].id
    survivor = subprocess.Popen([*fake, str(cell)], stdin=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not notes(out, "begins"):
        time.sleep(0.02)
    assert sweep(out, plan, fake)
    survivor.communicate()
    assert notes(out, "begins").total() == 1


def test_interrupt_stops_the_cells_and_the_same_sweep_goes_on(
    make: Make, fake: Fake, grid_file: Path, tmp_path: Path
) -> None:
    plan, out = make(), tmp_path / "out"
    behave(out, "import time; time.sleep(30)")
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(grid_file), str(out), *fake], stderr=subprocess.PIPE, text=True
    )
    while notes(out, "begins").total() < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=25)
    assert "KeyboardInterrupt" in errors
    assert not results_of(out, plan.cells)
    behave(out, "")
    assert sweep(out, plan, fake)


def test_lost_workers_leave_their_cell_open(make: Make, fake: Fake, tmp_path: Path) -> None:
    class Shaky(Local):
        def _run(self, cell: Path) -> bool:
            if cell.name == plan.cells[1].id:
                raise ConnectionError("the node is gone")
            return super()._run(cell)

    plan, out = make("seeds=[0]", "tricks=[]"), tmp_path / "out"
    console = quiet()
    with reserved(out):
        assert not run_cells(out, plan, plan.cells, Shaky(Job(command=fake), 2), console)
    assert set(results_of(out, plan.cells)) == {cell.id for cell in plan.cells} - {plan.cells[1].id}
    assert isinstance(console.file, io.StringIO)
    assert "its worker was lost (the node is gone)" in console.file.getvalue()

    # One that was to be measured again keeps its result, and is lost all the same.
    assert sweep(out, plan, fake)
    other = make("seeds=[0]", "tricks=[]", "scores=[res_l2]")
    behave(out, "outcome = Outcome('done', None, {'res_l2': {'pixel_auroc': 0.5}})")
    reopen_unmeasured(out, other.cells)
    with reserved(out):
        assert not run_cells(out, other, other.cells, Shaky(Job(command=fake), 2), quiet())
    assert [result.outcome.status for result in results_of(out, other.cells).values()] == ["done", "open"]


def test_cells_are_spread_over_the_gpus(make: Make, fake: Fake, tmp_path: Path) -> None:
    plan, out = make("seeds=[0]"), tmp_path / "out"
    behave(out, "import os, time; note(folder, 'gpu' + os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.2)")
    with reserved(out):
        run_cells(out, plan, plan.cells, Local(Job(command=fake), 2, ("3", "5")), quiet())
    assert notes(out, "gpu3").total() and notes(out, "gpu5").total()
    assert notes(out, "gpu").total() == len(plan.cells)


def test_a_lost_ray_worker_is_replaced_in_mid_cell(make: Make, fake: Fake, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the engine is an extra: pip install 'inspect-gan[ray]'")
    plan, out = make("seeds=[0]", "tricks=[input_noise]"), tmp_path / "out"
    assert len(plan.cells) == 4
    # The first cell to begin kills the worker that watches it, once.
    behave(
        out,
        "import os, signal, time\n"
        "mark = folder.path.parent.parent / 'killed'\n"
        "try:\n"
        "    mark.touch(exist_ok=False)\n"
        "    note(folder, 'kills')\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    time.sleep(60)\n"
        "except FileExistsError:\n"
        "    pass\n",
    )
    with reserved(out):
        assert run_cells(out, plan, plan.cells, Ray(Job(command=fake), 2), quiet())
    assert set(results_of(out, plan.cells)) == {cell.id for cell in plan.cells}
    (killed,) = notes(out, "kills")
    assert notes(out, "begins") == Counter([cell.id for cell in plan.cells] + [killed])
    assert notes(out, "ends") == Counter(cell.id for cell in plan.cells)
    assert results_of(out, plan.cells)[killed].usage.attempts == 2


def finished(seconds: float, status: str = "done") -> Result:
    return Result(Outcome(status), Usage(1, seconds, 100.0))  # type: ignore[arg-type]


def test_budget_from_measured_seconds(make: Make) -> None:
    plan = make()
    cells = {name: [cell for cell in plan.cells if plan.detector(cell) == name] for name in ("ganomaly", "bigan")}
    results = {
        cells["ganomaly"][0].id: finished(10),
        cells["ganomaly"][1].id: finished(30, "collapsed"),
        cells["ganomaly"][2].id: finished(1, "failed"),
    }
    assert seconds_per_cell(plan, plan.cells, results) == {"ganomaly": 20}
    assert seconds_left(plan, cells["ganomaly"][3:], {"ganomaly": 20}, 2) == 5 * 20 / 2
    # bigan was not measured and counts like what was; one cell cannot use two workers.
    assert seconds_left(plan, cells["bigan"][:1], {"ganomaly": 20}, 2) == 20
    assert seconds_left(plan, plan.cells, {}, 2) is None
    # What the last cells have behind them is shared by as many as still run.
    assert seconds_left(plan, cells["ganomaly"][:1], {"ganomaly": 20}, 8, gone=15) == 5
    assert seconds_left(plan, cells["ganomaly"][:1], {"ganomaly": 20}, 8, gone=25) == 0
    text = "\n".join(budget_lines(plan, results, 2))
    assert "16 cells, 3 finished, 13 to do on 2 workers" in text
    assert "measured: ganomaly 20.0 s per cell" in text
    assert f"budget: {13 * 20 / 2 / 3600:.2f} hours" in text
    assert "unknown until the first cells are done" in budget_lines(plan, {}, 2)[-1]
    timed = make("base={training.minutes: 6, detector.width: 4, detector.nz: 8}")
    assert "0.80 hours of training" in budget_lines(timed, {}, 2)[-1]


def test_one_cell_of_each_detector_is_tried(make: Make) -> None:
    plan = make()
    assert [plan.detector(cell) for cell in first_of_each_detector(plan)] == ["ganomaly", "bigan"]


def test_the_table_counts_states(make: Make) -> None:
    plan = make("seeds=[0]", "tricks=[]")
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    board = Board(plan, plan.cells, {}, console)
    board.start(plan.cells[0].id)
    shown = Console(file=io.StringIO(), width=100)
    shown.print(board.table())
    board.finish(plan.cells[0].id, finished(8.0), None)
    shown.print(board.table())
    assert isinstance(shown.file, io.StringIO)
    rows = [line.split() for line in shown.file.getvalue().splitlines()]
    kept = [[word for word in row if word not in "│┃"] for row in rows]
    assert ["ganomaly", "0", "1", "0", "0", "0", "–"] in kept
    assert ["ganomaly", "0", "0", "1", "0", "0", "8.0"] in kept
    assert ["all", "1", "0", "1", "0", "0"] in kept
    assert "0:00:08 left" in shown.file.getvalue()
    trained = Result(Outcome("open", None, {"enc_mse": {}}), Usage(1, 8.0, 100.0))
    board = Board(plan, plan.cells, {plan.cells[0].id: trained}, quiet())
    assert board.open_cells() == [cell.id for cell in plan.cells]
    assert "unknown time left" in str(board.table().caption)  # nobody knows what measuring again takes
    assert clock(3725.2) == "1:02:05"


def test_the_time_left_falls_while_the_last_cell_runs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, now = make("seeds=[0]", "tricks=[]"), [1000.0]
    monkeypatch.setattr("inspect_gan.ablation.progress.time.monotonic", lambda: now[0])
    board = Board(plan, plan.cells, {plan.cells[0].id: finished(100.0)}, quiet())
    board.start(plan.cells[1].id)
    board.show(workers=8)
    now[0] += 90
    assert board.table().caption == "0:00:10 left"
