"""Run one cell's process, watch what it uses, end it at its limits, write the result. Loads no torch."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inspect_gan.ablation.cell import STOPPED
from inspect_gan.ablation.folder import LOG, CellFolder, Outcome, Result, Usage
from inspect_gan.benchmark.measure import THREAD_VARIABLES
from inspect_gan.imaging import remove_unfinished

POLL_SECONDS = 0.1
NOTE_SECONDS = 2.0  # between two notes of what a cell has used
GRACE_SECONDS = 30.0  # for a cell that was asked to stop, to write its checkpoint


@dataclass(frozen=True)
class Job:
    """How cells are run. seconds, memory_mb: limits, None for none. command: of the cell's process, to which its
    folder is added; None: the real one."""

    seconds: float | None = None
    memory_mb: float | None = None
    threads: int = 1
    command: Sequence[str] | None = None


def supervise(
    path: Path,
    job: Job,
    stop: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
) -> bool:
    """Run the cell in a folder to its result. Returns whether it has one: not when `stop` became true.

    environment: additions to this process's own.
    """
    folder = CellFolder(path)
    earlier, outcome = folder.result(), folder.outcome()
    # One that was done and has no outcome, or another, was reopened.
    if earlier is not None and (earlier.outcome.status != "done" or earlier.outcome == outcome):
        return True
    remove_unfinished(path)
    usage = folder.usage()
    if outcome is None:
        usage = Usage(usage.attempts + 1, usage.seconds, usage.peak_mb)
        free = 0.0 if earlier is None else earlier.usage.seconds
        outcome, usage = _attempt(folder, job, usage, free, stop, environment or {})
    folder.write_usage(usage)
    if outcome is None:
        return False
    if earlier is not None and outcome.status != "done":
        outcome = replace(outcome, scores=earlier.outcome.scores)
    folder.write_result(Result(outcome, usage))
    return True


def _attempt(
    folder: CellFolder, job: Job, before: Usage, free: float, stop: Callable[[], bool], environment: Mapping[str, str]
) -> tuple[Outcome | None, Usage]:
    """One process from start to end: how it ended, None when stopped, and what the cell has used since its start.

    free: seconds of `before` that do not count against the limit.
    """
    folder.write_usage(before)
    command = job.command or (sys.executable, "-m", "inspect_gan.ablation.cell")
    threads = dict.fromkeys(THREAD_VARIABLES, str(job.threads))
    peak = 0.0
    with (folder.path / LOG).open("ab") as log:
        started = noted = time.monotonic()
        process = subprocess.Popen(
            [*command, str(folder.path)],
            stdin=subprocess.PIPE,  # its end tells the cell that this process is gone
            stdout=log,
            stderr=log,
            env={**os.environ, **threads, **environment},
            start_new_session=True,  # Ctrl-C is for the sweep, which then stops its cells
        )
        usage = before
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                peak = max(peak, peak_memory_mb(process.pid))
                now = time.monotonic()
                usage = before.plus(now - started, peak)
                if now - noted > NOTE_SECONDS:
                    folder.write_usage(usage)
                    noted = now
                if job.seconds is not None and usage.seconds - free > job.seconds:
                    return Outcome("failed", f"took longer than {job.seconds / 60:g} minutes"), usage
                if job.memory_mb is not None and peak > job.memory_mb:
                    return Outcome("failed", f"needed more than {job.memory_mb:g} MB of memory"), usage
                if stop():
                    _ask_to_stop(process)
                    return folder.outcome(), usage
        except KeyboardInterrupt:  # how Ray cancels
            _ask_to_stop(process)
            raise
        finally:
            _kill(process)
    usage = before.plus(time.monotonic() - started, peak)
    outcome = folder.outcome()
    if outcome is None and process.returncode != STOPPED:
        outcome = Outcome("failed", _death(process.returncode, folder.path / LOG))
    return outcome, usage


def peak_memory_mb(pid: int) -> float:
    """Highest resident memory of a running process, 10^6 bytes; 0 when it is gone, or where there is no /proc."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("VmHWM")), 0.0)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those it started, if it still runs."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def _death(code: int, log: Path) -> str:
    """Why a process ended without an outcome."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", most likely because the machine ran out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    return f"its process ended with exit code {code}: {lines[-1]}"
