"""The work of one cell on real, tiny trainings: fresh, resumed, half-written, moved."""

import json
import shutil
from pathlib import Path

import pytest

from inspect_gan.ablation.cell import train_and_evaluate
from inspect_gan.ablation.data import open_data
from inspect_gan.ablation.folder import CELLS, CellFolder, Result, Usage, baselines
from inspect_gan.ablation.grid import load_grid
from inspect_gan.ablation.plan import make_plan, planned_cells, write_plan
from inspect_gan.errors import InspectGanError

GRID = """\
data:
  fibres: {draw: {normal: 2, defective: 1, height: 96, width: 160}}
seeds: [0]
base:
  training: {steps: 3, batch_size: 4, log_every: 1}
  detector: {name: ganomaly, width: 4, nz: 8}
  data.holdout_fraction: 0.4
  scoring: {target_fpr: 0.2, stride: 32}
"""


def prepare(out: Path, *overrides: str) -> CellFolder:
    """A sweep of one cell."""
    path = out.parent / "grid.yaml"
    path.write_text(GRID)
    grid, lines = load_grid(path, overrides)
    plan = make_plan(grid, lines, {name: open_data(name, entry, out) for name, entry in grid.data.items()})
    write_plan(out, plan)
    return CellFolder(out / CELLS / plan.cells[0].id)


def steps(folder: CellFolder) -> list[int]:
    """Iterations that the run logged."""
    lines = (folder.path / "run" / "stats.jsonl").read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines]


def test_a_cell_goes_on_where_it_stood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepare(tmp_path / "out")
    # What a kill before the first checkpoint leaves.
    (folder.path / "run").mkdir()
    (folder.path / "run" / "config.yaml").write_text("half of it")
    (folder.path / "evaluation").mkdir()
    first = train_and_evaluate(folder)
    assert first.status == "done"
    assert steps(folder) == [1, 2, 3]
    assert set(first.scores) == {"enc_mse", "res_ssim"}
    for metric in first.scores["res_ssim"]:  # a column of results.csv
        with pytest.raises(InspectGanError, match=f"no axis may be called '{metric}'"):
            load_grid("penalty", [f"axes={{{metric}: {{small: {{detector.width: 4}}}}}}"])
    metrics = json.loads((folder.path / "evaluation" / "metrics.json").read_text())
    coverage = metrics["coverage"]
    own = first.scores["res_ssim"]
    assert own["coverage"] == coverage["share_above_half"] is not None
    assert [own[f"coverage_from_{edge}"] for edge in (0, 200, 800, 3200)] == [
        size["share_above_half"] for size in coverage["by_size"]
    ]
    assert own["calibrated_fpr"] == coverage["at_calibrated_threshold"]["pixel_false_alarm_rate"]
    assert own["calibrated_fpr_good"] == metrics["operating_point"]["fpr_of_good_images"] is not None
    assert "coverage" not in first.scores["enc_mse"]  # counted of one map alone
    (name,) = {cell.baselines for cell in planned_cells(tmp_path / "out")}
    measured = baselines(tmp_path / "out", name)
    assert measured is not None
    assert {"grey", "smooth", "bright_smooth"} <= set(measured)

    # Killed in the evaluation: nothing is trained again, also from another place.
    shutil.move(tmp_path / "out", tmp_path / "moved")
    moved = prepare(tmp_path / "moved")
    assert moved.path.name == folder.path.name
    capsys.readouterr()
    assert train_and_evaluate(moved) == first
    assert "starts again" not in capsys.readouterr().out
    assert "pca_residual" not in (moved.path / "evaluation" / "metrics.json").read_text()  # measured before
    assert steps(moved) == [1, 2, 3]

    # More scores come to those of earlier grids.
    moved.write_result(Result(first, Usage(1, 9.0, 1.0)))
    more = train_and_evaluate(prepare(tmp_path / "moved", "scores=[res_l1]"))
    assert set(more.scores) == {"enc_mse", "res_l1", "res_ssim"}
    assert {name: more.scores[name] for name in first.scores} == first.scores
    assert "coverage" not in more.scores["res_l1"]
    assert json.loads((moved.path / "evaluation" / "metrics.json").read_text())["score"] == "res_ssim"
    assert steps(moved) == [1, 2, 3]
    (moved.path / "result.json").unlink()
    prepare(tmp_path / "moved")

    # A checkpoint that cannot be used costs a fresh start, not the cell.
    (moved.path / "run" / "state.pt").write_bytes(b"torn")
    assert train_and_evaluate(moved) == first
    assert "starts again" in capsys.readouterr().out
