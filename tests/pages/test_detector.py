"""The pages of detectors on the site."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from inspect_gan.config import RECIPES, packaged_configs
from inspect_gan.detector import detectors
from inspect_gan.pages.detector import measured, pages

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def test_every_detector_has_a_page_with_its_recipe_and_what_was_measured() -> None:
    found = pages(RESULTS)
    assert list(found) == list(detectors.names())
    results = {row["detector"] for row in measured(RESULTS) if row["status"] == "done"}
    assert len(results) >= 10
    for name in results.union(packaged_configs(RECIPES)):
        recipe = yaml.safe_load(found[name].split("```yaml\n")[1].split("```")[0])
        assert recipe["detector"]["name"] == name
        score = recipe["scoring"]["score"]
        rows = [line for line in found[name].splitlines() if line.startswith(f"| `{score}` |")]
        assert (name in results) == bool(rows)
        assert all(0 <= float(cell) <= 1 for line in rows for cell in line.split(" | ")[2:-1])


def test_a_detector_without_a_recipe_has_a_page_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect_gan.pages.detector.packaged_configs", lambda folder: [])
    assert all("## Recipe" not in text and len(text) > 100 for text in pages(RESULTS).values())


def test_the_site_lists_every_page() -> None:
    mkdocs = pytest.importorskip("mkdocs.config")
    spec = importlib.util.spec_from_file_location("hooks", RESULTS.parent / "hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    listed = str(hooks.on_config(mkdocs.load_config(str(RESULTS.parents[1] / "mkdocs.yml"))).nav)
    assert all(listed.count(f"'detectors/{name}.md'") == 1 for name in detectors.names())
