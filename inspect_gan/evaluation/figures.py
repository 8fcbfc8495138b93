"""Pictures of an evaluation, as PNG."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from inspect_gan.evaluation.coverage import SIZE_EDGES, Coverage
from inspect_gan.evaluation.curves import ScoreCurve
from inspect_gan.evaluation.protocol import COVERAGE_FPR, Evaluation
from inspect_gan.evaluation.tally import ScoreResult
from inspect_gan.scoring.regions import THRESHOLD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
POINTS = 1000  # of a drawn curve
OWN, OTHER, BASELINE = "tab:red", "tab:blue", "tab:grey"
NORMAL, DEFECT = "tab:blue", "tab:orange"


def scores(evaluation: Evaluation) -> bytes:
    """Pixel AUROC and AP of every score, with their intervals."""
    from matplotlib.figure import Figure

    ranked = sorted(evaluation.results, key=lambda result: np.nan_to_num(result.pixel["auroc"].value))
    names = [result.score for result in ranked]
    figure = Figure(figsize=(10, 1.5 + 0.25 * len(ranked)), layout="constrained")
    for axes, metric, title in zip(figure.subplots(1, 2, sharey=True), ("auroc", "ap"), ("AUROC", "AP"), strict=True):
        estimates = [result.pixel[metric] for result in ranked]
        values = np.array([estimate.value for estimate in estimates])
        ends = np.abs(np.array([(estimate.low, estimate.high) for estimate in estimates]).T - values)
        axes.barh(names, values, xerr=ends, color=[_colour(result, evaluation) for result in ranked], ecolor="black")
        axes.set(xlim=(0, 1), xlabel=f"pixel {title}")
    figure.axes[0].axvline(0.5, color="black", linewidth=0.8)
    figure.suptitle(
        "red: the run's score, blue: other scores, grey: no learning; lines: 95 % over images", fontsize="medium"
    )
    return _png(figure)


def roc_pr(evaluation: Evaluation) -> bytes:
    """ROC and precision-recall curves of the run's score, of pixels and of patches, with the operating point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8.5), layout="constrained")
    rows = figure.subplots(2, 2)
    pixels, patches = evaluation.calibrated.pixels, evaluation.result.patch_found
    patch_curve = evaluation.patches
    for (roc, pr), level, curve, found, estimates, fpr in (
        (rows[0], "pixels", evaluation.pixels, pixels, evaluation.result.pixel, evaluation.calibrated.fpr),
        (
            rows[1],
            "patches",
            patch_curve,
            patches,
            evaluation.result.patch,
            _fpr_at(patch_curve, evaluation.result.patch_threshold),
        ),
    ):
        hits, alarms = _shares(curve.anomalous), _shares(curve.normal)
        chosen = _spread_over(alarms)
        roc.plot(alarms[chosen], hits[chosen], color=OWN)
        roc.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
        roc.plot(fpr, found.recall, "o", color="black", label=f"calibrated: {fpr:.2%} false alarms")
        roc.set(xlabel="false-positive rate", ylabel="recall", title=f"{level}, AUROC {estimates['auroc'].value:.3f}")
        prevalence = curve.anomalous.sum() / (curve.anomalous.sum() + curve.normal.sum())
        flagged = np.cumsum((curve.anomalous + curve.normal)[::-1])
        precision = np.cumsum(curve.anomalous[::-1]) / np.maximum(flagged, 1)
        chosen = _spread_over(hits)
        pr.plot(hits[chosen], precision[chosen - 1 + (chosen == 0)], color=OWN)
        pr.axhline(prevalence, color="black", linewidth=0.8, linestyle=":")
        pr.plot(found.recall, found.precision, "o", color="black", label="calibrated threshold")
        pr.set(xlabel="recall", ylabel="precision", title=f"{level}, AP {estimates['ap'].value:.3f}", ylim=(0, 1.02))
        roc.legend(loc="lower right")
        pr.legend(loc="upper right")
    figure.suptitle(f"{evaluation.score}; dotted: a score that knows nothing")
    return _png(figure)


