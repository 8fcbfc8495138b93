"""A page of the site for each detector: its docstring, its recipe, and what the recipe was measured to achieve."""

import csv
import inspect
from collections.abc import Iterator
from pathlib import Path

from inspect_gan.config import RECIPES, packaged_configs, read_values
from inspect_gan.detector import Detector, detectors

MEASURED = ("nanotwice_recipes", "nanotwice_anogan")
METRICS = {"pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AP", "pixel_aupro": "AUPRO", "coverage": "half covered"}


def pages(results: Path) -> dict[str, str]:
    """Markdown by the name of the detector. results: the folder with the tables of sweeps, docs/results."""
    found = measured(results)
    return {name: _page(name, detectors.get(name), found) for name in detectors.names()}


def measured(results: Path) -> list[dict[str, str]]:
    """What the sweeps of the recipes found, baselines included."""
    return [row for sweep in MEASURED for row in rows(results / sweep)]


def rows(sweep: Path) -> list[dict[str, str]]:
    """Of the table of a sweep, given its folder."""
    with (sweep / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _page(name: str, detector: type[Detector], found: list[dict[str, str]]) -> str:
    return f"""# {detector.__name__}

{inspect.getdoc(detector)}

Networks, optimisers and parameters: [detectors](../detectors.md). Settings:
[configuration](../configuration.md#detector).
{_recipe(name, found) if name in packaged_configs(RECIPES) else ""}"""


def _recipe(name: str, found: list[dict[str, str]]) -> str:
    recipe = f"{RECIPES}/{name}"
    path, _, _ = read_values(recipe)
    return f"""
## Recipe

`--config {recipe}`, see [recipes](../recipes.md):

```yaml
{path.read_text(encoding="utf-8").rstrip()}
```

Measured with it on NanoTWICE; commands, seeds and others beside it: [results](../results/nanotwice.md).

{chr(10).join(_table(name, found))}
"""


def _table(name: str, found: list[dict[str, str]]) -> Iterator[str]:
    yield f"| score | seed | {' | '.join(METRICS.values())} |"
    yield "| --- " * (2 + len(METRICS)) + "|"
    for row in found:
        if row["detector"] == name and row.get("coverage"):  # defects are counted for the score of the recipe
            values = (f"{float(row[metric]):.3f}" for metric in METRICS)
            yield f"| `{row['score_name']}` | {row['seed']} | {' | '.join(values)} |"
