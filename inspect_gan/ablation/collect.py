"""The cells of a sweep with their results, from plan.json and result.json alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from inspect_gan.ablation.folder import CELLS, CellFolder, Metrics, Result, Status, baselines
from inspect_gan.ablation.plan import Cell, NotApplicable, planned_cells, read_plan, wanted_scores
from inspect_gan.ablation.statistics import Measurement, Summary, best

# The order of columns; metrics unknown here follow.
METRICS = {
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "pixel AUPRO",
    "patch_auroc": "patch AUROC",
    "patch_ap": "patch AP",
    "patch_precision": "patch precision",
    "patch_recall": "patch recall",
    "patch_f1": "patch F1",
    "image_auroc": "image AUROC",
    "coverage": "defects half covered",
    "coverage_from_0": "of the smallest",
}
# Those that plots and the lists of differences in reports show. Tables show all of METRICS, results.csv also what else
# is measured, such as each run's own intervals.
MAIN = ("pixel_auroc", "pixel_ap", "pixel_aupro")


@dataclass(frozen=True)
class Row:
    """A combination (labels of the axes) and a score over its seeds; a baseline has no labels.

    score_name: the detector's. planned: seeds of the grid. bold: metrics in which it is best beyond doubt.
    """

    labels: Mapping[str, str] | None
    score: str
    score_name: str
    n: int
    planned: int
    metrics: Mapping[str, Summary]
    bold: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Collected:
    """axes: labels of their values. results: by cell id. baselines: by data set."""

    axes: Mapping[str, Sequence[str]]
    data: Sequence[str]
    cells: Sequence[Cell]
    not_applicable: Sequence[NotApplicable]
    results: Mapping[str, Result]
    baselines: Mapping[str, Metrics]

    @cached_property
    def metrics(self) -> list[str]:
        """Names of the numbers there are, in the order of METRICS, others last."""
        found = {key for cell in self.cells for name in cell.scores.values() for key in self.metrics_of(cell, name)}
        return [*(name for name in METRICS if name in found), *sorted(found - METRICS.keys())]

    @property
    def shown(self) -> list[str]:
        return [name for name in self.metrics if name in METRICS]

    @property
    def main(self) -> list[str]:
        return [name for name in self.metrics if name in MAIN]

    def measurements(self) -> list[Measurement]:
        found = []
        for cell in self.cells:
            for score, name in cell.scores.items():
                values = self.metrics_of(cell, name)
                known = {key: value for key, value in values.items() if key in METRICS and value is not None}
                if known:
                    found.append(Measurement(cell.data, cell.labels, score, cell.seed, known))
        return found

    def status(self, cell: Cell) -> Status:
        """Open without a result, or without some of the cell's scores."""
        return self.results[cell.id].outcome.status if cell.id in self.results else "open"

    def metrics_of(self, cell: Cell, score_name: str) -> Mapping[str, float | None]:
        """Empty where the score was not measured."""
        result = self.results.get(cell.id)
        return {} if result is None else result.outcome.scores.get(score_name, {})

    def rows(self, data: str) -> list[Row]:
        """Every combination and score on a data set, then the baselines; the best in bold only where intervals part."""
        groups: dict[tuple[tuple[str, ...], str], list[Cell]] = {}
        for cell in self.cells:
            if cell.data == data:
                for score in cell.scores:
                    groups.setdefault((tuple(cell.labels.values()), score), []).append(cell)
        rows = []
        for (_, score), cells in groups.items():
            name = cells[0].scores[score]
            values = [self.metrics_of(cell, name) for cell in cells]
            summaries = {}
            for metric in self.shown:
                known = [value for one in values if (value := one.get(metric)) is not None]
                if known:
                    summaries[metric] = Summary.of(known)
            done = sum(1 for one in values if one)
            rows.append(Row(cells[0].labels, score, name, done, len(cells), summaries))
        for name, row in self.baselines.get(data, {}).items():
            # Nothing is random in a baseline: its interval is its value.
            summaries = {key: Summary(1, value, None, value, value) for key, value in row.items() if value is not None}
            rows.append(Row(None, name, name, 1, 1, summaries))
        return _with_bold(rows, self.shown)


def results_of(out: Path, cells: Iterable[Cell]) -> dict[str, Result]:
    """Results of the cells that have one, by id, as they stand for the scores that these cells want."""
    found: dict[str, Result] = {}
    for key, wanted in wanted_scores(cells).items():
        result = CellFolder(out / CELLS / key).result()
        if result is not None:
            found[key] = result.seen_by(wanted)
    return found


def collect(out: Path) -> Collected:
    """What is there of a sweep so far."""
    plan = read_plan(out)
    cells = planned_cells(out)
    measured = {name: baselines(out, values["digest"]) for name, values in plan["data"].items()}
    return Collected(
        plan["axes"],
        list(plan["data"]),
        cells,
        [NotApplicable(**values) for values in plan["not_applicable"]],
        results_of(out, cells),
        {name: metrics for name, metrics in measured.items() if metrics is not None},
    )


def _with_bold(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    winners: dict[int, set[str]] = {}
    for metric in metrics:
        having = [place for place, row in enumerate(rows) if metric in row.metrics]
        winner = best([rows[place].metrics[metric] for place in having])
        if winner is not None:
            winners.setdefault(having[winner], set()).add(metric)
    return [replace(row, bold=frozenset(winners.get(place, ()))) for place, row in enumerate(rows)]
