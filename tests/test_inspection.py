"""Which images an inspection takes, and what it leaves in its folder."""

from pathlib import Path

import pytest

from inspect_gan.inspection import collect_images, inspect_images
from tests.brightness import Brightness, write


@pytest.mark.parametrize("out", ["new/results", "new/lot1/out", "new", "out"])
def test_results_below_the_images_are_not_inspected(tmp_path: Path, out: str) -> None:
    names = ("lot1/0.png", "lot1/1.png", "lot2/0.png")
    paths = [write(tmp_path / "new" / name, i, 120) for i, name in enumerate(names)]
    for _ in range(2):
        assert collect_images([tmp_path / "new"], tmp_path / out) == paths
        inspect_images(Brightness(), paths, tmp_path / out)
    mask = tmp_path / out / "masks" / "0.png"
    assert collect_images([mask], tmp_path / out) == [mask], "named one by one"


def test_images_beside_their_results_are_inspected(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.png", i, 120) for i in range(2)]
    for _ in range(2):
        assert collect_images([tmp_path], tmp_path) == paths
        inspect_images(Brightness(), paths, tmp_path)
