import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inspect_gan.benchmark import peer, plan, results, run
from inspect_gan.benchmark.page import page
from inspect_gan.errors import InspectGanError
from inspect_gan.patches.grid import Grid
from inspect_gan.tools.cli import main

Made = Callable[..., dict[str, Any]]


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["name"] == name)


def exit_code(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> int:
    for name, found in (("old", old), ("new", new)):
        (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--out", str(folder / "new.json"), "--compare", str(folder / "old.json")])
    return int(stopped.value.code or 0)


def test_rows_and_jobs_fit_together() -> None:
    for quick in (False, True):
        jobs = [job for group in plan.jobs(quick) for job in group]
        names = [job.name for job in jobs]
        assert len(set(names)) == len(names)
        used = {name for entry in plan.ROWS for name in (entry.ours, entry.peer)}
        assert used - {None} == set(names)
    assert len({entry.name for entry in plan.ROWS}) == len(plan.ROWS)
    assert {entry.quantity for entry in plan.ROWS} <= set(plan.QUANTITIES)


def test_every_job_of_a_case_names_one_there_is() -> None:
    from inspect_gan.benchmark.cases import CASES

    for group in plan.jobs(quick=False):
        for job in group:
            known = {"case": CASES, "peer": peer.CASES, "command": {job.what: None}}[job.kind]
            assert job.what in known


@pytest.mark.parametrize("stride", [16, 8, 5])
def test_the_peer_sees_the_same_patches(stride: int) -> None:
    for extent in (32, 33, 64, 700, 1024):
        grid = Grid(extent, extent, 32, stride)
        assert tuple(peer.positions(extent, stride)) == grid.rows


def test_row_has_spreads_ratio_and_verdict(made: Made) -> None:
    found = made()
    fp32 = row(found, "train_fp32")
    assert fp32["ours"] == {"median": 300.0, "low": 270.0, "high": pytest.approx(330.0)}
    assert fp32["ratio"]["median"] == 3.0
    assert (fp32["goal"], fp32["met"]) == ("≥ 1.6×", True)
    wall = row(found, "map16_wall")
    assert (wall["goal"], wall["met"], wall["ratio"]["median"]) == ("≤ 0.6 s", False, 3.0)
    alone = row(found, "growth_map")
    assert (alone["peer"], alone["ratio"]) == (None, None)
    assert row(found, "map16_fp32")["ratio"]["median"] == 3.0  # less time is better
    assert row(found, "map16_fp32")["met"] is None
    assert row(found, "map16_bf16")["met"] is True


def test_without_a_peer_ratios_and_their_goals_are_open(made: Made) -> None:
    found = made(peer=False)
    assert row(found, "train_fp32")["ours"] is not None
    assert row(found, "train_fp32")["met"] is None
    assert results.cells(row(found, "train_fp32"))[2:] == ("–", "≥ 1.6×", run.NO_PEER)
    assert "fp32, against the peer's engine: no peer, goal ≥ 1.6×" in page(found)
    assert row(found, "start_help")["met"] is False  # a goal of its own


def test_bf16_rows_say_why_they_are_empty(made: Made) -> None:
    shown = results.cells(row(made(bf16=False), "train_bf16"))
    assert shown == ("–", "100 (90–110)", "–", "≥ 2.5×", run.NO_BF16)


def test_table_lists_every_case(made: Made) -> None:
    text = StringIO()
    Console(file=text, width=250).print(results.table(made()))
    for entry in plan.ROWS:
        assert entry.text.replace("`", "") in text.getvalue()
        assert entry.section.replace("`", "") in text.getvalue()
    assert "Example CPU" in text.getvalue()


def test_page_shows_rows_goals_limits(made: Made) -> None:
    text = page(made())
    for entry in plan.ROWS:
        assert f"| {entry.text} |" in text
    goals = [entry for entry in plan.ROWS if entry.goal]
    met = sum(bool(shown["met"]) for shown in made()["rows"])
    assert 0 < met < len(goals)
    assert f"{met} of {len(goals)} are met." in text
    assert "Not measured:" not in text
    assert "CUDA paths have not been timed" in text
    # 100 GFLOP/s and 2 MFLOP a patch are 50 000 patches a second; 2709 patches of 100 MFLOP take 2.71 s
    assert "at most 50,000 patches per CPU second" in text
    assert "at least 2.71 CPU seconds" in text


def test_page_of_a_machine_without_bf16_and_without_peer(made: Made) -> None:
    text = page(made(bf16=False, peer=False))
    assert "without bfloat16 instructions" in text
    assert f"Training: bf16, against the peer's engine in fp32: {run.NO_BF16}, goal ≥ 2.5×" in text
    assert "  - fp32: 100 GFLOP/s" in text
    assert "  - bf16:" not in text


def test_equal_results_are_no_regression(tmp_path: Path, made: Made) -> None:
    assert exit_code(tmp_path, made(), made()) == 0


@pytest.mark.parametrize(("factor", "code"), [(0.86, 0), (0.84, 1), (2.0, 0)])
def test_a_ratio_that_fell_by_more_than_15_percent_is(tmp_path: Path, made: Made, factor: float, code: int) -> None:
    new = made()
    row(new, "map8_bf16")["ratio"]["median"] *= factor
    assert exit_code(tmp_path, made(), new) == code


def test_a_slower_machine_is_no_regression(tmp_path: Path, made: Made) -> None:
    new = made()
    for entry in new["rows"]:
        for side in ("ours", "peer"):
            if entry[side]:
                entry[side] = {key: value * 3 for key, value in entry[side].items()}
    assert exit_code(tmp_path, made(), new) == 0


def test_a_ratio_that_is_gone_is_a_regression(tmp_path: Path, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(tmp_path, made(), made(bf16=False)) == 1
    assert f"now gone: {run.NO_BF16}" in capsys.readouterr().out


def test_nothing_to_compare_is_an_error(tmp_path: Path, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(tmp_path, made(peer=False), made()) == 2
    assert "without a peer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"), [(None, "measure first"), ("{", "is damaged"), ("[]", "no result"), ("{}", "no result")]
)
def test_files_that_are_no_results_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "odd.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InspectGanError, match=f"odd.json.*{message}"):
        results.load(path)


def test_a_python_without_the_peer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--out", str(tmp_path / "x.json"), "--peer-python", str(tmp_path / "no-python")])
    assert stopped.value.code == 2
    assert "no-python cannot run the peer" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
