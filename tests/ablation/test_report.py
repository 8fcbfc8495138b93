"""What is written of a sweep, from result files made by hand."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inspect_gan.ablation.collect import Collected, collect
from inspect_gan.ablation.folder import CELLS, CellFolder, Metrics, Outcome, Result, Usage, write_baselines
from inspect_gan.ablation.plan import Plan, write_plan
from inspect_gan.ablation.report import write_report
from inspect_gan.ablation.statistics import Summary
from inspect_gan.ablation.tables import latex, markdown, results_csv, shown, tex

Make = Callable[..., Plan]
HOSTILE = "<script>alert(1)</script> a|b 100% $x_1$"


def write_results(out: Path, plan: Plan) -> None:
    """ganomaly: AUROC 0.5 (0.9 with noise) + seed / 100; bigan: collapsed with noise; the last cell is open."""
    write_plan(out, plan)
    for name in {cell.baselines for cell in plan.cells}:
        write_baselines(out, name, {"grey": {"pixel_auroc": 0.4, "pixel_ap": 0.1}})
    for cell in plan.cells[:-1]:
        noise, bigan = cell.labels["input_noise"] == "on", cell.labels["detector"] == "bigan"
        value = (0.9 if noise else 0.5) + cell.seed / 100
        row: dict[str, float | None] = {"pixel_auroc": value, "pixel_ap": value / 2, "patch_ap": None, "zeal": 7}
        scores: Metrics = {name: row for name in cell.scores.values()}
        outcome = Outcome("done", None, scores)
        if bigan and noise:
            outcome = Outcome("collapsed", HOSTILE)
        CellFolder(out / CELLS / cell.id).write_result(Result(outcome, Usage(1, 12.5, 300.0)))


@pytest.fixture
def plan(make: Make) -> Plan:
    return make("seeds=[0, 1, 2]", "tricks=[input_noise]", "data={'cl<o>th_1': images}")


@pytest.fixture
def out(plan: Plan, tmp_path: Path) -> Path:
    write_results(tmp_path / "out", plan)
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def found(out: Path) -> Collected:
    return collect(out)


def test_shown_numbers() -> None:
    assert shown(Summary.of([0.5, 0.6, 0.7])) == "0.600 ± 0.100"
    assert shown(Summary.of([0.5])) == "0.500"
    assert shown(None) == "–"


def test_csv_has_a_line_per_cell_and_score_and_the_baselines_once(found: Collected, plan: Plan) -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv(found), newline="")))
    assert len(rows) == len(plan.cells) * 2 + 1
    assert list(rows[0])[-4:] == ["pixel_auroc", "pixel_ap", "patch_ap", "zeal"]  # unknown metrics last
    for table in (markdown(found, []), latex(found)):
        assert "pixel AUROC" in table
        assert "zeal" not in table
    first = rows[0]
    assert (first["cell"], first["detector"], first["input_noise"]) == (plan.cells[0].id, "ganomaly", "off")
    assert (first["score"], first["score_name"], first["status"]) == ("default", "enc_mse", "done")
    assert float(first["pixel_auroc"]) == 0.5
    assert float(first["seconds"]) == 12.5
    assert [row["status"] for row in rows].count("collapsed") == 2 * 2
    assert [row["status"] for row in rows].count("open") == 2
    baseline = rows[-1]
    assert (baseline["score"], baseline["cell"], baseline["pixel_auroc"]) == ("grey", "", "0.4")


def test_means_by_hand_and_bold_only_where_intervals_part(found: Collected) -> None:
    lines = markdown(found, []).splitlines()
    table = [line for line in lines if line.startswith("| ganomaly | on")]
    # 0.90, 0.91, 0.92; both scores are equal, so neither is the best beyond doubt.
    assert table[0].startswith("| ganomaly | on | default (enc_mse) | 3 | 0.910 ± 0.010 | 0.455 ± 0.005 |")
    assert "**" not in table[0]
    assert any(line.startswith("| bigan | on | default (comb) | 0 of 3 | – | – |") for line in lines)
    assert any(line.startswith("| – | – | grey | no learning | 0.400 | 0.100 |") for line in lines)


def test_the_best_score_is_bold(make: Make, tmp_path: Path) -> None:
    plan = make("seeds=[0, 1, 2]", "tricks=[input_noise]", "scores=[default]", "axes={detector: [ganomaly]}")
    write_results(tmp_path / "one", plan)
    rows = collect(tmp_path / "one").rows("cloth")
    assert [row.bold for row in rows] == [set(), {"pixel_auroc", "pixel_ap"}, set()]
    assert "**0.905 ± 0.007**" in markdown(collect(tmp_path / "one"), [])
    assert r"\textbf{0.905 $\pm$ 0.007}" in latex(collect(tmp_path / "one"))


def test_bold_compares_with_the_baselines_of_the_same_settings(make: Make, tmp_path: Path) -> None:
    axes = "axes={detector: [ganomaly], patches.size: [32, 64]}"
    plan, out = make("seeds=[0, 1, 2]", "tricks=[]", "scores=[default]", axes), tmp_path / "out"
    write_plan(out, plan)
    for cell in plan.cells:
        large = cell.labels["patches.size"] == "64"
        row: dict[str, float | None] = {"pixel_auroc": (0.9 if large else 0.5) + cell.seed / 100}
        CellFolder(out / CELLS / cell.id).write_result(
            Result(Outcome("done", None, {"enc_mse": row}), Usage(1, 12.5, 300.0))
        )
        write_baselines(out, cell.baselines, {"pca_residual": {"pixel_auroc": 0.7 if large else 0.95}})
    rows = collect(out).rows("cloth")
    assert [(dict(row.labels), row.baseline, set(row.bold)) for row in rows] == [
        ({"detector": "ganomaly", "patches.size": "32"}, False, set()),
        ({"detector": "ganomaly", "patches.size": "64"}, False, {"pixel_auroc"}),
        ({"patches.size": "32"}, True, set()),
        ({"patches.size": "64"}, True, set()),
    ]
    text = markdown(collect(out), [])
    assert "| – | 64 | pca_residual | no learning | 0.700 |" in text
    assert "above those of its own" in text
    lines = list(csv.DictReader(io.StringIO(results_csv(collect(out)), newline="")))
    assert [(row["detector"], row["patches.size"]) for row in lines if row["status"] == "baseline"] == [
        ("", "32"),
        ("", "64"),
    ]
    # Where a baseline of its own settings is above it, bold is what is best of all, in the settings of either.
    for value, bold in ((0.93, 2), (0.97, 3)):
        write_baselines(out, plan.cells[1].baselines, {"pca_residual": {"pixel_auroc": value}})
        shown = [place for place, row in enumerate(collect(out).rows("cloth")) if row.bold]
        assert shown == [bold]


def test_baselines_of_earlier_sweeps_are_read_where_there_is_one_set_of_settings(
    found: Collected, out: Path, plan: Plan
) -> None:
    (name,) = {cell.baselines for cell in plan.cells}
    (data,) = plan.data
    (out / "baselines" / f"{name}.json").rename(out / "baselines" / f"{plan.data[data].digest}.json")
    assert collect(out).baselines[data] == found.baselines[data] != []


def test_latex_is_escaped(found: Collected) -> None:
    assert tex(r"a_b & 50% $x$ #1 {y} ~ ^ \z <|>") == (
        r"a\_b \& 50\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z "
        r"\textless{}\textbar{}\textgreater{}"
    )
    text = latex(found)
    assert r"cl\textless{}o\textgreater{}th\_1" in text
    assert r"input\_noise" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith(r"\caption")]
    columns = re.search(r"begin{longtable}{(\w+)}", text)
    assert columns is not None
    assert {line.replace(r"\&", "").count("&") + 1 for line in body} == {len(columns[1])}


def test_scores_of_other_grids_are_not_shown_and_missing_ones_are_open(make: Make, tmp_path: Path) -> None:
    plan, out = make("seeds=[0]", "tricks=[]", "axes={detector: [ganomaly]}"), tmp_path / "out"
    write_plan(out, plan)
    outcome = Outcome("done", None, {"res_l1": {"pixel_auroc": 0.7}, "res_l2": {"pixel_auroc": 0.9, "coverage": 0.3}})
    CellFolder(out / CELLS / plan.cells[0].id).write_result(Result(outcome, Usage(1, 12.5, 300.0)))
    found = collect(out)
    assert found.metrics == ["pixel_auroc"]
    rows = list(csv.DictReader(io.StringIO(results_csv(found), newline="")))
    assert [(row["score"], row["status"], row["pixel_auroc"]) for row in rows] == [
        ("default", "open", ""),
        ("res_l1", "open", "0.7"),
    ]
    assert "1 cells are not finished" in markdown(found, [])
    assert "Failed" not in markdown(found, [])


def test_everything_is_written_and_html_is_escaped(out: Path, plan: Plan) -> None:
    (out / "effects-99-of_a_larger_grid.png").touch()
    write_report(out)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "cl&lt;o&gt;th_1" in page
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert not [link for link in links if link.startswith(("http", "/"))]
    for cell in plan.cells[:-1]:
        assert f"cells/{cell.id}/run/" in links
    for name in ("results.csv", "tests.csv", "effects.csv", "tables.md", "tables.tex"):
        assert name in links and (out / name).is_file()
    pictures = [link for link in links if link.endswith(".png") and link.startswith("effects")]
    assert len(pictures) == 2  # detector, input_noise
    assert all((out / name).stat().st_size > 1000 for name in pictures)
    assert {path.name for path in out.glob("*.png")} == set(pictures)
    text = (out / "tables.md").read_text(encoding="utf-8")
    assert "Failed and collapsed" in text and r"a\|b 100%" in text
    assert "3 seeds are few" in text
    assert "1 cells are not finished" in text


@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_shows_the_page(look: Callable[..., Any], make: Make, tmp_path: Path, width: int) -> None:
    label = "<img src=x onerror=alert(1)>"
    plan = make("tricks=[input_noise]", f"axes={{detector: [ganomaly, bigan], '{HOSTILE}': {{'{label}': {{}}}}}}")
    write_results(tmp_path / "out", plan)
    write_report(tmp_path / "out")
    seen = look(
        tmp_path / "out" / "index.html",
        """
        const all = (what) => [...document.querySelectorAll(what)];
        return {
          scripts: document.scripts.length,
          heads: all("h3").map((head) => head.textContent),
          labels: all("td").map((cell) => cell.textContent),
          pictures: all("img").map((picture) => [picture.naturalWidth, picture.width]),
          overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        };
        """,
        width,
    )
    assert seen["scripts"] == 0
    assert label in seen["labels"]
    assert seen["heads"] == ["Effects", "detector", "input_noise"]
    assert len(seen["pictures"]) == 2
    assert all(shown >= min(natural, 700) > 0 for natural, shown in seen["pictures"])
    assert seen["overflow"] <= 0


def test_effects_file_has_the_numbers(out: Path) -> None:
    write_report(out)
    rows = list(csv.DictReader((out / "effects.csv").open(newline="", encoding="utf-8")))
    (noise,) = [
        row
        for row in rows
        if (row["axis"], row["score"], row["metric"], row["detector"])
        == ("input_noise", "default", "pixel_auroc", "ganomaly")
    ]
    assert float(noise["mean"]) == pytest.approx(0.4)
    assert noise["n"] == "3"
    # bigan has nothing with noise to compare
    assert not [row for row in rows if row["axis"] == "input_noise" and row["detector"] == "bigan"]


def test_hparams_hold_labels_and_metrics(out: Path, plan: Plan) -> None:
    for _ in range(2):  # made again without doubling
        write_report(out)
    assert len(list((out / "hparams").iterdir())) == 3 + 3 + 3  # done cells
    events = EventAccumulator(str(out / "hparams" / plan.cells[0].id)).Reload()
    assert [event.value for event in events.Scalars("default/pixel_auroc")] == [0.5]
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


def test_a_report_of_an_interrupted_sweep_without_any_result(make: Make, tmp_path: Path) -> None:
    write_plan(tmp_path / "bare", make())
    write_report(tmp_path / "bare")
    assert "16 cells are not finished" in (tmp_path / "bare" / "tables.md").read_text(encoding="utf-8")
