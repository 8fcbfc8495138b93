import copy
from collections.abc import Callable
from typing import Any

import pytest

from inspect_gan.benchmark import plan
from inspect_gan.benchmark.run import FORMAT, NO_BF16, NO_PEER, result


@pytest.fixture
def made() -> Callable[..., dict[str, Any]]:
    """A whole result, made up: ours take 2 of everything and make 300 patches a second, the peer 6 and 100."""

    def make(*, peer: bool = True, bf16: bool = True) -> dict[str, Any]:
        samples: dict[str, dict[str, list[float]]] = {}
        reasons: dict[str, str] = {}
        for group in plan.jobs(quick=False):
            for job in group:
                theirs = job.kind == "peer"
                if job.bf16 and not bf16:
                    reasons[job.name] = NO_BF16
                elif theirs and not peer:
                    reasons[job.name] = NO_PEER
                else:
                    small, many = (6.0, 100.0) if theirs else (2.0, 300.0)
                    samples[job.name] = dict.fromkeys(plan.QUANTITIES, [small] * 3) | {
                        "patches_per_cpu_s": [many * 0.9, many, many * 1.1]
                    }
        samples["arithmetic"] |= {"mflop_per_score": [100.0], "gflops_fp32": [100.0], "gflops_bf16": [200.0]}
        if not bf16:
            samples["arithmetic"]["gflops_bf16"] = [None]  # type: ignore[list-item]
        return copy.deepcopy(
            {
                "format": FORMAT,
                "made": "2030-01-02",
                "quick": False,
                "commit": "abc1234",
                "machine": {
                    "cpu": "Example CPU",
                    "cores": 2,
                    "system": "Linux x86_64",
                    "load": 0.1,
                    "load_after": 1.2,
                    "bf16": bf16,
                },
                "versions": {"inspect_gan": "0.1.0", "torch": "2.14.1", "numpy": "2.4.0", "python": "3.11.7"},
                "peer": {"anomalib": "2.7.0", "torch": "2.14.1", "lightning": "2.6.6", "python": "3.11.7"}
                if peer
                else None,
                "samples": samples,
                "rows": [result(row, samples, reasons) for row in plan.ROWS],
            }
        )

    return make
