"""Where cells run: processes on this machine, or tasks on a Ray cluster that shares the sweep's folder.

An engine takes cells and answers with futures; which cell comes when is the sweep's affair.
"""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, Self

from inspect_gan.ablation.supervise import GRACE_SECONDS, Job, supervise
from inspect_gan.errors import InspectGanError

# A cell whose Ray worker was lost starts again, from its checkpoint, this often.
RAY_RETRIES = 5


class Engine(Protocol):
    """A context manager; leaving it stops the cells that run. `submit`'s future tells whether the cell has a result."""

    @property
    def workers(self) -> int:
        """How many cells run side by side at present."""

    def submit(self, cell: Path) -> Future[bool]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Local:
    """Processes on this machine. gpus: ids to spread the cells over, empty without any."""

    def __init__(self, job: Job, workers: int, gpus: Sequence[str] = ()):
        self.workers = workers
        self._job = job
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(workers)
        # One environment per worker, taken by a cell and given back.
        self._free: SimpleQueue[dict[str, str]] = SimpleQueue()
        for number in range(workers):
            self._free.put({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})

    def submit(self, cell: Path) -> Future[bool]:
        return self._threads.submit(self._run, cell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, cell: Path) -> bool:
        environment = self._free.get()
        try:
            return supervise(cell, self._job, self._stop.is_set, environment)
        finally:
            self._free.put(environment)


class Ray:
    """Tasks on the cluster of RAY_ADDRESS, or on one started on this machine. A task that loses its worker is repeated.

    workers: of a cluster started here; an existing one decides by its cores. gpus: those of this machine; where there
    are any a cell gets one. Raises InspectGanError when ray is not installed.
    """

    def __init__(self, job: Job, workers: int, gpus: Sequence[str] = ()):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray takes the GPUs away from tasks that ask for none; here that means none were found.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise InspectGanError("--engine ray needs Ray: pip install 'inspect-gan[ray]'") from None
        self._ray: Any = ray
        self._job = job
        self._gpus = bool(gpus)
        address = os.environ.get("RAY_ADDRESS")
        settings: dict[str, Any] = (
            {"address": address}
            if address
            else {"address": "local", "num_cpus": workers * job.threads, "include_dashboard": False}
        )
        self._ray.init(log_to_driver=False, logging_level="ERROR", **settings)
        self._task = self._ray.remote(num_cpus=job.threads, num_gpus=1 if gpus else 0, max_retries=RAY_RETRIES)(
            _on_worker
        )
        self._submitted: list[tuple[Any, Future[bool]]] = []

    @property
    def workers(self) -> int:
        """Grows and shrinks with the cluster."""
        has = self._ray.cluster_resources()
        by_cores = int(has.get("CPU", 0)) // self._job.threads
        return max(min(by_cores, int(has.get("GPU", 0))) if self._gpus else by_cores, 1)

    def submit(self, cell: Path) -> Future[bool]:
        reference = self._task.remote(str(cell.absolute()), self._job)
        future: Future[bool] = reference.future()
        self._submitted.append((reference, future))
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        running = [reference for reference, future in self._submitted if not future.done()]
        for reference in running:
            self._ray.cancel(reference)
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=GRACE_SECONDS)
        self._ray.shutdown()


def _on_worker(cell: str, job: Job) -> bool:
    return supervise(Path(cell), job)
