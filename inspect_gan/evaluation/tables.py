"""metrics.json for machines, metrics.md for people: what each says of an evaluation."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inspect_gan.evaluation import bootstrap
from inspect_gan.evaluation.coverage import Coverage
from inspect_gan.evaluation.metrics import auroc, average_precision
from inspect_gan.evaluation.protocol import COVERAGE_FPR, Evaluation, ImageOutcome, map_file
from inspect_gan.evaluation.tally import Estimate, ScoreResult
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.verdict import Verdict


def record(evaluation: Evaluation, calibration: Calibration, header: Mapping[str, Any]) -> dict[str, Any]:
    """All figures for metrics.json, None where undefined. header: what it says of the run, with its "run" name."""
    calibrated, at_fpr = evaluation.calibrated, evaluation.coverage
    good = [image for image in evaluation.images if not image.defective]
    return finite(
        {
            **header,
            "score": evaluation.score,
            "images": len(evaluation.images),
            "defect_pixels": evaluation.defect_pixels,
            "results": [result.row() for result in evaluation.results],
            "bootstrap": {
                "units": "images",
                "level": bootstrap.LEVEL,
                "replicates": bootstrap.REPLICATES,
                "seed": bootstrap.SEED,
            },
            "operating_point": {
                "threshold": calibration.threshold,
                "origin": calibration.origin,
                "target_fpr": calibration.target_fpr,
                "fpr": calibrated.fpr,
                "fpr_of_good_images": evaluation.fpr_of_good_images,
                **calibrated.pixels._asdict(),
            },
            "coverage": {
                "pixel_false_alarm_rate": at_fpr.fpr,
                **coverage_record(at_fpr),
                "at_calibrated_threshold": {"pixel_false_alarm_rate": calibrated.fpr, **coverage_record(calibrated)},
            },
            "image_level": _image_level(evaluation),
            "false_alarm_regions_per_normal_image": _mean([image.regions_above for image in good]),
            "protocols": evaluation.protocols,
            "per_image": [_image(number, image) for number, image in enumerate(evaluation.images)],
        }
    )


def table(evaluation: Evaluation, run: str) -> str:
    """metrics.md."""
    return "\n".join(_lines(evaluation, run)) + "\n"


def coverage_record(coverage: Coverage) -> dict[str, Any]:
    """What metrics.json says of it."""
    return {"threshold": coverage.threshold, **coverage.summary(), "by_size": coverage.by_size()}


def _image_level(evaluation: Evaluation) -> dict[str, Any]:
    """Of the highest value of each map, and of the verdicts."""
    defective = np.array([image.defective for image in evaluation.images])
    peaks = np.array([image.peak for image in evaluation.images])
    both = bool(defective.any() and not defective.all())
    good = [image for image in evaluation.images if not image.defective]
    bad = [image for image in evaluation.images if image.defective]
    return {
        "normal_images": len(good),
        "defective_images": len(bad),
        "auroc": auroc(defective, peaks),
        "ap": average_precision(defective, peaks) if both else None,
        "verdicts": {"normal": _verdicts(good), "defective": _verdicts(bad)},
        "listed_regions_per_normal_image": _mean([image.listed for image in good]),
    }


def _verdicts(images: list[ImageOutcome]) -> dict[str, int]:
    return {
        verdict.value: sum(image.verdict == verdict for image in images)
        for verdict in (Verdict.OK, Verdict.REVIEW, Verdict.NG)
    }


def _image(number: int, image: ImageOutcome) -> dict[str, Any]:
    return {
        "image": image.sample.image.name,
        "kind": image.sample.kind,
        "map": map_file(Path(), number).as_posix(),
        "defect_pixels": image.defect_pixels,
        "pixel_auroc": image.pixel_auroc,
        "pixel_ap": image.pixel_ap,
        "peak": image.peak,
        "regions_above": image.regions_above,
        "listed": image.listed,
        "verdict": image.verdict.value,
    }


def _mean(values: list[int]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _lines(evaluation: Evaluation, run: str) -> Iterator[str]:
    ranked = sorted(evaluation.results, key=lambda result: -np.nan_to_num(result.pixel["auroc"].value))
    yield f"# {run}: {len(evaluation.images)} images, {evaluation.defect_pixels:.2%} defect pixels"
    yield ""
    yield "| score | pixel AUROC | pixel AP | AUPRO to 30 % | image AUROC | patch AUROC | patch AP |"
    yield "|---|---|---|---|---|---|---|"
    for result in ranked:
        estimates: list[float | Estimate] = [*result.pixel.values(), result.image_auroc, *result.patch.values()]
        yield f"| {_name(result, evaluation)} | {' | '.join(cell(value) for value in estimates)} |"
    yield ""
    yield "In brackets: 95 % bootstrap interval over images."
    yield ""
    yield "Patches at the threshold of held-out normal patches:"
    yield ""
    yield "| score | precision | recall | F1 |"
    yield "|---|---|---|---|"
    for result in ranked:
        yield f"| {_name(result, evaluation)} | {' | '.join(cell(value) for value in result.patch_found)} |"
    yield ""
    yield from _operating_point(evaluation)
    yield from _image_lines(evaluation)
    yield from _protocols(evaluation)


def _operating_point(evaluation: Evaluation) -> Iterator[str]:
    calibrated, at_fpr = evaluation.calibrated, evaluation.coverage
    found = calibrated.pixels
    of_good = (
        ""
        if np.isnan(evaluation.fpr_of_good_images)
        else f" ({_percent(evaluation.fpr_of_good_images)} in normal images)"
    )
    yield (
        f"Pixels of {evaluation.score} at the calibrated threshold: {_percent(calibrated.fpr)} false alarms{of_good}, "
        f"precision {cell(found.precision)}, recall {cell(found.recall)}, F1 {cell(found.f1)}."
    )
    if not len(at_fpr.values):
        return
    yield ""
    yield f"| defects covered by {evaluation.score} | number | median | half or more | missed |"
    yield "|---|---|---|---|---|"
    for where, coverage in (
        (f"at {COVERAGE_FPR:.0%} pixel false alarms", at_fpr),
        ("at the calibrated threshold", calibrated),
    ):
        yield f"| **all**, {where} | {coverage_cells(coverage.summary())} |"
        for row in coverage.by_size():
            yield f"| {row['class']}, {where} | {coverage_cells(row)} |"
    yield ""
    yield "Missed: no pixel of the defect lies above the threshold."


def coverage_cells(summary: Mapping[str, Any]) -> str:
    """number | median | half or more | missed."""
    return " | ".join(
        [
            str(summary["defects"]),
            cell(summary["median"]),
            _percent(summary["share_above_half"]),
            str(summary["missed"]),
        ]
    )


def _image_lines(evaluation: Evaluation) -> Iterator[str]:
    good = [image for image in evaluation.images if not image.defective]
    if not good:
        return
    alarms, listed = _mean([image.regions_above for image in good]), _mean([image.listed for image in good])
    clean = sum(image.verdict == Verdict.OK for image in good)
    yield ""
    yield (
        f"{len(good)} normal images: {alarms:.2f} regions above the threshold per image, {listed:.2f} of them listed "
        f"by an inspection; {clean} of the images are OK."
    )


def _protocols(evaluation: Evaluation) -> Iterator[str]:
    """Only for comparison: each of these sets its threshold with the test set."""
    top, oracle = evaluation.protocols["contamination_top_k"], evaluation.protocols["oracle_f1"]
    yield ""
    yield (
        "Protocols of published work, with thresholds set with the test set (not attainable in use; more in "
        f"metrics.json): F1 of the contamination's top k {cell(top['f1'])}, oracle F1 of patches "
        f"{cell(oracle['patch']['f1'])}, of pixels {cell(oracle['pixel']['f1'])}."
    )


def _name(result: ScoreResult, evaluation: Evaluation) -> str:
    name = f"**{result.score}** (the run's)" if result.score == evaluation.score else result.score
    return f"{name} (no learning)" if result.baseline else name


def cell(value: float | Estimate) -> str:
    """ "0.912 [0.887, 0.931]", without brackets where there is no interval, "–" where undefined."""
    estimate = value if isinstance(value, Estimate) else Estimate(value, float("nan"), float("nan"), 0.0)
    if np.isnan(estimate.value):
        return "–"
    text = f"{estimate.value:.3f}"
    return text if np.isnan(estimate.low) else f"{text} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}"


def finite(tree: Any) -> Any:
    """The same for JSON: None in place of figures that are not defined (NaN) or not finite."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
