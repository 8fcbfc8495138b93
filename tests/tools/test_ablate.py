"""The command `ablate` on real trainings, as small as they get."""

import csv
import json
import re
from pathlib import Path

import pytest

from inspect_gan.ablation.folder import CELLS
from inspect_gan.inspector import Inspector
from inspect_gan.tools.cli import main

GRID = """\
data:
  fibres: {draw: {normal: 3, defective: 1, height: 96, width: 160}}
seeds: [3]
base:
  training.steps: 2
  training.batch_size: 4
  detector.width: 4
  detector.nz: 8
  data.holdout_fraction: 0.4
  scoring.target_fpr: 0.2
  scoring.stride: 16
axes:
  detector: [ganomaly, ebgan]
tricks: [input_noise]
scores: [default, res_l1]
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["ablate", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    code = stop.value.code
    return (0 if code is None else int(code)), captured.out, captured.err


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID, encoding="utf-8")
    return path


def test_a_sweep_of_real_trainings(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code, text, _ = run(capsys, grid, "--out", out, "--dry-run", "tricks=[input_noise, label_flipping]")
    assert code == 0
    assert "6 cells, 0 finished, 6 to do" in text
    assert "not applicable: detector=ebgan input_noise=on label_flipping=on: ebgan cannot exchange" in text
    assert not out.exists()

    code, text, _ = run(capsys, grid, "--out", out, "--trial", "--workers", "2")
    assert code == 0
    assert "4 cells, 2 finished, 2 to do on 2 workers" in text
    assert "budget: 0." in text

    code, text, _ = run(capsys, grid, "--out", out)
    assert code == 0
    assert "4 of 4 cells, 0 failed or collapsed" in text
    cells = sorted((out / CELLS).iterdir())
    assert len(cells) == 4
    for cell in cells:
        result = json.loads((cell / "result.json").read_text())
        assert result["outcome"]["status"] == "done"
        assert result["usage"]["attempts"] == 1
        assert 0 <= result["outcome"]["scores"]["res_l1"]["pixel_auroc"] <= 1
        assert Inspector.load(cell / "run").config.seed == 3
        assert (cell / "evaluation" / "metrics.md").is_file()
        assert not (cell / "evaluation" / "maps").exists()
    assert {"grey", "bright_smooth"} <= set(json.loads(next((out / "baselines").iterdir()).read_text()))
    rows = list(csv.DictReader((out / "results.csv").open(newline="", encoding="utf-8")))
    assert len([row for row in rows if row["status"] == "done"]) == 4 * 2
    links = re.findall(r'(?:href|src)="([^"#]+)"', (out / "index.html").read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (out / link).exists()]

    code, text, _ = run(capsys, grid, "--out", out)
    assert "0 to do" in text
    assert {json.loads((cell / "result.json").read_text())["usage"]["attempts"] for cell in cells} == {1}

    # Another score is measured without training again.
    before = {cell: (cell / "run" / "stats.jsonl").read_text() for cell in cells}
    _, text, _ = run(capsys, grid, "--out", out, "--dry-run", "scores=[res_l2]")
    assert "4 cells, 0 finished, 4 to do" in text
    code, text, _ = run(capsys, grid, "--out", out, "scores=[res_l2]")
    assert code == 0
    assert "4 of 4 cells, 0 failed or collapsed" in text
    for cell in cells:
        scores = json.loads((cell / "result.json").read_text())["outcome"]["scores"]
        assert {"res_l1", "res_l2"} < set(scores)
        assert (cell / "run" / "stats.jsonl").read_text() == before[cell] != ""
    rows = list(csv.DictReader((out / "results.csv").open(newline="", encoding="utf-8")))
    assert {row["score"] for row in rows if row["status"] == "done"} == {"res_l2"}

    # And earlier scores are not measured again.
    _, text, _ = run(capsys, grid, "--out", out)
    assert "0 to do" in text
    assert {json.loads((cell / "result.json").read_text())["usage"]["attempts"] for cell in cells} == {2}


def test_data_sets_are_named_after_their_folders_and_list_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mats.v1", "mats.v2"):
        (tmp_path / name).mkdir()
    for first, second, same in (("mats.v1", "mats.v2", False), ("mats.txt", "mats.csv", True)):
        data = [text for name in (first, second) for text in ("--data", tmp_path / name)]
        code, _, error = run(capsys, "penalty", "--out", tmp_path / "o", "--dry-run", *data)
        assert code == 2
        assert ("two --data have the same name" in error) == same


def test_a_stopped_sweep_names_no_other_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("inspect_gan.ablation.command.run_ablation", stop)
    code, text, _ = run(capsys, "penalty", "--out", "o", "--data", "mats", "--workers", "4", "seeds=[0]")
    assert code == 130
    assert text.splitlines() == ["stopped; what is finished is kept, and the same command goes on"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml", "--out", "o"], "nowhere.yaml"),
        (["penalti", "--out", "o"], "did you mean 'penalty'"),
        (["penalty", "--out", "o", "--data", "nowhere"], "nowhere"),
        (["penalty", "--out", "o", "sedes=[1]"], "did you mean 'seeds'"),
        (["penalty", "--out", "o", "--engine", "spark"], "spark"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "o").exists()
