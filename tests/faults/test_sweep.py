"""Sweeps: killed at any moment, themselves or the process of a cell, they end in the tables they would have had."""

import csv
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from .harness import POINTS, Server, points, unfinished

GRID = """\
data:
  fibres: {{draw: {{normal: 2, defective: 1, height: 96, width: 160}}}}
seeds: [0{more}]
base:
  training: {{steps: 3, batch_size: 4, log_every: 1, checkpoint_minutes: 1e-6, precision: 32-true}}
  detector: {{name: ganomaly, width: 4, nz: 4}}
  data.holdout_fraction: 0.4
  scoring: {{target_fpr: 0.2, stride: 32, precision: 32-true}}
tricks: [input_noise]
scores: [default]
"""
# In place of a cell's process: does not train; its outcome tells the cells apart and has all scores that are wanted.
STAND_IN = """\
#!{python}
import json, sys, time
from pathlib import Path
from inspect_gan.ablation.cell import main
from inspect_gan.ablation.folder import Outcome

def work(folder):
    time.sleep(0.1)
    value = int(folder.path.name, 16) / 16 ** len(folder.path.name)
    cells = json.loads((folder.path.parent.parent / "plan.json").read_text())["cells"]
    wanted = {{name for cell in cells if cell["id"] == folder.path.name for name in cell["scores"].values()}}
    known = folder.result().outcome.scores if folder.result() else {{}}
    return Outcome("done", None, {{name: {{"pixel_auroc": value}} for name in sorted({{*wanted, *known}})}})

sys.exit(main(Path(sys.argv[-1]), work))
"""
USED = ("attempts", "seconds", "peak_mb")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("python") / "stand_in"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(0o755)
    return path


def sweep(folder: Path, out: Path, more: str = ", 1") -> list[object]:
    grid = folder / "grid.yaml"
    grid.write_text(GRID.format(more=more))
    return ["ablate", grid, "--out", out, "--workers", 2]


def content(out: Path) -> dict[str, Any]:
    """The results but for what the cells used, the drawn images, and which other files there are."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = [{name: value for name, value in row.items() if name not in USED} for row in csv.DictReader(file)]
    files = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    names = sorted(name.partition("tfevents")[0] for name in files)  # TensorBoard's are named after the time
    return {"rows": rows, "names": names} | {
        name: path.read_bytes() for name, path in files.items() if name.startswith("data/")
    }


def finish(
    server: Server, command: list[object], python: Path, out: Path, wanted: dict[str, Any], what: object
) -> None:
    """The same command again."""
    answer = server(*command, python=str(python))
    assert answer["code"] == 0, (what, answer)
    assert "Traceback" not in answer["output"], (what, answer)
    assert content(out) == wanted, what
    assert not unfinished(out), what


@pytest.fixture(scope="module")
def whole(
    server: Server, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an undisturbed sweep leaves, and the server's answer to it."""
    folder = tmp_path_factory.mktemp("sweep")
    out = folder / "whole"
    answer = server(*sweep(folder, out), python=str(python))
    assert answer["code"] == 0, answer
    wanted = content(out)
    assert len({row["pixel_auroc"] for row in wanted["rows"]}) == 4
    return wanted, answer


def test_killed_at_file_operations(
    server: Server, python: Path, whole: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    wanted, undisturbed = whole
    killed = 0
    tried = points(undisturbed["operations"], few=4)
    for at in tried:
        out = tmp_path / "out"
        command = sweep(tmp_path, out)
        killed += server(*command, python=str(python), at=at, kind="kill")["code"] == -9
        finish(server, command, python, out, wanted, at)
        shutil.rmtree(out)
    assert killed >= len(tried) - 1  # how often it notes what cells use depends on time


def test_killed_several_times_at_random_moments(
    server: Server, python: Path, whole: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    wanted, undisturbed = whole
    rng = random.Random(2)
    for number in range(POINTS or 1):
        out = tmp_path / "out"
        command = sweep(tmp_path, out)
        for _ in range(3):
            server(*command, python=str(python), kill_after=rng.uniform(0, undisturbed["seconds"]))
        finish(server, command, python, out, wanted, number)
        shutil.rmtree(out)


def test_measuring_other_scores_killed_at_file_operations(server: Server, python: Path, tmp_path: Path) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    first = sweep(tmp_path, out)
    assert server(*first, python=str(python))["code"] == 0
    shutil.copytree(out, made)
    command = [*first, "scores=[res_l1]"]
    undisturbed = server(*command, python=str(python))
    assert undisturbed["code"] == 0, undisturbed
    wanted = content(out)
    for at in points(undisturbed["operations"], few=3):
        shutil.rmtree(out)
        shutil.copytree(made, out)
        server(*command, python=str(python), at=at, kind="kill")
        finish(server, command, python, out, wanted, at)
        results = [json.loads(path.read_text()) for path in out.glob("cells/*/result.json")]
        assert [set(result["outcome"]["scores"]) for result in results] == [{"enc_mse", "res_l1"}] * 4, at
        assert all(result["usage"]["attempts"] > 1 for result in results), at


def test_a_full_disk_is_one_sentence(
    server: Server, python: Path, whole: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    wanted, undisturbed = whole
    for at in points(undisturbed["operations"] - 10, few=3):  # how many there are depends on time
        out = tmp_path / "out"
        command = sweep(tmp_path, out)
        answer = server(*command, python=str(python), at=at, kind="ENOSPC")
        assert answer["code"] == 2, (at, answer)
        assert answer["output"].splitlines()[-1].startswith("error: "), (at, answer)
        assert "Traceback" not in answer["output"], (at, answer)
        finish(server, command, python, out, wanted, at)
        shutil.rmtree(out)


def test_cells_killed_at_file_operations(server: Server, tmp_path: Path) -> None:
    """A cell that trains and measures; a sweep would start it again in the same folder."""
    made, out = tmp_path / "made", tmp_path / "out"
    # Cells that fail at once leave the images, the plan, and folders in which nothing is done yet.
    server(*sweep(tmp_path, made, ""), python="/bin/false")
    cell = min((made / "cells").iterdir()).relative_to(made)
    (made / cell / "result.json").unlink()

    def work(**options: Any) -> dict[str, Any]:
        return server(out / cell, cell=True, **options)

    def found() -> dict[str, bytes]:
        files = [out / cell / name for name in ("outcome.json", "run/weights.safetensors", "run/calibration.json")]
        # What a kill left half-written there, the sweep removes.
        return {path.name: path.read_bytes() for path in (*files, *(out / "baselines").glob("*.json"))}

    shutil.copytree(made, out)
    undisturbed = work()
    assert undisturbed["code"] == 0, undisturbed
    wanted = found()
    for at in points(undisturbed["operations"], few=3):
        shutil.rmtree(out)
        shutil.copytree(made, out)
        assert work(at=at, kind="kill")["code"] in (-9, 0), at
        again = work()
        assert again["code"] == 0, (at, again)
        assert "Traceback" not in again["output"], (at, again)
        assert found() == wanted, at
