"""The generated page of detectors says what the code does."""

from pathlib import Path

from inspect_gan.catalogue import detector_page
from inspect_gan.detector import detectors
from inspect_gan.tricks import TRICKS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "detectors.md"


def test_detector_page_is_up_to_date() -> None:
    remedy = "run: python -m inspect_gan.catalogue > docs/detectors.md"
    assert PAGE.read_text(encoding="utf-8") == detector_page(), remedy


def test_every_switch_of_a_trick_is_a_setting_of_some_detector() -> None:
    from inspect_gan.config import Config, make_config

    fixed = {f"{room}.{key}" for room, part in Config().model_dump().items() if isinstance(part, dict) for key in part}
    own = {f"detector.{key}" for name in detectors.names() for key in make_config({"detector": name}).detector}
    for trick in TRICKS.values():
        assert set(trick.on) == set(trick.off)
        assert set(trick.on) <= fixed | own
        assert trick.on != trick.off
