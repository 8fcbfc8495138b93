import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inspect_gan.benchmark import cases, install, machine
from inspect_gan.benchmark.measure import Spread, alternate, ratios, run_process
from inspect_gan.benchmark.plan import Job
from inspect_gan.errors import InspectGanError


def test_spread_is_median_and_range() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)
    assert Spread.of([4.0, 1.0, 2.0, 8.0]) == Spread(3.0, 1.0, 8.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no median"):
        Spread.of([])


def test_ratios_say_how_many_times_better_ours_is() -> None:
    assert ratios([300.0, 200.0], [100.0, 50.0], more_is_better=True) == [3.0, 4.0]
    assert ratios([2.0, 4.0], [6.0, 4.0], more_is_better=False) == [3.0, 1.0]


def test_what_was_measured_once_stands_for_every_repetition() -> None:
    assert ratios([2.0], [4.0, 6.0, 8.0], more_is_better=False) == [2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0, 2.0], [1.0, 2.0, 3.0], more_is_better=False)


def test_jobs_take_turns() -> None:
    ran: list[str] = []

    def run(job: Job) -> dict[str, Any]:
        ran.append(job.name)
        return {"process_cpu_s": float(len(ran))}

    group = [Job("a", "case", "x", warm=True), Job("b", "peer", "x"), Job("c", "case", "x", once=True)]
    samples = alternate(group, 3, run, lambda line: None)
    assert ran == ["a", "a", "b", "c", "a", "b", "a", "b"]
    assert samples == {
        "a": {"process_cpu_s": [2.0, 5.0, 7.0]},  # not the first, which only brings files into memory
        "b": {"process_cpu_s": [3.0, 6.0, 8.0]},
        "c": {"process_cpu_s": [4.0]},
    }


def run_python(code: str, threads: int = 1) -> dict[str, Any]:
    return run_process([sys.executable, "-S", "-c", code], os.environ, threads)


def test_a_process_is_told_its_threads_and_its_last_line_is_read() -> None:
    told = run_python(
        "import os; print('noise'); print('{\"threads\": ' + os.environ['OMP_NUM_THREADS'] + ', \"cpu_s\": 3.5}')", 2
    )
    assert (told["threads"], told["cpu_s"]) == (2, 3.5)


def test_time_of_a_process_is_its_own() -> None:
    idle = run_python("import time; time.sleep(0.3)")
    assert idle["process_wall_s"] >= 0.3
    assert 0 < idle["process_cpu_s"] < idle["process_wall_s"]


def test_memory_of_a_process_is_its_own() -> None:
    # In a process of its own: a child starts with its parent's peak, and this one may have torch.
    code = (
        "import os, sys\n"
        "import inspect_gan.tools.benchmark, inspect_gan.benchmark.run, inspect_gan.imaging\n"
        "from inspect_gan.benchmark.measure import run_process\n"
        "assert 'torch' not in sys.modules\n"
        "for code in ('x = bytearray(200_000_000)', 'pass'):\n"
        "    print(run_process([sys.executable, '-S', '-c', code], os.environ, 1)['rss_mb'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    large, small = map(float, done.stdout.split())
    assert 200 < large < 400
    assert small < 150  # not the peak of the one before


def test_a_failed_process_is_reported_with_its_last_words() -> None:
    with pytest.raises(InspectGanError, match="exit code 1: ValueError: no such thing"):
        run_python("raise ValueError('no such thing')")
    with pytest.raises(InspectGanError, match="exit code -9: it said nothing"):
        run_python("import os; os.kill(os.getpid(), 9)")


def test_rates_of_steps() -> None:
    even = cases.rates([10.0, 10.5, 11.0, 11.5, 12.0], batch_size=64)
    assert even == {"patches_per_cpu_s": 128.0, "growth": 1.0}
    slowing = cases.rates([0.0, 1.0, 2.0, 4.0, 6.0], batch_size=6)
    assert slowing == {"patches_per_cpu_s": 4.0, "growth": 2.0}


def test_bfloat16_is_either_there_or_not(tmp_path: Path) -> None:
    found = cases.describe(tmp_path)
    assert isinstance(found["bf16"], bool)
    assert found["versions"].keys() == {"inspect_gan", "torch", "numpy", "python"}


def test_machine_is_described() -> None:
    found = machine.describe()
    assert found["cpu"]
    assert found["cores"] == os.cpu_count()


def test_peer_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(argv: list[Any], **_: Any) -> None:
        ran.append([str(word) for word in argv])
        install.peer_folder().mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(subprocess, "run", run)
    said: list[str] = []
    assert install.install_peer(said.append) == install.install_peer(said.append)
    assert len(said) == 1
    assert [words[1:3] for words in ran] == [["-m", "venv"], ["-m", "pip"]]
    assert "anomalib==2.7.0" in ran[1]
    assert ran[1][0].startswith(str(tmp_path))


def test_a_failed_installation_is_not_taken_for_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(argv: list[Any], **_: Any) -> None:
        install.peer_folder().mkdir(parents=True, exist_ok=True)
        if "pip" in argv:
            raise subprocess.CalledProcessError(1, argv, stderr="Collecting\nERROR: no network")

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        with pytest.raises(InspectGanError, match=r"ERROR: no network.*--peer-python.*--peer none"):
            install.install_peer(lambda line: None)
