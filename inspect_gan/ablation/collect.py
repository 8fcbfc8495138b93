"""The cells of a sweep with their results, from plan.json and result.json alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from inspect_gan.ablation.folder import CELLS, CellFolder, Metrics, Result, Status, baselines
from inspect_gan.ablation.grid import METRICS
from inspect_gan.ablation.plan import Cell, NotApplicable, planned_cells, read_plan, wanted_scores
from inspect_gan.ablation.statistics import Measurement, Summary, best

# Those that plots and the lists of differences in reports show. Tables show all of METRICS, results.csv also what else
# is measured, such as each run's own intervals.
MAIN = ("pixel_auroc", "pixel_ap", "pixel_aupro")


@dataclass(frozen=True)
class Row:
    """A combination (labels of the axes) and a score over its seeds, or a baseline, which has labels only of axes on
    which it depends.

    score_name: the detector's. planned: seeds of the grid. beside: name of the baselines with the same settings. bold:
    metrics in which it is best beyond doubt.
    """

    labels: Mapping[str, str]
    score: str
    score_name: str
    n: int
    planned: int
    metrics: Mapping[str, Summary]
    beside: str
    baseline: bool = False
    bold: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Baselines:
    """What was measured with the same settings of patches and maps. labels: of the axes that tell these from others."""

    name: str
    labels: Mapping[str, str]
    metrics: Metrics


@dataclass(frozen=True)
class Collected:
    """axes: labels of their values. results: by cell id. baselines: by data set."""

    axes: Mapping[str, Sequence[str]]
    data: Sequence[str]
    cells: Sequence[Cell]
    not_applicable: Sequence[NotApplicable]
    results: Mapping[str, Result]
    baselines: Mapping[str, Sequence[Baselines]]

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
            rows.append(Row(cells[0].labels, score, name, done, len(cells), summaries, cells[0].baselines))
        for beside in self.baselines[data]:
            for name, row in beside.metrics.items():
                # Nothing learns in a baseline, so that it is measured with one seed: its interval is its value.
                summaries = {
                    key: Summary(1, value, None, value, value) for key, value in row.items() if value is not None
                }
                rows.append(Row(beside.labels, name, name, 1, 1, summaries, beside.name, baseline=True))
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
    return Collected(
        plan["axes"],
        list(plan["data"]),
        cells,
        [NotApplicable(**values) for values in plan["not_applicable"]],
        results_of(out, cells),
        {
            name: _baselines(out, values["digest"], [cell for cell in cells if cell.data == name])
            for name, values in plan["data"].items()
        },
    )


def _baselines(out: Path, digest: str, cells: Sequence[Cell]) -> list[Baselines]:
    """Those that are measured beside the cells of a data set."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.baselines, []).append(cell)
    found = []
    for name, group in groups.items():
        metrics = baselines(out, name)
        if metrics is None and len(groups) == 1:
            metrics = baselines(out, digest)  # as sweeps named them that knew one set of settings
        if metrics is not None:
            found.append(Baselines(name, _distinction(group, cells), metrics))
    return found


def _distinction(group: Sequence[Cell], cells: Sequence[Cell]) -> dict[str, str]:
    """The values of a group of cells on the axes on which other cells have other values."""
    labels = {}
    for axis in group[0].labels:
        values = dict.fromkeys(cell.labels[axis] for cell in group)
        if any(cell.labels[axis] not in values for cell in cells):
            labels[axis] = ", ".join(values)
    return labels


def _with_bold(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """The best of each metric marked: a detector where nothing of its own settings comes near, else what is best of
    all."""
    winners: dict[int, set[str]] = {}
    for metric in metrics:
        having = [place for place, row in enumerate(rows) if metric in row.metrics]
        learned = [place for place in having if not rows[place].baseline]
        leader = max(learned, key=lambda place: rows[place].metrics[metric].mean, default=None)
        own = {rows[leader].beside} if leader is not None else set()
        beside = [place for place in having if rows[place].beside in own or not rows[place].baseline]
        winner = _winner(rows, beside, metric)
        if winner is None or winner != leader:
            winner = _winner(rows, having, metric)
        if winner is not None:
            winners.setdefault(winner, set()).add(metric)
    return [replace(row, bold=frozenset(winners.get(place, ()))) for place, row in enumerate(rows)]


def _winner(rows: Sequence[Row], places: Sequence[int], metric: str) -> int | None:
    """Of these places that of the row which is best beyond doubt."""
    winner = best([rows[place].metrics[metric] for place in places])
    return None if winner is None else places[winner]
