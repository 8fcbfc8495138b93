"""The generated page of public classes and functions says what the code does."""

from pathlib import Path

from inspect_gan.pages import api

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == api.page(), f"run: {api.REMEDY}"


def test_everything_public_says_what_it_is() -> None:
    for things in api.PUBLIC.values():
        for thing in things:
            assert thing.__doc__, thing
            assert not thing.__doc__.startswith(f"{thing.__name__}("), f"{thing} has no docstring of its own"
