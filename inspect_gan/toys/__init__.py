"""Toy experiments: what the penalty distribution and each adversarial objective do, where it can be seen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inspect_gan
from inspect_gan.imaging import atomic_bytes, atomic_text
from inspect_gan.toys import figures, gaussian, penalty

FIGURES = ("toy_penalty.png", "toy_objectives.png")
NUMBERS = "toys.json"


def run_toys(out: Path, seed: int, steps: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run both experiments with `steps` generator steps each; write `FIGURES` and `NUMBERS` to `out`.

    progress: called with a line at a time. Returns what `NUMBERS` holds; the same seed gives the same numbers on the
    same machine. Raises InspectGanError when `out` cannot be written to.
    """
    planes, lines = {}, {}
    for variant, settings in penalty.VARIANTS.items():
        progress(f"RCGAN in the plane, {figures.VARIANT_TITLES[variant]}")
        planes[variant] = penalty.train_variant(settings, seed, steps)
    atomic_bytes(out / FIGURES[0], figures.penalty_figure(planes))
    for label in gaussian.RIVALS:
        progress(f"a Gaussian on the line, {label}")
        lines[label] = gaussian.train_rival(label, seed, steps)
    atomic_bytes(out / FIGURES[1], figures.objectives_figure(lines))
    numbers = {
        "version": inspect_gan.__version__,
        "seed": seed,
        "steps": steps,
        "penalty": {variant: penalty.summary(trained) for variant, trained in planes.items()},
        "objectives": {label: gaussian.summary(curves) for label, curves in lines.items()},
    }
    atomic_text(out / NUMBERS, json.dumps(numbers, indent=1) + "\n")
    return numbers
