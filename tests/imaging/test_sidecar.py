"""The size of a pixel from the text file beside an image."""

import os
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.imaging import read, write_png
from inspect_gan.imaging.pixel_size import PixelSize

HITACHI = "[SemImageFile]\r\nInstructName=TM4000\r\nPixelSize={}\r\nDataSize={}\r\nCondition=a=b\r\n"
JEOL = "$CM_FORMAT JEOL\r\n$CM_FULL_SIZE {} 48\r\n$CM_TITLE\r\n$$SM_MICRON_BAR {}\r\n$$SM_MICRON_MARKER {}\r\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    write_png(path, np.random.default_rng(3).integers(0, 256, (48, 64), dtype=np.uint8))
    return path


def found(image: Path, text: str | bytes) -> PixelSize | None:
    image.with_suffix(".txt").write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
    return read(image).pixel_size


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_hitachi_in_nanometres(image: Path, encoding: str) -> None:
    text = HITACHI.format("24.8", "64x48").encode(encoding)
    assert found(image, text) == PixelSize(pytest.approx(0.0248), "Hitachi text file")


@pytest.mark.parametrize(("marker", "um"), [("5um", 5), ("5µm", 5), ("100nm", 0.1), ("1 mm", 1000), ("0.5um", 0.5)])
def test_jeol_by_the_scale_bar(image: Path, marker: str, um: float) -> None:
    size = found(image, JEOL.format(64, 160, marker))
    assert size == PixelSize(pytest.approx(um / 160), "JEOL text file")


@pytest.mark.parametrize(
    "text",
    [
        HITACHI.format("24.8", "128x96"),  # of the picture before it was resized
        JEOL.format(128, 160, "5um"),
        HITACHI.format("-1", "64x48"),
        HITACHI.format("nan", "64x48"),
        HITACHI.format("", "64x48"),
        "[SemImageFile]\n",
        JEOL.format(64, 0, "5um"),
        JEOL.format(64, 160, "5 px"),
        JEOL.format(64, 160, "five um"),
        "my notes on this sample\n",
        "",
        b"\xff\xfe\x00",
        b"\x00\xff" * 50_000,
    ],
)
def test_what_is_no_size_is_none_and_the_image_is_read(image: Path, text: str | bytes) -> None:
    assert found(image, text) is None


def test_what_is_no_file_is_not_waited_for(image: Path) -> None:
    os.mkfifo(image.with_suffix(".txt"))
    assert read(image).pixel_size is None
    assert read(image.rename(image.with_name("b.png"))).pixel_size is None
