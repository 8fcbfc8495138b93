"""What the cells amount to: means over seeds, paired differences along an axis, corrected for their number."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Measurement:
    """One score of one cell. labels: axis -> value. metrics: those that are defined."""

    data: str
    labels: Mapping[str, str]
    score: str
    seed: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """Over n seeds. std: with n - 1, None for one seed. low, high: 95 % interval of the mean (Student's t)."""

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        mean = statistics.fmean(values)
        if len(values) < 2:
            return cls(len(values), mean, None, None, None)
        std = statistics.stdev(values)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * std / math.sqrt(len(values))
        return cls(len(values), mean, std, mean - half, mean + half)


def best(summaries: Sequence[Summary]) -> int | None:
    """Place of the highest mean if its interval lies above that of the second highest, else None."""
    ranked = sorted(range(len(summaries)), key=lambda place: summaries[place].mean, reverse=True)
    if len(ranked) < 2:
        return None
    low, high = summaries[ranked[0]].low, summaries[ranked[1]].high
    return ranked[0] if low is not None and high is not None and low > high else None


@dataclass(frozen=True)
class Difference:
    """`value` minus `reference` of an axis, paired by seed, everything in `fixed` being equal.

    n: seeds. low, high: 95 % interval of the mean. effect_size: mean over standard deviation of the differences
    (Cohen's d_z). p: two-sided paired t-test; p_holm: corrected for all comparisons of the same axis, data set, score
    and metric. None where undefined: one seed, or differences that are all equal.
    """

    data: str
    axis: str
    reference: str
    value: str
    fixed: Mapping[str, str]
    score: str
    metric: str
    n: int
    mean: float
    low: float | None
    high: float | None
    effect_size: float | None
    p: float | None
    p_holm: float | None = None


def differences(
    measurements: Sequence[Measurement], axes: Mapping[str, Sequence[str]], keep: Iterable[str] | None = None
) -> list[Difference]:
    """Every value of every axis against the axis' first value.

    keep: axes held equal and reported one by one; the rest is averaged within a seed, so that the seeds stay the only
    replicates. None: all of them. Pairs of which one half is missing are left out.
    """
    found: list[Difference] = []
    for axis, values in axes.items():
        fixed_axes = [name for name in (axes if keep is None else keep) if name != axis]
        family: dict[tuple[str, str, str], list[Difference]] = {}
        for value in values[1:]:
            for (data, score, metric, fixed), by_seed in _pairs(
                measurements, axis, values[0], value, fixed_axes
            ).items():
                means = [statistics.fmean(by_seed[seed]) for seed in sorted(by_seed)]
                labels = dict(zip(fixed_axes, fixed, strict=True))
                one = _difference(means, data, axis, values[0], value, labels, score, metric)
                family.setdefault((data, score, metric), []).append(one)
        for members in family.values():
            corrected = holm([member.p for member in members])
            found += [replace(member, p_holm=p) for member, p in zip(members, corrected, strict=True)]
    return found


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979); None counts as no test."""
    ranked = sorted((p, place) for place, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, place) in enumerate(ranked):
        largest = max(largest, min(p * (len(ranked) - rank), 1.0))
        corrected[place] = largest
    return corrected


Key = tuple[str, str, str, tuple[str, ...]]


def _pairs(
    measurements: Sequence[Measurement], axis: str, reference: str, value: str, fixed_axes: Sequence[str]
) -> dict[Key, dict[int, list[float]]]:
    """Differences by seed for each (data, score, metric, fixed labels)."""
    partners = {
        (one.data, one.score, one.seed, _others(one, axis)): one
        for one in measurements
        if one.labels[axis] == reference
    }
    found: dict[Key, dict[int, list[float]]] = {}
    for one in measurements:
        partner = partners.get((one.data, one.score, one.seed, _others(one, axis)))
        if one.labels[axis] != value or partner is None:
            continue
        fixed = tuple(one.labels[name] for name in fixed_axes)
        for metric in one.metrics.keys() & partner.metrics.keys():
            by_seed = found.setdefault((one.data, one.score, metric, fixed), {})
            by_seed.setdefault(one.seed, []).append(one.metrics[metric] - partner.metrics[metric])
    return dict(sorted(found.items()))


def _others(one: Measurement, axis: str) -> tuple[str, ...]:
    return tuple(label for name, label in one.labels.items() if name != axis)


def _difference(
    values: Sequence[float],
    data: str,
    axis: str,
    reference: str,
    value: str,
    fixed: Mapping[str, str],
    score: str,
    metric: str,
) -> Difference:
    summary = Summary.of(values)
    p = size = None
    if summary.std and summary.std > 1e-12 * abs(summary.mean):  # below it is rounding
        p = float(stats.ttest_1samp(values, 0.0).pvalue)
        size = summary.mean / summary.std
    return Difference(
        *(data, axis, reference, value, fixed, score, metric),
        *(summary.n, summary.mean, summary.low, summary.high, size, p),
    )