def histograms(evaluation: Evaluation) -> bytes:
    """Scores of normal and of defect pixels and patches, each as shares of their own number, with the threshold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, level, curve, threshold, label in zip(
        figure.subplots(1, 2),
        ("pixels, threshold units", "patches, raw score"),
        (evaluation.pixels, evaluation.patches),
        (THRESHOLD, evaluation.result.patch_threshold),
        ("calibrated threshold", "threshold of held-out normal patches"),
        strict=True,
    ):
        values = curve.upper.astype(np.float64)
        finite = np.isfinite(values)
        low, high = _ends(values, curve)
        edges = np.linspace(min(low, threshold), max(high, threshold), 121)
        for what, number, colour in (("normal", curve.normal, NORMAL), ("defect", curve.anomalous, DEFECT)):
            if number.sum():
                shares = number[finite] / number.sum()
                axes.hist(
                    np.clip(values[finite], *edges[[0, -1]]), edges, weights=shares, color=colour, alpha=0.6, label=what
                )
        axes.axvline(threshold, color="black", label=label)
        axes.set(xlabel=f"{evaluation.score} of {level}", ylabel="share of the class", yscale="log")
        axes.set(ylim=(None, 1))  # room for the legend above the bars
        axes.legend(loc="upper right")
    return _png(figure)


def coverage_size(evaluation: Evaluation) -> bytes:
    """Share of each defect that was found against its size, at 5 % false alarms and at the calibrated threshold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, coverage, title in zip(
        figure.subplots(1, 2, sharey=True),
        (evaluation.coverage, evaluation.calibrated),
        (f"at {COVERAGE_FPR:.0%} pixel false alarms", f"at the calibrated threshold ({evaluation.calibrated.fpr:.1%})"),
        strict=True,
    ):
        _coverage_axes(axes, coverage, title)
    figure.axes[0].set(ylabel=f"share of the defect found by {evaluation.score}")
    return _png(figure)


def _coverage_axes(axes: "Axes", coverage: Coverage, title: str) -> None:
    missed = coverage.values == 0
    axes.scatter(coverage.areas[~missed], coverage.values[~missed], s=10, color=NORMAL, alpha=0.6)
    axes.scatter(coverage.areas[missed], coverage.values[missed], s=14, color=OWN, marker="x", label="missed")
    for edge in SIZE_EDGES:
        axes.axvline(edge, color="black", linewidth=0.6, linestyle=":")
    axes.set(xscale="log", ylim=(-0.04, 1.04), xlabel="area of the defect, px")
    axes.set(title=f"{title}: {coverage.missed} of {len(coverage.values)} missed")
    if missed.any():
        axes.legend(loc="center left")


FIGURES: dict[str, Callable[[Evaluation], bytes]] = {
    "scores": scores,
    "roc_pr": roc_pr,
    "histograms": histograms,
    "coverage_size": coverage_size,
}


def _colour(result: ScoreResult, evaluation: Evaluation) -> str:
    return OWN if result.score == evaluation.score else BASELINE if result.baseline else OTHER


def _shares(number: np.ndarray) -> np.ndarray:
    """(K + 1,) share of a class above each threshold, the highest first, from 0 on."""
    return np.concatenate([[0.0], np.cumsum(number[::-1]) / max(number.sum(), 1)])


def _spread_over(ascending: np.ndarray) -> np.ndarray:
    """Numbers of the points of a curve that are worth drawing: evenly spread along an axis, denser near 0."""
    wanted = np.concatenate([np.linspace(0, 1, POINTS), np.geomspace(1e-6, 1, POINTS)])
    return np.unique(np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1))


def _fpr_at(curve: ScoreCurve, threshold: float) -> float:
    total = curve.normal.sum()
    return float(curve.normal[curve.upper > threshold].sum() / total) if total else float("nan")


def _ends(values: np.ndarray, curve: ScoreCurve) -> tuple[float, float]:
    """Where a histogram begins and ends: it shows all but the outermost thousandths, which are put in the end bins."""
    ends = []
    for number in (curve.normal, curve.anomalous):
        if number.sum():
            below = np.cumsum(number) / number.sum()
            ends += [values[np.searchsorted(below, 0.001)], values[np.searchsorted(below, 0.999)]]
    return min(ends), max(ends)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    return buffer.getvalue()
