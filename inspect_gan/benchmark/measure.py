"""Processes and their cost, repeated in alternation; medians with their spread.

The process that measures does not import torch: a child starts with the peak memory of its parent.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inspect_gan.benchmark.plan import Job
from inspect_gan.errors import InspectGanError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
Samples = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Spread:
    """Of one quantity over the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError for no values."""
        return cls(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], peer: Sequence[float], more_is_better: bool) -> list[float]:
    """How many times better ours is, repetition by repetition. Where one side was measured once, it stands for all."""
    count = max(len(ours), len(peer))
    pairs = zip(_stretched(ours, count), _stretched(peer, count), strict=True)
    return [a / b if more_is_better else b / a for a, b in pairs]


def _stretched(values: Sequence[float], count: int) -> Sequence[float]:
    return list(values) * count if len(values) == 1 else values


def run_process(argv: Sequence[str], environment: Mapping[str, str], threads: int) -> dict[str, Any]:
    """Run a process to its end: `process_cpu_s`, `process_wall_s`, `rss_mb` (10^6 bytes), and what its last line, an
    object in JSON, tells.

    Raises InspectGanError when it fails.
    """
    environment = {**environment, "CUDA_VISIBLE_DEVICES": "", **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(argv, env=environment, stdout=output, stderr=errors)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        lines = output.read().strip().splitlines()
        if process.returncode != 0:
            said = errors.read().strip().splitlines() or lines or ["it said nothing"]
            raise InspectGanError(f"a measured process failed with exit code {process.returncode}: {said[-1]}")
    told = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    peak = usage.ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
    measured = {"process_cpu_s": usage.ru_utime + usage.ru_stime, "process_wall_s": wall, "rss_mb": peak / 1e6}
    return measured | told


def alternate(
    group: Sequence[Job], repetitions: int, run: Callable[[Job], dict[str, Any]], said: Callable[[str], None]
) -> Samples:
    """Samples of every job of a group, {name: {quantity: [values]}}: all jobs in turn, as often as asked."""
    samples: Samples = {}
    for job in group:
        if job.warm:
            said(f"{job.name}: not counted, brings its files into memory")
            run(job)
    for repetition in range(repetitions):
        for job in group:
            if job.once and repetition:
                continue
            found, times = run(job), 1 if job.once else repetitions
            for quantity, value in found.items():
                samples.setdefault(job.name, {}).setdefault(quantity, []).append(value)
            said(f"{job.name}, {repetition + 1} of {times}: {found['process_cpu_s']:.1f} CPU s")
    return samples
