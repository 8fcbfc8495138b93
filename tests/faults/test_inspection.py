"""Inspection, with the calibration inside it: killed at any moment, or on a disk that fails, it goes on."""

import json
import random
import shutil
from pathlib import Path

import pytest

from .conftest import Undisturbed
from .harness import POINTS, Server, defect_map, points, result_content, unfinished


@pytest.fixture
def run(undisturbed: Undisturbed, tmp_path: Path) -> Path:
    """The undisturbed run with none but its own calibration."""
    run = tmp_path / "runs" / "run"
    shutil.copytree(undisturbed.run, run)
    forget(run)
    return run


def folder(undisturbed: Undisturbed, name: object) -> Path:
    """An empty one, as far from the images as the undisturbed one: reports hold relative paths."""
    out = undisturbed.data.parent / f"maps-{name}" / "out"
    shutil.rmtree(out.parent, ignore_errors=True)
    return out


def forget(run: Path) -> None:
    path = run / "calibration.json"
    document = json.loads(path.read_text())
    document["calibrations"] = document["calibrations"][:1]
    path.write_text(json.dumps(document))


def finish(server: Server, undisturbed: Undisturbed, run: Path, out: Path, what: object) -> None:
    """The same command again; the results then equal the undisturbed ones byte for byte."""
    rows = (out / "results.csv").read_bytes().splitlines()[1:] if (out / "results.csv").is_file() else []
    finished = set(undisturbed.result_content["results.csv"].splitlines())
    assert all(row in finished for row in rows[:-1]), what  # the last one may be cut off
    answer = server(*defect_map(undisturbed.data, run, out))
    assert answer["code"] == 2, (what, answer)
    assert "Traceback" not in answer["output"], (what, answer)
    content = result_content(out)
    assert content.keys() == undisturbed.result_content.keys(), what
    assert [name for name in content if content[name] != undisturbed.result_content[name]] == [], what
    assert not unfinished(out) and not unfinished(run), what
    forget(run)


def test_killed_at_file_operations(server: Server, undisturbed: Undisturbed, run: Path) -> None:
    for at in points(undisturbed.result_operations, few=8):
        out = folder(undisturbed, at)
        assert server(*defect_map(undisturbed.data, run, out), at=at, kind="kill")["code"] == -9, at
        finish(server, undisturbed, run, out, at)


def test_killed_several_times_at_random_moments(server: Server, undisturbed: Undisturbed, run: Path) -> None:
    rng = random.Random(1)
    for number in range(POINTS or 2):
        out = folder(undisturbed, number)
        for _ in range(3):
            after = rng.uniform(0, undisturbed.result_seconds)
            server(*defect_map(undisturbed.data, run, out), kill_after=after)
        finish(server, undisturbed, run, out, number)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_a_failing_disk_is_one_sentence(error: str, server: Server, undisturbed: Undisturbed, run: Path) -> None:
    for at in points(undisturbed.result_operations - 1, few=3):
        out = folder(undisturbed, at)
        answer = server(*defect_map(undisturbed.data, run, out), at=at, kind=error)
        assert answer["code"] == 2, (at, answer)
        assert answer["output"].splitlines()[-1].startswith("error: "), (at, answer)
        assert "Traceback" not in answer["output"], (at, answer)
        if error == "ENOSPC":
            assert not unfinished(out), at
        finish(server, undisturbed, run, out, (error, at))


def test_what_is_finished_is_not_done_again(server: Server, undisturbed: Undisturbed, run: Path) -> None:
    out = folder(undisturbed, "again")
    command = defect_map(undisturbed.data, run, out)
    whole = server(*command)
    shutil.rmtree(out)
    server(*command, at=whole["operations"] * 3 // 4, kind="kill")
    lines = (out / "unfinished.jsonl").read_bytes().split(b"\n")[1:-1]
    finished = [out / "overlays" / Path(json.loads(line)["overlay"]).name for line in lines]
    before = {path: path.stat().st_ino for path in finished}
    assert before
    rest = server(*command)
    assert f"{len(before)} of 5 images are finished already" in rest["output"]
    assert {path: path.stat().st_ino for path in before} == before
    assert rest["operations"] < whole["operations"]
