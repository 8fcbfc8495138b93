"""One cell's process: its limits, its end, what is recorded of it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inspect_gan.ablation.folder import CellFolder, Outcome, Result, Usage
from inspect_gan.ablation.supervise import Job, supervise
from inspect_gan.errors import InspectGanError

Fake = tuple[str, ...]


@pytest.fixture
def folder(tmp_path: Path) -> CellFolder:
    path = tmp_path / "cells" / "abc"
    path.mkdir(parents=True)
    return CellFolder(path)


def behave(tmp_path: Path, code: str) -> None:
    (tmp_path / "behaviour.py").write_text(code)


def outcome_of(folder: CellFolder) -> Outcome:
    result = folder.result()
    assert result is not None
    return result.outcome


def starts(tmp_path: Path) -> int:
    return (tmp_path / "notes.txt").read_text().count("begins")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_cell_that_ends_well_has_a_result_with_what_it_used(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    assert supervise(folder.path, Job(threads=3, command=fake))
    result = folder.result()
    assert result is not None
    assert result.outcome == Outcome("done", None, {key: {"pixel_auroc": 0.5} for key in ("enc_mse", "comb", "res_l1")})
    assert result.usage.attempts == 1
    assert 0 < result.usage.seconds < 60
    assert result.usage.peak_mb > 5
    assert (tmp_path / "notes.txt").read_text().split()[-1] == "3"  # threads


def test_a_finished_cell_does_not_start_again(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    for _ in range(2):
        assert supervise(folder.path, Job(command=fake))
    assert starts(tmp_path) == 1


def test_an_outcome_whose_result_was_never_written_is_taken_up(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    supervise(folder.path, Job(command=fake))
    result = folder.result()
    (folder.path / "result.json").unlink()
    assert supervise(folder.path, Job(command=fake))
    assert folder.result() is not None and result is not None
    assert outcome_of(folder) == result.outcome
    assert starts(tmp_path) == 1


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("raise RuntimeError('the pixels\\nran out')", "failed", "RuntimeError: the pixels ran out"),
        ("from inspect_gan.errors import *; raise InspectGanError('no such file')", "failed", "no such file"),
        ("from inspect_gan.errors import *; raise UnhealthyTraining('all alike')", "collapsed", "all alike"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed", "ended by SIGKILL, .* out of memory"),
        ("import os; print('so it ends', flush=True); os._exit(7)", "failed", "exit code 7: so it ends"),
    ],
)
def test_failures_are_results_with_their_reason(
    code: str, status: str, reason: str, folder: CellFolder, fake: Fake, tmp_path: Path
) -> None:
    behave(tmp_path, code)
    assert supervise(folder.path, Job(command=fake))
    found = outcome_of(folder)
    assert found.status == status
    assert found.reason is not None
    assert re.search(reason, found.reason)


def test_time_limit_counts_all_attempts(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    behave(tmp_path, "import time; time.sleep(60)")
    folder.write_usage(Usage(attempts=1, seconds=59.5, peak_mb=1))
    began = time.monotonic()
    assert supervise(folder.path, Job(seconds=60, command=fake))
    assert time.monotonic() - began < 30
    assert outcome_of(folder).reason == "took longer than 1 minutes"
    pid = int((tmp_path / "notes.txt").read_text().split()[2]) if (tmp_path / "notes.txt").is_file() else 0
    assert gone(pid)


def measured(folder: CellFolder) -> Result:
    """A cell that took nearly a minute and has one score."""
    result = Result(Outcome("done", None, {"img": {"pixel_auroc": 0.9}}), Usage(1, 59.9, 1))
    folder.write_usage(result.usage)
    folder.write_outcome(result.outcome)
    folder.write_result(result)
    return result


def test_what_is_measured_again_keeps_its_result_and_has_the_time_of_the_limit(
    folder: CellFolder, fake: Fake, tmp_path: Path
) -> None:
    earlier = measured(folder)
    assert supervise(folder.path, Job(seconds=60, command=fake))
    assert folder.result() == earlier
    folder.reopen()
    behave(tmp_path, "import time; time.sleep(60)")
    assert not supervise(folder.path, Job(seconds=60, command=fake), lambda: (tmp_path / "notes.txt").is_file())
    assert folder.result() == earlier
    behave(tmp_path, "assert folder.result() is not None; import time; time.sleep(0.2)")
    assert supervise(folder.path, Job(seconds=60, command=fake))
    result = folder.result()
    assert result is not None and result.outcome.status == "done"
    assert set(result.outcome.scores) == {"enc_mse", "comb", "res_l1"}
    assert result.usage.attempts == 3
    assert result.usage.seconds > 59.9 == earlier.usage.seconds


def test_a_new_outcome_beside_an_older_result_is_taken_up(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    measured(folder)
    outcome = Outcome("done", None, {"img": {"pixel_auroc": 0.9}, "comb": {"pixel_auroc": 0.8}})
    folder.write_outcome(outcome)
    assert supervise(folder.path, Job(command=fake))
    assert outcome_of(folder) == outcome
    assert not (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("code", ["raise ValueError('no luck')", "import os; os._exit(7)"])
def test_measuring_again_that_fails_costs_no_score(code: str, folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    earlier = measured(folder)
    folder.reopen()
    behave(tmp_path, code)
    for _ in range(2):
        assert supervise(folder.path, Job(command=fake))
    assert starts(tmp_path) == 1
    result = folder.result()
    assert result is not None and result.outcome.status == "failed"
    assert result.seen_by({"img", "comb"}) == result
    assert result.seen_by({"img"}).outcome == earlier.outcome
    folder.forget()
    again = folder.result()
    assert again is not None and again.outcome == earlier.outcome
    assert again.seen_by({"img", "comb"}).outcome.status == "open"
    behave(tmp_path, "")
    assert supervise(folder.path, Job(seconds=60, command=fake))
    assert outcome_of(folder).status == "done"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is measured through /proc")
def test_memory_limit(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    behave(tmp_path, "import time; much = b'x' * 600_000_000; time.sleep(60)")
    assert supervise(folder.path, Job(memory_mb=400, command=fake))
    assert outcome_of(folder).reason == "needed more than 400 MB of memory"
    result = folder.result()
    assert result is not None and result.usage.peak_mb > 400


def test_a_stopped_cell_has_no_result_and_goes_on_later(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    behave(tmp_path, "import time; time.sleep(60)")
    assert not supervise(folder.path, Job(command=fake), lambda: (tmp_path / "notes.txt").is_file())
    assert folder.result() is None
    behave(tmp_path, "")
    assert supervise(folder.path, Job(command=fake))
    result = folder.result()
    assert result is not None and result.usage.attempts == 2


def test_cells_die_with_their_supervisor(folder: CellFolder, fake: Fake, tmp_path: Path) -> None:
    behave(tmp_path, "import time; time.sleep(60)")
    code = (
        "import sys; from pathlib import Path; from inspect_gan.ablation.supervise import *;"
        f"supervise(Path({str(folder.path)!r}), Job(command={fake!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not (tmp_path / "notes.txt").is_file():
        time.sleep(0.05)
    child = int((tmp_path / "notes.txt").read_text().split()[2])
    assert not gone(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if gone(child):
            break
        time.sleep(0.05)
    assert gone(child)
    assert folder.result() is None
    assert folder.usage().attempts == 1


def test_a_damaged_result_is_named(folder: CellFolder) -> None:
    (folder.path / "result.json").write_text("{")
    with pytest.raises(InspectGanError, match=r"result\.json is damaged"):
        folder.result()
