"""Tables of a sweep: tidy CSV for further work, Markdown to read, LaTeX to print."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from inspect_gan.ablation.collect import Collected, Row
from inspect_gan.ablation.grid import METRICS
from inspect_gan.ablation.statistics import Difference, Summary
from inspect_gan.reporting.tables import csv_text

ENOUGH_SEEDS = 5
LEGEND = (
    "Mean ± standard deviation over n seeds. Bold: the best of a column, only where its 95 % interval of the mean lies "
    "above that of the second."
)
SEVERAL_BASELINES = (
    "Baselines depend on the settings of patches and maps; to be bold a detector need only be above those of its own."
)
DIFFERENCES = (
    "Paired by seed: within a seed the other axes are averaged, so that n counts seeds. Interval: 95 %, Student's t. "
    "d: mean over standard deviation of the differences. p: two-sided paired t-test after Holm's correction over the "
    "comparisons of the same axis, data set, score and metric. (Wilcoxon's test cannot fall below p = 0.06 with five "
    "seeds.)"
)
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "±": r"$\pm$",
}


def results_csv(found: Collected) -> str:
    """One line per cell and score, done or not, then the baselines."""
    metrics = found.metrics
    columns = (
        *("cell", "data", *found.axes, "seed", "score", "score_name", "status", "reason", "attempts", "seconds"),
        *("peak_mb", *metrics),
    )
    rows: list[dict[str, Any]] = []
    for cell in found.cells:
        result = found.results.get(cell.id)
        about: dict[str, Any] = {"cell": cell.id, "data": cell.data, **cell.labels, "seed": cell.seed}
        about["status"] = found.status(cell)
        if result is not None:
            about |= {"reason": result.outcome.reason, **asdict(result.usage)}
        for score, name in cell.scores.items():
            rows.append(about | {"score": score, "score_name": name} | dict(found.metrics_of(cell, name)))
    for data, sets in found.baselines.items():
        for baselines in sets:
            for name, values in baselines.metrics.items():
                known = {key: value for key, value in values.items() if key in metrics}
                about = {"data": data, **baselines.labels, "score": name, "score_name": name, "status": "baseline"}
                rows.append(about | known)
    return csv_text(columns, rows)


def differences_csv(axes: Iterable[str], differences: Sequence[Difference]) -> str:
    """One line per difference; axes that were averaged over are empty."""
    rows = []
    for one in differences:
        values = asdict(one)
        rows.append(values.pop("fixed") | values)
    columns = ("data", "axis", "reference", "value", *axes, "score", "metric", "n", "mean", "low", "high")
    return csv_text((*columns, "effect_size", "p", "p_holm"), rows)


def header(found: Collected) -> list[str]:
    return [*found.axes, "score", "n", *(METRICS[metric] for metric in found.shown)]


def cells_of(found: Collected, row: Row) -> list[tuple[str, bool]]:
    """A row of the table of means: texts, and whether each is to be bold."""
    labels = [row.labels.get(axis, "–") for axis in found.axes]
    score = row.score if row.score == row.score_name else f"{row.score} ({row.score_name})"
    n = "no learning" if row.baseline else str(row.n) if row.n == row.planned else f"{row.n} of {row.planned}"
    plain = [(text, False) for text in (*labels, score, n)]
    return plain + [(shown(row.metrics.get(metric)), metric in row.bold) for metric in found.shown]


def shown(summary: Summary | None) -> str:
    """ "0.912 ± 0.013"; without ± for one seed; "–" for none."""
    if summary is None:
        return "–"
    return f"{summary.mean:.3f}" if summary.std is None else f"{summary.mean:.3f} ± {summary.std:.3f}"


def difference_cells(one: Difference) -> list[str]:
    """axis, comparison, what is equal, score, metric, n, mean difference, interval, d, p."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    interval = "–" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"
    fixed = " ".join(one.fixed.values()) or "all"
    return [
        *(one.axis, f"{one.value} – {one.reference}", fixed, one.score, METRICS.get(one.metric, one.metric)),
        *(str(one.n), f"{one.mean:+.3f}", interval, number(one.effect_size, ".2f"), number(one.p_holm, ".3f")),
    ]


DIFFERENCE_HEADER = ["axis", "difference", "of", "score", "metric", "n", "mean", "95 % interval", "d", "p"]


def notes(found: Collected) -> list[str]:
    """What a reader must know beside the numbers."""
    lines = [LEGEND]
    planned = len({cell.seed for cell in found.cells})
    if planned < ENOUGH_SEEDS:
        lines.append(f"{planned} seeds are few: intervals from under {ENOUGH_SEEDS} say little.")
    if any(len({cell.baselines for cell in found.cells if cell.data == data}) > 1 for data in found.data):
        lines.append(SEVERAL_BASELINES)
    open_cells = {cell.id for cell in found.cells if found.status(cell) == "open"}
    if open_cells:
        lines.append(f"{len(open_cells)} cells are not finished: the tables hold what is done.")
    return lines


def markdown(found: Collected, effects: Sequence[Difference]) -> str:
    """Means by data set, effects of the main metrics, failures, what was not applicable."""
    lines = ["# Ablation", "", *(line for note in notes(found) for line in (note, ""))]
    for data in found.data:
        rows = [[f"**{text}**" if bold else text for text, bold in cells_of(found, row)] for row in found.rows(data)]
        lines += [f"## {_escaped(data)}", "", *_markdown(header(found), rows), ""]
        mine = [difference_cells(one) for one in effects if one.data == data and one.metric in found.main]
        if mine:
            lines += ["### Effects", "", DIFFERENCES, "", *_markdown(DIFFERENCE_HEADER, mine), ""]
    failures = failures_of(found)
    if failures:
        lines += ["## Failed and collapsed cells", "", *_markdown(["cell", "what", "status", "reason"], failures), ""]
    if found.not_applicable:
        unfit = [[*one.labels.values(), one.reason] for one in found.not_applicable]
        lines += ["## Not applicable", "", *_markdown([*found.axes, "reason"], unfit), ""]
    return "\n".join(lines)


def failures_of(found: Collected) -> list[list[str]]:
    """id, title, status, reason of cells that did not end well."""
    return [
        [cell.id, cell.title, status, found.results[cell.id].outcome.reason or ""]
        for cell in found.cells
        if (status := found.status(cell)) in ("failed", "collapsed")
    ]


def latex(found: Collected) -> str:
    """A table per data set, for the packages booktabs and longtable: a large grid fills several pages."""
    parts = [r"% \usepackage{booktabs,longtable}"]
    for data in found.data:
        columns = "l" * (len(found.axes) + 1) + "r" * (len(found.shown) + 1)
        lines = [
            rf"\begin{{longtable}}{{{columns}}}",
            rf"\caption{{{tex(data)}. {tex(' '.join(notes(found)))}}} \\",
            r"\toprule",
            " & ".join(map(tex, header(found))) + r" \\",
            r"\midrule",
            r"\endhead",
        ]
        for row in found.rows(data):
            texts = [rf"\textbf{{{tex(text)}}}" if bold else tex(text) for text, bold in cells_of(found, row)]
            lines.append(" & ".join(texts) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{longtable}"]))
    return "\n\n".join(parts) + "\n"


def tex(text: str) -> str:
    """Text with the characters that LaTeX would take for commands escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines]


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())
