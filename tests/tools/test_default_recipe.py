"""What `train` trains without --config."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspect_gan.config import DEFAULT_RECIPE, load_config
from inspect_gan.tools.cli import main


def images(folder: Path, count: int, height: int, width: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 255, (height, width), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("count", "height", "width", "plain"),
    [(5, 700, 1024, False), (500, 32, 32, True), (2, 700, 300, True), (3, 60, 2000, True), (40, 127, 2000, False)],
    ids=["as usual", "patch files", "too little for a threshold", "too narrow", "whole images held out"],
)
def test_recipe_where_the_images_have_room_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, height: int, width: int, plain: bool
) -> None:
    data = images(tmp_path / "good", count, height, width)
    with pytest.raises(SystemExit) as ended:
        main(["train", "--data", str(data), "--check-data"])
    assert ended.value.code == 0
    assert ("training the plain configuration ganomaly" in " ".join(capsys.readouterr().out.split())) == plain


def test_a_configuration_of_one_s_choice_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = images(tmp_path / "good", 3, 80, 80)
    with pytest.raises(SystemExit):
        main(["train", "--data", str(data), "--config", DEFAULT_RECIPE, "--check-data"])
    assert "plain" not in capsys.readouterr().out


def test_checking_lists_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = images(tmp_path / "good", 3, 80, 80)
    (data / "text.png").write_text("hello", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--data", str(data), "--check-data"])
    assert ended.value.code == 2
    assert "1 problems" in capsys.readouterr().out


def test_the_default_recipe_judges_pixels() -> None:
    config = load_config(DEFAULT_RECIPE)
    assert config.scoring.score == "doubt" and config.detector["critic"] == "pixels"
