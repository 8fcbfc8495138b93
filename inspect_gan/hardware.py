"""Where computations run and in which precision. Torch is imported on first use: an exported detector needs none."""

import math
from typing import Literal

Resolved = Literal["32-true", "bf16-mixed", "16-mixed"]
Precision = Literal["auto", Resolved]


def resolve_device(device: str) -> str:
    """ "auto" -> "cuda" where there is one, else "cpu"."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def free_memory(device: str) -> float:
    """Free bytes of a GPU; without end on the CPU, where data lie already."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device == "cuda" else math.inf


def resolve_precision(precision: Precision, device: str) -> Resolved:
    """ "auto" -> bfloat16 where the device computes in it natively, else 32-bit."""
    if precision != "auto":
        return precision
    import torch

    native = torch.cuda.is_bf16_supported() if device == "cuda" else cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively (AVX512-BF16 or AMX): elsewhere it is slower than float32."""
    import torch

    return any(
        getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed for want of memory, on a GPU or in the machine, whoever says so in whatever way."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory")
    )
