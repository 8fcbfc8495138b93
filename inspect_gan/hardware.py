"""Where computations run and in which precision. Torch is imported on first use: an exported detector needs none."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from inspect_gan.errors import InspectGanError

Resolved = Literal["32-true", "bf16-mixed", "16-mixed"]
Precision = Literal["auto", Resolved]

CROWDED_AFTER = 20.0  # seconds of training before it is judged whether other work is in the way
CROWDED = 0.8  # share of the threads that then have had a processor core


def resolve_device(device: str) -> str:
    """ "auto" -> "cuda" where there is one, else "cpu". Raises InspectGanError for "cuda" where there is none."""
    import torch

    gpu = torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise InspectGanError("device cuda: PyTorch finds no GPU here; use auto or cpu, or a PyTorch made for the GPU")
    return ("cuda" if gpu else "cpu") if device == "auto" else device


def free_memory(device: str) -> float:
    """Free bytes of a GPU; without end on the CPU, where data lie already."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device == "cuda" else math.inf


def resolve_precision(precision: Precision, device: str) -> Resolved:
    """ "auto" -> bfloat16 where the device computes in it natively, else 32-bit."""
    if precision != "auto":
        return precision
    import torch

    native = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def cpu_has_bf16() -> bool:
    """Whether the processor trains faster in bfloat16 than in float32: with AMX, or with AVX512-BF16 unless it is one
    of Intel's, where the gradients of convolutions took 1.8 times as long."""
    import torch

    def has(name: str) -> bool:
        return bool(getattr(torch.cpu, name, lambda: False)())

    intel = any(line.startswith("vendor_id") and "GenuineIntel" in line for line in _lines("/proc/cpuinfo"))
    return has("_is_amx_tile_supported") or (has("_is_avx512_bf16_supported") and not intel)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, if wanted: PyTorch takes the algorithms that give the same bits each time on the same GPU, and raises
    RuntimeError where it has none. Without it nothing is changed; a CPU gives the same bits anyway.

    Source: "Reproducibility", PyTorch documentation.
    """
    import torch

    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as PyTorch's cuBLAS asks for
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def full_float32(precision: Resolved) -> Iterator[None]:
    """Inside, with 32-true: a GPU convolves in float32, as a CPU does, and not in TF32 with 10 bits of mantissa, which
    PyTorch allows cuDNN. Other precisions are left alone.

    Source: "TensorFloat-32 (TF32) on Ampere (and later) devices", PyTorch documentation.
    """
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = before and precision != "32-true"
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def keep_threads_apart() -> None:
    """Have OpenMP keep each thread on a processor core of its own, where torch is not imported yet and will use all
    cores. A thread waits for the others after every operation: two on one core, where the system puts them while other
    work has the second one, train fifty times slower."""
    all_of_them = os.environ.get("OMP_NUM_THREADS") in (None, str(cores()))
    if all_of_them and not Path("/dev/nvidiactl").exists():  # a GPU needs threads elsewhere
        os.environ.setdefault("OMP_PROC_BIND", "true")


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Crowd:
    """Notices that other work keeps the threads of this process from running side by side. threads: their number."""

    def __init__(self, threads: int):
        self._threads, self._wall, self._cpu = threads, time.monotonic(), time.process_time()
        self._asked = threads < 2

    def noticed(self) -> str | None:
        """What to say about it, once, some seconds after it began to look; None if nothing."""
        elapsed = time.monotonic() - self._wall
        if self._asked or elapsed < CROWDED_AFTER:
            return None
        self._asked = True
        running = (time.process_time() - self._cpu) / elapsed
        if running >= CROWDED * self._threads:
            return None
        return (
            f"other work shares the processor: {self._threads} threads have {running:.1f} cores, and wait for each "
            f"other; end the other work, or train with fewer (OMP_NUM_THREADS=1)"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed for want of memory, on a GPU or in the machine, whoever says so in whatever way."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory")
    )


def require_memory(what: object, needed: float) -> None:
    """Raises InspectGanError unless the machine has `needed` bytes of memory left for `what`: without a look before,
    the system would end the process, and all of its work, in the middle."""
    left = memory_left()
    if needed > left:
        raise InspectGanError(
            f"{what}: needs {needed / 1e9:.1f} GB of memory, {left / 1e9:.1f} GB are left; crop or split it, or use a "
            "larger machine"
        )


def memory_left() -> float:
    """Bytes that this process may still take: of the machine and of its container; without end where nobody says."""
    left = math.inf
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            left = int(line.split()[1]) * 1024
    for limit in _lines("/sys/fs/cgroup/memory.max"):
        used = sum(int(line.split()[1]) for line in _lines("/sys/fs/cgroup/memory.stat") if line.startswith("anon "))
        left = left if limit == "max" else min(left, int(limit) - used)
    return left


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
