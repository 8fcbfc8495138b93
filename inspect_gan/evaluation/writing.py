"""The files of an evaluation."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inspect_gan.evaluation import sheets
from inspect_gan.evaluation.figures import FIGURES
from inspect_gan.evaluation.gallery import gallery
from inspect_gan.evaluation.protocol import Evaluation
from inspect_gan.evaluation.tables import record, table
from inspect_gan.imaging import Image, atomic_bytes, atomic_text, write_png
from inspect_gan.scoring.calibration import Calibration


def write_evaluation(
    out: Path,
    evaluation: Evaluation,
    calibration: Calibration,
    header: Mapping[str, Any],
) -> None:
    """metrics.json and metrics.md. header: what metrics.json says of the run."""
    metrics = record(evaluation, calibration, header)
    atomic_text(out / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    atomic_text(out / "metrics.md", table(evaluation, header["run"]))


def write_figures(out: Path, evaluation: Evaluation, load: Callable[[Path], Image]) -> None:
    """figures/*.png, from the maps that the evaluation left in `out`. load: reads an image."""
    folder = out / "figures"
    for name, draw in FIGURES.items():
        atomic_bytes(folder / f"{name}.png", draw(evaluation))
    for name, places in (("false_alarms", sheets.false_alarms(evaluation, out)), ("misses", sheets.misses(evaluation))):
        write_png(folder / f"{name}.png", sheets.sheet(places, evaluation, out, load))
    write_png(folder / "gallery.png", gallery(evaluation, out, load))
