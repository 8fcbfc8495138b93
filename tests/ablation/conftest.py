"""A tiny grid, its plan, and a stand-in for the process of a cell."""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspect_gan.ablation.data import DataFiles, open_data
from inspect_gan.ablation.grid import Grid, load_grid
from inspect_gan.ablation.plan import Plan, make_plan

GRID = """\
data: {cloth: images}
seeds: [0, 1]
base: {training.steps: 3, detector.width: 4, detector.nz: 8}
axes:
  detector: [ganomaly, bigan]
tricks: [input_noise, soft_labels]
scores: [default, res_l1]
"""

# Behaves as told by a file in the sweep's folder; notes every start and every end of its work.
FAKE = """
import os, sys, time
from pathlib import Path
from inspect_gan.ablation.cell import main
from inspect_gan.ablation.folder import Outcome

def note(folder, what):
    with open(folder.path.parent.parent / "notes.txt", "a") as file:
        file.write(f"{what} {folder.path.name} {os.getpid()} {os.getppid()} {os.environ['OMP_NUM_THREADS']}\\n")

def work(folder):
    behaviour = folder.path.parent.parent / "behaviour.py"
    note(folder, "begins")
    scope = {"folder": folder, "Outcome": Outcome, "note": note}
    exec(behaviour.read_text() if behaviour.is_file() else "", scope)
    note(folder, "ends")
    outcome = Outcome("done", None, dict.fromkeys(("enc_mse", "comb", "res_l1"), {"pixel_auroc": 0.5}))
    return scope.get("outcome", outcome)

sys.exit(main(Path(sys.argv[1]), work))
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A data set in the MVTec layout with tiny images."""
    rng = np.random.default_rng(0)
    for name in ("train/good/0", "train/good/1", "test/hole/0", "ground_truth/hole/0_mask"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 2, (40, 40), np.uint8) * 255)
    return tmp_path / "images"


@pytest.fixture
def grid_file(images: Path) -> Path:
    path = images.parent / "grid.yaml"
    path.write_text(GRID, encoding="utf-8")
    return path


def plan_of(grid: Grid, lines: dict[str, str], out: Path) -> Plan:
    data: dict[str, DataFiles] = {name: open_data(name, entry, out) for name, entry in grid.data.items()}
    return make_plan(grid, lines, data)


@pytest.fixture
def make(grid_file: Path, tmp_path: Path) -> Callable[..., Plan]:
    """Overrides of the grid -> its plan."""

    def make(*overrides: str) -> Plan:
        return plan_of(*load_grid(grid_file, overrides), tmp_path)

    return make


@pytest.fixture
def fake(tmp_path: Path) -> tuple[str, ...]:
    """Command of the stand-in for a cell's process."""
    path = tmp_path / "fake_cell.py"
    path.write_text(FAKE, encoding="utf-8")
    return sys.executable, str(path)
