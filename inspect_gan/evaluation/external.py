"""Measure maps that another tool made, counted like those of a run."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from inspect_gan.datasets.samples import Sample
from inspect_gan.errors import InspectGanError, printable
from inspect_gan.evaluation.coverage import Coverage, defect_coverage
from inspect_gan.evaluation.curves import BINS
from inspect_gan.evaluation.protocol import COVERAGE_FPR, mask_of
from inspect_gan.evaluation.tables import cell, coverage_cells, coverage_record, finite
from inspect_gan.evaluation.tally import Estimate, Level, Truth
from inspect_gan.imaging import atomic_text, read_size
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.labels import patch_labels, patch_sums

SUFFIXES = (".tiff", ".tif", ".npy")
PATCH = 32  # px, side of the patches; they lie half a patch apart


def evaluate_maps(
    maps: Path, samples: Sequence[Sample], out: Path, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Write metrics.json and metrics.md of a folder of maps to `out`; returns what metrics.json holds.

    maps: with the map of `a/b.png` at a/b.tiff, a/b.tif or a/b.npy, where a is the image's folder below the one that
    all images share; (H, W) floats of the image's size in any unit, higher = more anomalous. samples: with known truth.
    A patch's score is the mean of the map over it. Raises InspectGanError naming the file for a map that is missing,
    unreadable, of another size or not finite.
    """
    if not samples:
        raise InspectGanError("no images to evaluate: give a folder of test images")
    files = _files(maps, samples)
    pixels, patches = Level(BINS), Level(BINS)
    for number, (values, mask) in enumerate(_maps_and_masks(files, samples)):
        truth = Truth(mask)
        curve = pixels.curve.empty()
        curve.update(values, *truth.rows(slice(0, len(values))))
        pixels.add(curve)
        height, width = values.shape
        if min(height, width) >= PATCH:
            grid = Grid(height, width, PATCH, PATCH // 2)
            curve = patches.curve.empty()
            curve.update(patch_sums(values, grid) / PATCH**2, patch_labels(mask, grid))
            patches.add(curve)
        progress(f"{number + 1} of {len(samples)}: {printable(samples[number].image.name)}")
    (coverage,) = defect_coverage(_maps_and_masks(files, samples), [pixels.curve.threshold_at_fpr(COVERAGE_FPR)])
    estimates = {"pixel": pixels.estimates("auroc", "ap", "aupro"), "patch": patches.estimates("auroc", "ap")}
    record: dict[str, Any] = finite(
        {
            "maps": maps.name,
            "images": len(samples),
            "defect_pixels": coverage.anomalous / (coverage.anomalous + coverage.normal),
            "patch_size": PATCH,
            **{f"{level}_{name}": one._asdict() for level, those in estimates.items() for name, one in those.items()},
            "coverage": {"pixel_false_alarm_rate": coverage.fpr, **coverage_record(coverage)},
        }
    )
    atomic_text(out / "metrics.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    atomic_text(out / "metrics.md", _table(record, estimates, coverage))
    return record


def _maps_and_masks(files: Sequence[Path], samples: Sequence[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One after another from disk, so that they never lie in memory together."""
    for file, sample in zip(files, samples, strict=True):
        mask = mask_of(sample, read_size(sample.image))
        yield _read(file, mask.shape), mask


def _files(maps: Path, samples: Sequence[Sample]) -> list[Path]:
    top = Path(os.path.commonpath([sample.image.absolute().parent for sample in samples]))
    found = []
    for sample in samples:
        stem = maps / sample.image.absolute().relative_to(top).with_suffix("")
        file = next((file for suffix in SUFFIXES if (file := stem.with_name(stem.name + suffix)).is_file()), None)
        if file is None:
            raise InspectGanError(f"{sample.image} has no map: it must be called {stem}{SUFFIXES[0]} (or .tif, .npy)")
        found.append(file)
    return found


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.load(file) if file.suffix == ".npy" else tifffile.imread(file)
        values = values.squeeze().astype(np.float32, casting="same_kind")
    except Exception as error:
        why = " ".join(str(error).split())
        raise InspectGanError(f"{file} cannot be read as a map of floats ({why}): write it again as float32") from error
    if values.shape != shape:
        raise InspectGanError(f"{file} has the shape {values.shape}, its image {shape}: resize the map to the image")
    if not np.isfinite(values).all():
        raise InspectGanError(f"{file} holds values that are not finite: replace them by numbers")
    return values


def _table(record: Mapping[str, Any], estimates: Mapping[str, Mapping[str, Estimate]], coverage: Coverage) -> str:
    columns = [cell(estimate) for level in estimates.values() for estimate in level.values()]
    lines = [
        f"# {record['maps']}: {record['images']} images, {record['defect_pixels']:.2%} defect pixels",
        "",
        "| pixel AUROC | pixel AP | AUPRO to 30 % | patch AUROC | patch AP |",
        "|---|---|---|---|---|",
        f"| {' | '.join(columns)} |",
        "",
        f"In brackets: 95 % bootstrap interval over images. Patches of {PATCH} px.",
        "",
        f"| defects at {COVERAGE_FPR:.0%} pixel false alarms | number | median | half or more | missed |",
        "|---|---|---|---|---|",
        f"| **all** | {coverage_cells(coverage.summary())} |",
        *(f"| {row['class']} | {coverage_cells(row)} |" for row in coverage.by_size()),
    ]
    return "\n".join(lines) + "\n"
