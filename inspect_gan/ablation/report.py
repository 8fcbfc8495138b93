"""Everything that is written of a sweep, from what its cells left behind; can be made again at any time."""

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from inspect_gan.ablation import tables
from inspect_gan.ablation.collect import Collected, collect
from inspect_gan.ablation.figures import effects_figure
from inspect_gan.ablation.folder import CELLS, EVALUATION, LOG, RUN
from inspect_gan.ablation.grid import METRICS
from inspect_gan.ablation.plan import Cell
from inspect_gan.ablation.statistics import Difference, differences
from inspect_gan.errors import writing
from inspect_gan.events import quiet_writers
from inspect_gan.imaging import atomic_bytes, atomic_text
from inspect_gan.reporting.html import templates

INDEX, RESULTS_CSV, TESTS_CSV, EFFECTS_CSV, TABLES_MD, TABLES_TEX, HPARAMS = (
    "index.html",
    "results.csv",
    "tests.csv",
    "effects.csv",
    "tables.md",
    "tables.tex",
    "hparams",
)


def write_report(out: Path) -> None:
    """Tables, paired tests, figures, TensorBoard HParams and index.html of the cells that are done so far."""
    found = collect(out)
    measurements = found.measurements()
    tests = differences(measurements, found.axes)
    effects = differences(measurements, found.axes, keep=[axis for axis in found.axes if axis == "detector"])
    atomic_text(out / RESULTS_CSV, tables.results_csv(found))
    atomic_text(out / TESTS_CSV, tables.differences_csv(found.axes, tests))
    atomic_text(out / EFFECTS_CSV, tables.differences_csv(found.axes, effects))
    atomic_text(out / TABLES_MD, tables.markdown(found, effects))
    atomic_text(out / TABLES_TEX, tables.latex(found))
    figures = _figures(out, found, effects)
    _hparams(out / HPARAMS, found)
    atomic_text(out / INDEX, _page(found, effects, figures))
    # Not earlier: a page that somebody looks at meanwhile shows the old ones.
    shown = {name for pictures in figures.values() for _, name in pictures}
    for picture in out.glob("effects-*.png"):
        if picture.name not in shown:
            picture.unlink()


def _figures(out: Path, found: Collected, effects: list[Difference]) -> dict[str, list[tuple[str, str]]]:
    """Writes effects-*.png; (axis, file) by data set."""
    written: dict[str, list[tuple[str, str]]] = {data: [] for data in found.data}
    number = 0
    for data in found.data:
        for axis in found.axes:
            shown = [one for one in effects if one.data == data and one.axis == axis and one.metric in found.main]
            if not shown:
                continue
            number += 1
            name = f"effects-{number:02d}-{re.sub(r'[^A-Za-z0-9_.]+', '_', f'{data}-{axis}')[:100]}.png"
            atomic_bytes(out / name, effects_figure(shown, found.main))
            written[data].append((axis, name))
    return written


def _hparams(folder: Path, found: Collected) -> None:
    """One TensorBoard run per cell that is done: its labels and its metrics."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    for cell in {cell.id: cell for cell in found.cells}.values():
        metrics = {
            f"{score}/{metric}": value
            for score, name in cell.scores.items()
            for metric, value in found.metrics_of(cell, name).items()
            if value is not None
        }
        if metrics:
            settings = {"data": cell.data, "seed": cell.seed, **cell.labels}
            with writing(folder), quiet_writers(), SummaryWriter(str(folder / cell.id)) as writer:
                writer.add_hparams(settings, metrics, run_name=".")


def _page(found: Collected, effects: list[Difference], figures: dict[str, list[tuple[str, str]]]) -> str:
    sections = [
        {
            "name": data,
            "rows": [tables.cells_of(found, row) for row in found.rows(data)],
            "effects": [
                tables.difference_cells(one) for one in effects if one.data == data and one.metric in found.main
            ],
            "figures": [(axis, quote(name)) for axis, name in figures[data]],
        }
        for data in found.data
    ]
    return (
        templates(Path(__file__).parent)
        .get_template("report.html")
        .render(
            notes=tables.notes(found),
            about_differences=tables.DIFFERENCES,
            header=tables.header(found),
            difference_header=tables.DIFFERENCE_HEADER,
            sections=sections,
            axes=list(found.axes),
            metrics=[METRICS.get(metric, metric) for metric in found.main],
            cells=[_view(found, cell) for cell in found.cells],
            not_applicable=[([*one.labels.values()], one.reason) for one in found.not_applicable],
            files=(RESULTS_CSV, TESTS_CSV, EFFECTS_CSV, TABLES_MD, TABLES_TEX),
            hparams=HPARAMS,
        )
    )


def _view(found: Collected, cell: Cell) -> dict[str, Any]:
    """What the template needs to know of one cell."""
    folder, result = f"{CELLS}/{cell.id}", found.results.get(cell.id)
    links = [] if result is None else [("log", f"{folder}/{LOG}"), ("run", f"{folder}/{RUN}/")]
    if found.status(cell) == "done":
        links.append(("metrics", f"{folder}/{EVALUATION}/metrics.md"))
    score, name = next(iter(cell.scores.items()))
    values = found.metrics_of(cell, name)
    return {
        "cell": cell,
        "status": found.status(cell),
        "reason": None if result is None else result.outcome.reason,
        "usage": None if result is None else result.usage,
        "score": score,
        "values": ["–" if (value := values.get(metric)) is None else f"{value:.3f}" for metric in found.main],
        "links": links,
    }
