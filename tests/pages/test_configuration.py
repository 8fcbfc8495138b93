"""The generated page of settings says what the code does."""

from pathlib import Path

import pytest

from inspect_gan.config import make_config
from inspect_gan.detector import detectors
from inspect_gan.pages import configuration
from inspect_gan.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration.page(), f"run: {configuration.REMEDY}"


@pytest.mark.parametrize("name", detectors.names())
def test_every_setting_of_a_run_is_on_the_page(name: str) -> None:
    config = make_config({"detector": name}).model_dump()
    keys = {f"{part}.{key}" for part, values in config.items() if isinstance(values, dict) for key in values}
    text = PAGE.read_text(encoding="utf-8")
    listed = {key for key in keys if f"| `{key}` |" in text or f"`{key}`" in text}
    objectives = {key for key in keys if key.startswith("objective.")}
    assert keys - objectives == listed - objectives


def test_meanings_are_read_from_docstrings_and_the_nearest_class_wins() -> None:
    class Base(Settings):
        """Of a box.

        width, height: px; "wide": more. Not a key: text. depth: bits, None: as the
        file. colour: any.
        """

        width: int = 1
        height: int = 1
        depth: int | None = None
        colour: str = ""

    class Derived(Base):
        """colour: red."""

    assert configuration.meanings(Derived) == {
        "width": '`width`, `height`: px; "wide": more. Not a key: text',
        "height": '`width`, `height`: px; "wide": more. Not a key: text',
        "depth": "bits, `null`: as the file",
        "colour": "red",
    }
