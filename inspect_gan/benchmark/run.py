"""All measurements of one benchmark, and what they amount to."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inspect_gan.benchmark import machine, plan
from inspect_gan.benchmark.measure import Samples, Spread, alternate, ratios, run_process
from inspect_gan.benchmark.plan import Job, Row
from inspect_gan.errors import InspectGanError

FORMAT = "inspect-gan-benchmark-1"
PEER_SCRIPT = Path(__file__).with_name("peer.py")
NO_BF16 = "this processor has no bfloat16 instructions"
NO_PEER = "no peer"
ONE_CORE = "this machine has one core"


def run_benchmark(peer: Path | None, quick: bool, said: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything; what it returns can be written as JSON.

    peer: a Python that has the peer, None to go without. Raises InspectGanError when a process fails.
    """
    if not hasattr(os, "wait4"):
        raise InspectGanError("the benchmark needs Linux or macOS: Windows does not tell what a process has used")
    before = machine.describe()
    samples: Samples = {}
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="inspect-gan-benchmark-") as folder:
        work = _Work(Path(folder), peer)
        versions = None if peer is None else work.peer_versions()
        facts = work.run(Job("describe", "case", "describe"))
        said("drawing images and training a short run")
        work.run(Job("prepare", "case", "prepare"))
        for group in plan.jobs(quick):
            reasons |= {job.name: why for job in group if (why := _reason(job, bool(facts["bf16"]), peer is not None))}
            wanted = [job for job in group if job.name not in reasons]
            samples |= alternate(wanted, plan.QUICK_REPETITIONS if quick else plan.REPETITIONS, work.run, said)
    return {
        "format": FORMAT,
        "made": time.strftime("%Y-%m-%d"),
        "quick": quick,
        "commit": machine.commit(),
        "machine": {**before, "bf16": facts["bf16"], "load_after": os.getloadavg()[0]},
        "versions": facts["versions"],
        "peer": versions,
        "samples": samples,
        "rows": [result(row, samples, reasons) for row in plan.ROWS],
    }


def result(row: Row, samples: Samples, reasons: Mapping[str, str]) -> dict[str, Any]:
    """A row with its figures: spreads of ours, the peer's and their ratio, whether the goal is met; None where there is
    none. reasons: by job, why it was not measured."""
    quantity = plan.QUANTITIES[row.quantity]
    ours = samples.get(row.ours, {}).get(row.quantity)
    peer = samples.get(row.peer or "", {}).get(row.quantity)
    compared = None if ours is None or peer is None else Spread.of(ratios(ours, peer, quantity.more_is_better))
    own = None if ours is None else Spread.of(ours)
    judged = None if row.goal is None else own if row.goal.of == "ours" else compared
    return {
        "name": row.name,
        "section": row.section,
        "text": row.text,
        "unit": quantity.unit,
        "digits": quantity.digits,
        "ours": own and asdict(own),
        "peer": None if peer is None else asdict(Spread.of(peer)),
        "ratio": compared and asdict(compared),
        "goal": None if row.goal is None else row.goal.text(quantity.unit),
        "met": None if row.goal is None or judged is None else row.goal.met(judged.median),
        "note": next((reasons[job] for job in (row.ours, row.peer) if job and job in reasons), None),
    }


def _reason(job: Job, bf16: bool, peer: bool) -> str | None:
    """Why a job cannot be measured here, None if it can."""
    if job.kind == "peer" and not peer:
        return NO_PEER
    if job.bf16 and not bf16:
        return NO_BF16
    return ONE_CORE if job.threads > (os.cpu_count() or 1) else None


class _Work:
    """Runs jobs on data in `folder`."""

    def __init__(self, folder: Path, peer: Path | None):
        self._data = folder / "data"
        self._data.mkdir()
        self._folder = folder
        self._peer = peer
        self._count = 0
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._theirs = {**clean, "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}

    def run(self, job: Job) -> dict[str, Any]:
        return run_process(self._argv(job), self._theirs if job.kind == "peer" else os.environ, job.threads)

    def peer_versions(self) -> dict[str, Any]:
        """Raises InspectGanError unless the peer is the one the goals are about."""
        try:
            found = self.run(Job("versions", "peer", "describe"))
        except (OSError, InspectGanError) as error:
            raise InspectGanError(
                f"{self._peer} cannot run the peer ({error}): choose another --peer-python"
            ) from error
        if found["anomalib"] != plan.PEER_VERSION:
            raise InspectGanError(
                f"{self._peer} has anomalib {found['anomalib']}, the comparison is made for {plan.PEER_VERSION}: "
                f"choose another --peer-python"
            )
        return {name: found[name] for name in ("anomalib", "torch", "lightning", "python")}

    def _argv(self, job: Job) -> list[str]:
        data, arguments = str(self._data), json.dumps(dict(job.arguments))
        if job.kind == "peer":
            return [str(self._peer), str(PEER_SCRIPT), job.what, data, arguments]
        if job.kind == "case":
            return [sys.executable, "-m", "inspect_gan.benchmark.cases", job.what, data, arguments]
        self._count += 1
        out = self._folder / f"out-{self._count}"
        words = [word.format(data=data, out=out) for word in job.what.split()]
        return [sys.executable, "-m", "inspect_gan.tools.cli", *words]
