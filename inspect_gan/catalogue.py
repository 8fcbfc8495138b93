"""What there is to choose from, read from the registries."""

import inspect

from inspect_gan.config import make_config, packaged_configs
from inspect_gan.datasets.layouts import LAYOUTS
from inspect_gan.detector import detectors
from inspect_gan.objectives import objectives
from inspect_gan.tricks import TRICKS


def catalogue(kind: str) -> dict[str, str]:
    """{name: one line} of "detectors", "objectives", "scores" (detector.score), "tricks", "datasets" or "configs"."""
    if kind == "detectors":
        return {name: _first_line(detectors.get(name)) for name in detectors.names()}
    if kind == "objectives":
        return {name: _first_line(objectives.get(name)) for name in objectives.names()}
    if kind == "scores":
        return {
            f"{name}.{score}": entry.text
            for name in detectors.names()
            for score, entry in make_config({"detector": name}).build(1).score_table().items()
        }
    if kind == "tricks":
        return {
            name: f"{trick.text}: {' '.join(f'{key}={value}' for key, value in trick.on.items())}"
            for name, trick in TRICKS.items()
        }
    if kind == "datasets":
        return {name: layout.summary for name, layout in LAYOUTS.items()}
    return {name: f"--config {name}" for name in packaged_configs()}


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").splitlines()[0]
