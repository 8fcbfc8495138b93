"""Measure a run against ground-truth masks: every score of its detector beside baselines that learn nothing."""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from inspect_gan.datasets.samples import Sample
from inspect_gan.errors import InspectGanError
from inspect_gan.evaluation.baselines import baseline_maps
from inspect_gan.evaluation.coverage import Coverage, defect_coverage
from inspect_gan.evaluation.metrics import PixelCurve, auroc, average_precision
from inspect_gan.imaging import Image, atomic_bytes, atomic_text, read_mask, write_tiff
from inspect_gan.patches.labels import patch_labels
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.predict import Predictor

COVERAGE_FPR = 0.05


@dataclass(frozen=True)
class ScoreResult:
    """Pooled over all test images; None where undefined (no defect, or no patch score)."""

    score: str
    pixel_auroc: float | None
    pixel_ap: float | None
    patch_auroc: float | None
    patch_ap: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """score: the run's own; coverage: of its maps at 5 % pixel false alarms; results: one per score and baseline."""

    score: str
    images: int
    defect_pixels: float
    results: tuple[ScoreResult, ...]
    coverage: Coverage


def evaluate(
    predictor: Predictor,
    calibration: Calibration,
    samples: Sequence[Sample],
    out: Path,
    *,
    header: Mapping[str, Any],
    trained: Mapping[str, str],
    load: Callable[[Path], Image],
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate on samples with known truth; writes metrics.json, metrics.md, metrics.png and maps/ into `out`.

    header: what metrics.json says of the run, with its "run" name. trained: {hash of pixels: name} of the training
    images. load: reads an image. A normal image without a mask counts as one without defects. Nothing is chosen
    here: maps come from the calibration's own settings. Raises InspectGanError when a sample's truth is unknown, a
    mask does not fit its image, or a test image was trained on.
    """
    if not samples:
        raise InspectGanError("no images to evaluate: give a folder of test images")
    names = list(predictor.detector.score_table())
    settings = calibration.maps
    patch_settings = replace(settings, stride=max(predictor.preprocess.size // 2, 1))
    curves: dict[str, PixelCurve] = {}
    patch_parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    label_parts: list[np.ndarray] = []
    defect_pixels = pixels = 0
    (out / "maps").mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(samples):
        image = load(sample.image)
        if image.digest in trained:
            raise InspectGanError(
                f"{sample.image} is the training image {trained[image.digest]}: evaluate on unseen images"
            )
        mask = _truth(sample, image)
        maps = predictor.score_maps(image, names, settings)
        maps[calibration.score] = calibration.normalise(maps[calibration.score])
        write_tiff(_map_file(out, number), maps[calibration.score])
        defect_pixels += int(mask.sum())
        pixels += mask.size
        for name, values in (maps | baseline_maps(image)).items():
            curves.setdefault(name, PixelCurve()).update(values, mask)
        grid, scores = predictor.patch_scores(image, names, patch_settings)
        label_parts.append(patch_labels(_resized(mask, (grid.height, grid.width)), grid))
        for name in names:
            patch_parts[name].append(scores[name])
        progress(f"{number + 1} of {len(samples)}: {sample.image.name}")
    labels = np.concatenate(label_parts)
    results = []
    for name, curve in curves.items():
        scores_of = np.concatenate(patch_parts[name]) if name in patch_parts else None
        results.append(
            ScoreResult(
                name,
                _known(curve.auroc()),
                _known(curve.average_precision()),
                None if scores_of is None else _known(auroc(labels, scores_of)),
                None if scores_of is None else _known(average_precision(labels, scores_of)),
            )
        )
    threshold = curves[calibration.score].threshold_at_fpr(COVERAGE_FPR)
    coverage = defect_coverage(_stored(out, samples), threshold)
    evaluation = Evaluation(calibration.score, len(samples), defect_pixels / pixels, tuple(results), coverage)
    _write(out, evaluation, {**header, "score": calibration.score, "maps": asdict(settings)})
    return evaluation


def _truth(sample: Sample, image: Image) -> np.ndarray:
    if sample.mask is not None:
        return read_mask(sample.mask, (image.height, image.width))
    if sample.defective is False:
        return np.zeros((image.height, image.width), dtype=bool)
    raise InspectGanError(f"{sample.image} has no ground-truth mask: name the folder of masks with --masks")


def _resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if mask.shape == shape:
        return mask
    return cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) > 0.5


def _map_file(out: Path, number: int) -> Path:
    return out / "maps" / f"{number:04d}.tiff"


def _stored(out: Path, samples: Sequence[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The run's maps, read back from disk so that they never lie in memory together, and their masks."""
    for number, sample in enumerate(samples):
        values = tifffile.imread(_map_file(out, number))
        yield (
            values,
            np.zeros(values.shape, dtype=bool) if sample.mask is None else read_mask(sample.mask, values.shape),
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _write(out: Path, evaluation: Evaluation, header: Mapping[str, Any]) -> None:
    coverage = evaluation.coverage
    summary: dict[str, Any] = {
        **header,
        "images": evaluation.images,
        "defect_pixels": evaluation.defect_pixels,
        "results": [asdict(result) for result in evaluation.results],
        "coverage": {
            "pixel_false_alarm_rate": _known(coverage.fpr),
            "defects": len(coverage.values),
            "median": _known(coverage.median),
            "share_above_half": _known(coverage.share_above_half),
        },
    }
    atomic_text(out / "metrics.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    atomic_text(out / "metrics.md", _table(evaluation, header["run"]))
    atomic_bytes(out / "metrics.png", _figure(evaluation))


def _table(evaluation: Evaluation, run: str) -> str:
    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    baselines = [result.score for result in evaluation.results if result.patch_auroc is None]
    coverage = evaluation.coverage
    lines = [
        f"# {run}: {evaluation.images} images, {evaluation.defect_pixels:.2%} defect pixels",
        "",
        "| score | pixel AUROC | pixel AP | patch AUROC | patch AP |",
        "|---|---|---|---|---|",
    ]
    for result in sorted(evaluation.results, key=lambda result: -(result.pixel_auroc or 0)):
        name = f"**{result.score}** (the run's)" if result.score == evaluation.score else result.score
        name += " (no learning)" if result.score in baselines else ""
        values = (result.pixel_auroc, result.pixel_ap, result.patch_auroc, result.patch_ap)
        lines.append(f"| {name} | {' | '.join(cell(value) for value in values)} |")
    lines += [
        "",
        f"Coverage of {len(coverage.values)} defects by {evaluation.score} at {coverage.fpr:.1%} pixel false alarms: "
        f"median {coverage.median:.2f}, {coverage.share_above_half:.0%} of the defects covered by half or more.",
        "",
    ]
    return "\n".join(lines)


def _figure(evaluation: Evaluation) -> bytes:
    """PNG: pixel AUROC of every score, and the distribution of per-defect coverage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    ranked = sorted(evaluation.results, key=lambda result: result.pixel_auroc or 0)
    colours = [
        "tab:red" if result.score == evaluation.score else "tab:grey" if result.patch_auroc is None else "tab:blue"
        for result in ranked
    ]
    left.barh([result.score for result in ranked], [result.pixel_auroc or 0 for result in ranked], color=colours)
    left.axvline(0.5, color="black", linewidth=0.8)
    left.set(xlim=(0, 1), xlabel="pixel AUROC", title="red: the run's score, grey: no learning")
    right.hist(evaluation.coverage.values, bins=np.linspace(0, 1, 21))
    right.set(
        xlim=(0, 1),
        xlabel="share of a defect's pixels found",
        ylabel="defects",
        title=f"coverage at {COVERAGE_FPR:.0%} pixel false alarms",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()
