"""The commands of README and docs do what they say, one after the other as a reader gives them.

Trainings take two steps of a small network here, false-alarm rates are what a handful of small images supports, sweeps
are planned.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.imaging import write_png
from tests.test_docs import ROOT, blocks, commands
from tests.tools.conftest import run

SMALL = ["detector.width=4", "detector.nz=8", "training.batch_size=4", "data.holdout_fraction=0.4"]
RATE = "0.3"
# Begins of commands that are tried elsewhere: downloads, measuring speed, rows of tables.
ELSEWHERE = ("prepare nanotwice", "benchmark", "toys --table")
SHAPE = (200, 320)


def commands_by_page() -> dict[str, list[str]]:
    pages: dict[str, list[str]] = {}
    for one in blocks(""):
        if lines := [line for line in commands(one.text) if not line.startswith(ELSEWHERE)]:
            pages.setdefault(one.where.split(":")[0], []).extend(lines)
    return pages


PAGES = commands_by_page()


def image(path: Path, seed: int, spot: bool = False) -> np.ndarray:
    """Writes noise, with a flat bright spot if wanted; returns the spot's mask."""
    pixels = np.random.default_rng(seed).integers(0, 200, SHAPE, dtype=np.uint8)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    if spot:
        mask[80:120, 100 + seed : 140 + seed] = 255
        pixels[mask > 0] = 255
    write_png(path, pixels)
    return mask


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the pages name as the reader's own; the working directory."""
    for folder in (
        "good",
        "good_images",
        "fibres",
        "NanoTWICE/Normal",
        "data/train/good",
        "data_set/train/good",
        "good_and_test/train/good",
    ):
        for seed in range(3):
            image(tmp_path / folder / f"{seed}.png", seed)
    for folder in ("new", "next", "incoming", "new_images"):
        for name, spot in (("x.tif", True), ("y.png", False)):
            image(tmp_path / folder / name.replace(".tif", ".png"), 7, spot)
    (tmp_path / "new_images" / "x.png").rename(tmp_path / "new_images" / "x.tif")
    for images, masks, suffix in (
        ("test", "masks", ""),
        ("data/test/spot", "data/ground_truth/spot", "_mask"),
        ("data_set/test/spot", "data_set/ground_truth/spot", "_mask"),
        ("good_and_test/test/spot", "good_and_test/ground_truth/spot", "_mask"),
        ("NanoTWICE/Anomalous/images", "NanoTWICE/Anomalous/gt", "_gt"),
    ):
        for seed in range(8, 10):
            mask = image(tmp_path / images / f"{seed}.png", seed, spot=True)
            write_png(tmp_path / masks / f"{seed}{suffix}.png", mask)
    for surface, folder in (("nanotwice", "NanoTWICE"), ("grid", "data_set"), ("tile", "data_set")):
        (tmp_path / surface).symlink_to(folder)
    results = shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    for seed, line in enumerate((results / "nanotwice_four.txt").read_text(encoding="utf-8").split()):
        pixels, truth = (results / name for name in line.split(","))
        write_png(truth, image(pixels.with_suffix(".png"), seed, spot=True))
        pixels.with_suffix(".png").rename(pixels)
    for theirs, images in (("theirs", "test"), ("peer/maps", "nanotwice/Anomalous/images")):
        (tmp_path / theirs).mkdir(parents=True)
        for number, path in enumerate(sorted((tmp_path / images).iterdir())):
            values = np.random.default_rng(number).random(SHAPE, dtype=np.float32)
            np.save(tmp_path / theirs / f"{path.stem}.npy", values)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tried(line: str) -> list[str]:
    """The command as it is tried here."""
    arguments = shlex.split(line, comments=True)
    for i, argument in enumerate(arguments):
        if argument == "--minutes":
            arguments[i : i + 2] = ["--steps", "2"]
        elif argument == "--steps":
            arguments[i + 1] = "2"
        elif argument == "--target-fpr":
            arguments[i + 1] = RATE
    name = arguments[0]
    if name == "train" and "--check-data" not in arguments:
        arguments += [*SMALL, f"scoring.target_fpr={RATE}"]
    elif name == "toys" and "--steps" not in arguments:
        arguments += ["--steps", "2"]
    elif name == "watch":
        arguments += ["--once", "--interval", "0.01"]
    elif name == "ablate" and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    return arguments


def tick_false_alarms(folder: Path) -> None:
    """What the reader does in the report before a command that takes corrections."""
    entries = json.loads((folder / "maps" / "results.json").read_text(encoding="utf-8"))["images"]
    images = [
        {
            **{name: entry[name] for name in ("image", "width", "height")},
            "false_alarms": [
                {
                    "box": [region[name] for name in ("x0", "y0", "x1", "y1")],
                    "area_px": region["area_px"],
                    "peak_at": [region["peak_x"], region["peak_y"]],
                    "threshold": 1.0,
                }
                for region in entry["regions"][:1]
            ],
        }
        for entry in entries
    ]
    text = json.dumps({"format": "inspect-gan-corrections-1", "images": images})
    (folder / "corrections.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_run_in_their_order(page: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in blocks("yaml"):
        if one.where.split(":")[0] == page and (name := re.match(r"# (\S+\.yaml)\n", one.text)):
            (desk / name[1]).write_text(one.text, encoding="utf-8")
    lines = PAGES[page]
    if "runs/first" not in " ".join(line for line in lines if line.startswith("train")):
        run(capsys, *tried("train --data good --out runs/first --minutes 1"))
    for line in lines:
        arguments = tried(line)
        if "--corrections" in arguments:
            tick_false_alarms(desk)
        code, said, complaint = run(capsys, *arguments)
        assert code == 0, f"{page}: {line}\n{said}{complaint}"
        if "--out" in arguments and "--dry-run" not in arguments:
            assert Path(arguments[arguments.index("--out") + 1]).exists(), f"{page}: {line} left nothing"


def test_the_pages_that_guide_a_reader_have_commands() -> None:
    guides = {"README.md", *(f"docs/{name}.md" for name in ("tutorial", "guide", "choosing", "faq", "recipes"))}
    assert guides < PAGES.keys()
