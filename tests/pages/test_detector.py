"""The pages of detectors on the site."""

from pathlib import Path

import yaml

from inspect_gan.detector import detectors
from inspect_gan.pages.detector import pages

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_detector_has_a_page_with_recipe_and_results() -> None:
    found = pages(DOCS / "results")
    assert list(found) == list(detectors.names())
    for name, text in found.items():
        recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
        assert recipe["detector"]["name"] == name
        measured = [line for line in text.splitlines() if line.startswith(f"| `{recipe['scoring']['score']}` |")]
        assert measured and all(float(cell) <= 1 for line in measured for cell in line.split(" | ")[2:-1])
