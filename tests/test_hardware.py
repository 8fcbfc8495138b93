"""Threads that are kept apart, other work in their way, and algorithms that repeat themselves."""

import os
import subprocess
import sys
import time

import pytest
import torch

from inspect_gan import hardware
from inspect_gan.hardware import (
    Crowd,
    Resolved,
    deterministic,
    full_float32,
    keep_threads_apart,
    resolve_precision,
)


@pytest.mark.parametrize(
    ("environment", "gpu", "bound"),
    [
        ({}, False, "true"),
        ({"OMP_NUM_THREADS": "1"}, False, None),
        ({"OMP_NUM_THREADS": "2"}, False, "true"),
        ({"OMP_PROC_BIND": "false"}, False, "false"),
        ({}, True, None),
    ],
)
def test_threads_are_kept_apart_where_all_cores_are_used(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], gpu: bool, bound: str | None
) -> None:
    monkeypatch.setattr(os, "environ", dict(environment))
    monkeypatch.setattr(hardware.Path, "exists", lambda path: gpu)
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    keep_threads_apart()
    assert os.environ.get("OMP_PROC_BIND") == bound


def test_deterministic_algorithms_where_wanted_and_no_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    assert not os.environ
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        with deterministic(False):  # a caller's wish is left alone
            assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"  # without which cuBLAS refuses


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_that_a_gpu_emulates_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_precision("auto", "cuda") == precision


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_tf32_is_off_where_32_bits_are_wanted_and_no_longer_than_that(
    monkeypatch: pytest.MonkeyPatch, precision: Resolved, allowed: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    with pytest.raises(KeyboardInterrupt), full_float32(precision):
        assert torch.backends.cudnn.allow_tf32 == (allowed and precision != "32-true")
        raise KeyboardInterrupt
    assert torch.backends.cudnn.allow_tf32 == allowed


@pytest.mark.parametrize(("threads", "cpu", "noticed"), [(2, 39.0, False), (2, 25.0, True), (1, 5.0, False)])
def test_other_work_is_noticed_once(monkeypatch: pytest.MonkeyPatch, threads: int, cpu: float, noticed: bool) -> None:
    clocks = {"wall": 100.0, "cpu": 7.0}
    monkeypatch.setattr(time, "monotonic", lambda: clocks["wall"])
    monkeypatch.setattr(time, "process_time", lambda: clocks["cpu"])
    crowd = Crowd(threads)
    clocks |= {"wall": 119.0, "cpu": 8.0}
    assert crowd.noticed() is None  # too early to tell
    clocks |= {"wall": 120.0, "cpu": 7.0 + cpu}
    line = crowd.noticed()
    assert (line is not None) == noticed
    assert line is None or "2 threads have 1.2 cores" in line
    assert crowd.noticed() is None


@pytest.mark.parametrize(
    "training",
    [
        "from inspect_gan.tools.cli import main; main(['train', '--data', '.', '--out', 'nowhere'])",
        "from inspect_gan.ablation.cell import train_and_evaluate; train_and_evaluate(None)",
    ],
)
def test_threads_are_kept_apart_before_torch_is_imported(training: str) -> None:
    script = (
        "import sys; from inspect_gan import hardware;"
        "hardware.keep_threads_apart = lambda: sys.exit(4 if 'torch' in sys.modules else 5);"
        f"{training}"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 5
