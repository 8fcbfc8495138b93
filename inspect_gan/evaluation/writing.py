"""The files of an evaluation."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inspect_gan.evaluation.protocol import Evaluation
from inspect_gan.evaluation.tables import record, table
from inspect_gan.imaging import Image, atomic_text
from inspect_gan.scoring.calibration import Calibration


def write_evaluation(
    out: Path,
    evaluation: Evaluation,
    calibration: Calibration,
    header: Mapping[str, Any],
    load: Callable[[Path], Image],
) -> None:
    """metrics.json, metrics.md and figures/*.png. header: what metrics.json says of the run. load: reads an image."""
    metrics = record(evaluation, calibration, header)
    atomic_text(out / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    atomic_text(out / "metrics.md", table(evaluation, header["run"]))
