"""Images are inspected as they arrive, whole, and each of them once."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.inspection import inspect_images
from inspect_gan.recalibration import recalibrate
from inspect_gan.watching import PATIENCE, watch_folder
from tests.brightness import Brightness, write

INTERVAL = 0.05
ROOT = Path(__file__).parents[1]


class Killed(BaseException):
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names(out: Path) -> list[str]:
    """Of the rows, which the other files agree with."""
    found = [Path(row["image"]).name for row in rows(out)]
    if found:
        document = json.loads((out / "results.json").read_text())
        assert [Path(image["image"]).name for image in document["images"]] == found
        assert (out / "report.html").is_file()
    return found


def watch(folder: Path, out: Path, inspector: Brightness | None = None, **options: Any) -> dict[str, int]:
    return watch_folder(inspector or Brightness(), folder, out, **{"once": True, "interval": INTERVAL, **options})


def test_what_is_there_equals_an_inspection_of_it(folder: Path, tmp_path: Path) -> None:
    paths = [write(folder / f"{i}.png", i, spot) for i, spot in enumerate((0, 20, 120))]
    (folder / "notes.txt").write_text("no image")
    found = watch(folder, tmp_path / "out", min_area=2)
    assert found == inspect_images(Brightness(), paths, tmp_path / "fresh", min_area=2)
    for path in (tmp_path / "fresh").rglob("*.*"):
        if path.suffix not in (".jsonl", ".json") and path.name != ".lock":
            assert (tmp_path / "out" / path.relative_to(tmp_path / "fresh")).read_bytes() == path.read_bytes()


def test_nothing_is_done_twice(folder: Path, tmp_path: Path) -> None:
    inspector, out = Brightness(), tmp_path / "out"
    assert sum(watch(folder, out, inspector).values()) == 0
    write(folder / "a.png", 1)
    assert watch(folder, out, inspector)["OK"] == 1
    write(folder / "b.png", 2)
    watch(folder, out, inspector)
    assert sum(watch(folder, out, inspector).values()) == 0
    assert inspector.seen == ["a.png", "b.png"] == names(out)
    (folder / "a.png").unlink()
    write(folder / "c.png", 3)
    watch(folder, out, inspector)
    assert names(out) == ["a.png", "b.png", "c.png"]


def test_files_of_one_name_keep_their_maps(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(folder / "a.png", 1)
    watch(folder, out)
    first = (out / "maps" / "a.tiff").read_bytes()
    write(folder / "a.png", 2, 120)  # replaced
    write(folder / "A.bmp.png", 4).rename(folder / "A.tif")
    assert watch(folder, out)["NG"] == 1
    assert (out / "maps" / "a.tiff").read_bytes() == first
    assert names(out) == ["a.png", "a.png", "A.tif"]
    assert [row["map"] for row in rows(out)] == ["maps/a.tiff", "maps/a-2.tiff", "maps/A-3.tiff"]
    assert len(list((out / "overlays").iterdir())) == 3


def test_a_file_that_grows_is_taken_when_it_is_whole(folder: Path, tmp_path: Path) -> None:
    """Written in pieces with pauses of half an interval, and one with a pause that is longer than two."""
    out, interval = tmp_path / "out", 0.2
    whole = write(tmp_path / "whole.png", 1).read_bytes()
    inspector = Brightness()

    def grow() -> None:
        for number in range(8):
            with (folder / "a.png").open("ab") as file:
                part = len(whole) // 8 + 1
                file.write(whole[number * part : (number + 1) * part])
            time.sleep(interval / 2 if number != 5 else 2.5 * interval)

    writer = threading.Thread(target=grow)
    writer.start()
    while not (folder / "a.png").exists():
        time.sleep(0.001)
    watch(folder, out, inspector, interval=interval)
    writer.join()
    watch(folder, out, inspector, interval=interval)
    (row,) = rows(out)
    assert (row["verdict"], row["error"]) == ("OK", "")
    assert inspector.seen == ["a.png"]  # what could not be decoded was not seen whole


def test_a_file_that_changes_while_it_is_inspected_is_done_again(folder: Path, tmp_path: Path) -> None:
    class Slow(Brightness):
        def apply(self, *arguments: Any, **options: Any) -> Any:
            result = super().apply(*arguments, **options)
            if len(self.seen) == 1:
                write(folder / "a.png", 2, 120)
            return result

    write(folder / "a.png", 1)
    inspector = Slow()
    assert watch(folder, tmp_path / "out", inspector)["NG"] == 1
    assert names(tmp_path / "out") == ["a.png"]
    assert inspector.seen == ["a.png", "a.png"]


def test_what_stays_unreadable_is_a_row_and_not_tried_again(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_text("no image")
    started = time.monotonic()
    assert watch(folder, tmp_path / "out")["ERROR"] == 1
    assert time.monotonic() - started >= PATIENCE * INTERVAL
    assert "bad.png" in rows(tmp_path / "out")[0]["error"]
    assert sum(watch(folder, tmp_path / "out").values()) == 0
    write(folder / "bad.png", 1)  # mended
    assert watch(folder, tmp_path / "out")["OK"] == 1
    assert names(tmp_path / "out") == ["bad.png", "bad.png"]


def test_a_file_that_never_rests_is_left_and_named(folder: Path, tmp_path: Path) -> None:
    write(folder / "a.png", 1)
    over = threading.Event()

    def touch() -> None:
        while not over.wait(INTERVAL / 10):
            os.utime(folder / "b.png")

    (folder / "b.png").write_text("begun")
    writer = threading.Thread(target=touch)
    writer.start()
    said: list[str] = []
    try:
        watch(folder, tmp_path / "out", progress=said.append)
    finally:
        over.set()
        writer.join()
    assert names(tmp_path / "out") == ["a.png"]
    assert "b.png is still changing: left for the next time" in said


def test_killed_anywhere_it_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at any rename of a file, started again: the same as undisturbed, no image lost, none told twice."""
    paths = [write(folder / f"{i}.png", i, 120 * (i % 2)) for i in range(3)]
    inspect_images(Brightness(), paths, tmp_path / "fresh")
    real, left = os.replace, [0]

    def replace(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        real(source, target)

    monkeypatch.setattr("os.replace", replace)
    stopped = 0
    for number in range(1, 60, 4):
        out, inspector = tmp_path / str(number), Brightness()
        left[0] = number
        try:
            watch(folder, out, inspector)
        except Killed:
            stopped += 1
        whole, left[0] = left[0] >= 0, 10**6
        watch(folder, out, inspector)
        assert names(out) == ["0.png", "1.png", "2.png"]
        assert len(inspector.seen) <= 3 + (not whole)
        for path in (tmp_path / "fresh").glob("m*/*"):
            assert (out / path.relative_to(tmp_path / "fresh")).read_bytes() == path.read_bytes()
        if whole:
            break
    assert whole and stopped > 4


def test_other_results_are_not_touched(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = [write(folder / "a.png", 1)]
    watch(folder, out, target_fpr=0.1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for options, message in (
        ({"target_fpr": 0.05}, r"calibration.target_fpr 0\.1, not 0\.05"),
        ({"min_area": 7}, "min_area 1, not 7"),
        ({"inspector": Brightness(held_out=7)}, "calibration.threshold"),
    ):
        with pytest.raises(InspectGanError, match=message):
            watch(folder, out, **options)  # type: ignore[arg-type]
    with pytest.raises(InspectGanError, match="what `watch` found"):
        inspect_images(Brightness(), paths, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    inspect_images(Brightness(), paths, tmp_path / "mapped")
    with pytest.raises(InspectGanError, match="an inspection by `defect_map`"):
        watch(folder, tmp_path / "mapped")
    with pytest.raises(InspectGanError, match="is not a folder"):
        watch(tmp_path / "nowhere", out)


def test_at_another_rate_it_goes_on_after_recalibration(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(folder / "a.png", 1, 120)
    watch(folder, out, target_fpr=0.1)
    recalibrate(Brightness(), out, target_fpr=0.02)
    write(folder / "b.png", 2)
    inspector = Brightness()
    watch(folder, out, inspector, target_fpr=0.02)
    assert names(out) == ["a.png", "b.png"] and inspector.seen == ["b.png"]


def test_a_folder_that_goes_and_comes_back(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, said = tmp_path / "out", list[str]()
    write(folder / "a.png", 1)
    looks = [0]

    def sleep(seconds: float) -> None:
        real(seconds)
        looks[0] += 1
        if looks[0] == 3:
            folder.rename(tmp_path / "away")
        if looks[0] == 6:
            (tmp_path / "away").rename(folder)
            write(folder / "b.png", 2)
        if looks[0] == 9:
            raise KeyboardInterrupt

    real = time.sleep
    monkeypatch.setattr("inspect_gan.watching.time.sleep", sleep)
    watch(folder, out, once=False, progress=said.append)
    assert names(out) == ["a.png", "b.png"]
    assert sum("it is tried again" in line for line in said) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_ends_it_with_everything_written(number: int, folder: Path, tmp_path: Path) -> None:
    """As a process: the tables grow while it runs, and the report is there in the end."""
    out = tmp_path / "out"
    write(folder / "a.png", 1, 120)
    code = (
        "import inspect_gan.inspection as inspection, tests.brightness as brightness\n"
        "inspection.open_inspector = lambda path: brightness.Brightness()\n"
        "from inspect_gan.tools.cli import process\n"
        f"process(['watch', 'run', {str(folder)!r}, '--out', {str(out)!r}, '--interval', '0.05', '--fail-on-ng'])\n"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait(lambda: (out / "report.html").exists())
        write(folder / "b.png", 2)
        wait(lambda: len(rows(out)) == 2)
        watcher.send_signal(number)
        said, _ = watcher.communicate(timeout=60)
    finally:
        watcher.kill()
    assert watcher.returncode == 1, said  # one image is NG
    assert "stopped; what is inspected is kept" in said and "Traceback" not in said
    assert names(out) == ["a.png", "b.png"]


def wait(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")
