"""Plans: what makes a cell, what changes its id, what cannot be run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from inspect_gan.ablation.data import open_data
from inspect_gan.ablation.folder import CELLS, write_baselines
from inspect_gan.ablation.grid import DataEntry, load_grid
from inspect_gan.ablation.plan import Plan, baselines_to_measure, make_plan, planned_data, write_plan
from inspect_gan.detector import detectors
from inspect_gan.errors import InspectGanError

Make = Callable[..., Plan]


def ids(plan: Plan) -> set[str]:
    return {cell.id for cell in plan.cells}


def test_every_combination_is_a_cell_with_the_packaged_settings_of_its_detector(make: Make) -> None:
    plan = make("seeds=[0, 1, 2]", "base={training.steps: 3}")
    assert len(plan.cells) == len(ids(plan)) == 2 * 4 * 3
    assert {tuple(cell.labels.values()) for cell in plan.cells} == {
        (detector, noise, soft)
        for detector in ("ganomaly", "bigan")
        for noise in ("off", "on")
        for soft in ("off", "on")
    }
    for cell in plan.cells:
        config = plan.identities[cell.id]["config"]
        assert config["detector"]["name"] == cell.labels["detector"] == plan.detector(cell)
        assert config["detector"]["width"] == 32  # the packaged configuration's, the class's own is 64
        assert config["seed"] == cell.seed
        assert config["tricks"]["input_noise"] == (0.75 if cell.labels["input_noise"] == "on" else 0)
        assert cell.scores["default"] == detectors.get(plan.detector(cell)).default_score["default"]
        assert cell.scores["res_l1"] == "res_l1"


@pytest.mark.parametrize(
    "change",
    ["base.training.steps=4", "base.scoring.stride=16", "base.detector.width=8", "base.detector.preset=thesis"],
)
def test_every_setting_changes_every_id(change: str, make: Make) -> None:
    key, value = change.removeprefix("base.").split("=")
    base = {"training.steps": "3", "detector.width": "4", "detector.nz": "8"} | {key: value}
    changed = make("base={" + ", ".join(f"{name}: {text}" for name, text in base.items()) + "}")
    assert not ids(changed) & ids(make())


@pytest.mark.parametrize(
    "change",
    [
        "base={training.steps: 3, detector.width: 4, detector.nz: 8, training.checkpoint_minutes: 9}",
        "base={training.steps: 3, detector.width: 4, detector.nz: 8, data.memory_mb: 99}",
        "scores=[res_ssim]",
        "limits={minutes: 3}",
        "tricks=[soft_labels, input_noise]",
    ],
)
def test_what_changes_no_result_changes_no_id(change: str, make: Make) -> None:
    assert ids(make(change)) == ids(make())


def test_another_version_is_another_cell(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(make())
    monkeypatch.setattr("inspect_gan.__version__", "9.9.9")
    assert not ids(make()) & before


@pytest.mark.parametrize(
    ("axis", "sets"),
    [
        ("patches.size: [32, 64]", 2),
        ("scoring.target_fpr: [0.1, 0.2]", 2),
        ("data.holdout_fraction: [0.1, 0.2]", 2),
        ("detector.width: [4, 8]", 1),
        ("scoring.score: [res_l1, res_l2]", 1),
    ],
)
def test_baselines_are_shared_by_cells_in_whose_settings_they_agree(axis: str, sets: int, make: Make) -> None:
    plan = make(f"axes={{{axis}}}", "tricks=[]", "base={training.steps: 3}")
    assert len({cell.baselines for cell in plan.cells}) == sets
    assert len({(cell.baselines, *cell.labels.values()) for cell in plan.cells}) == 2  # whatever the seed


def test_cells_of_the_first_seed_measure_baselines_that_are_not_there(make: Make, tmp_path: Path) -> None:
    plan = make("axes={patches.size: [32, 64]}", "tricks=[]", "seeds=[5, 3]", "base={training.steps: 3}")
    write_plan(tmp_path / "out", plan)

    def measured() -> list[str | None]:
        return [baselines_to_measure(tmp_path / "out", cell.id) for cell in plan.cells]

    small, large, _, _ = names = [cell.baselines for cell in plan.cells]
    assert measured() == [small, large, None, None]
    assert names == [small, large, small, large]
    write_baselines(tmp_path / "out", small, {})
    assert measured() == [None, large, None, None]


def test_names_and_places_of_data_do_not_matter_but_contents_do(make: Make, images: Path) -> None:
    before = ids(make())
    elsewhere = images.parent / "elsewhere"
    shutil.copytree(images, elsewhere)
    (elsewhere / "train/good/0.png").rename(elsewhere / "train/good/00.png")
    assert ids(make(f"data={{other: {elsewhere}}}")) == before
    mask = cv2.imread(str(elsewhere / "ground_truth/hole/0_mask.png"), 0)
    cv2.imwrite(str(elsewhere / "ground_truth/hole/0_mask.png"), 255 - mask)
    assert not ids(make(f"data={{other: {elsewhere}}}")) & before


def test_equal_cells_under_two_names_are_run_once(make: Make) -> None:
    plan = make("axes={noise: {none: {}, zero: {tricks.input_noise: 0.0}}}", "tricks=[]")
    assert len(plan.cells) == 4
    assert len(ids(plan)) == 2


def test_what_a_detector_cannot_do_is_set_apart_with_the_reason(make: Make) -> None:
    plan = make(
        "axes={detector: [ganomaly, ebgan, rcgan], objective: [nonsaturating, ebgan, hinge]}",
        "tricks=[soft_labels, minibatch_std]",
        "base={detector.width: 4, detector.nz: 8}",
    )
    reasons = {tuple(one.labels.values()): one.reason for one in plan.not_applicable}
    assert "cannot be trained with objective 'ebgan'" in reasons["ganomaly", "ebgan", "off", "off"]
    assert "no labels to soften" in reasons["rcgan", "hinge", "on", "off"]
    assert "no last layer" in reasons["ebgan", "ebgan", "off", "on"]
    assert ("ganomaly", "nonsaturating", "on", "on") not in reasons
    run = {tuple(cell.labels.values()) for cell in plan.cells}
    assert not run & set(reasons)
    assert len(run) + len(reasons) == 3 * 3 * 4


def test_a_setting_that_only_another_detector_has_is_not_applicable(make: Make) -> None:
    plan = make(
        "axes={detector: [rcgan, ebgan], penalty: {with: {detector.penalty: normal}}}",
        "tricks=[feature_matching]",
    )
    reasons = {tuple(one.labels.values()): one.reason for one in plan.not_applicable}
    assert reasons["ebgan", "with", "off"] == "ebgan has no setting detector.penalty"
    # Without the trick a detector that never had it is as it always is.
    has = [name for name in ("rcgan", "ebgan") if "w_fm" in detectors.get(name).settings_class.model_fields]
    assert (("rcgan", "with", "on") in reasons) == ("rcgan" not in has)
    assert ("rcgan", "with", "off") not in reasons


def test_a_detector_without_any_of_the_scores_is_not_applicable(make: Make) -> None:
    grid = ("axes={detector: [ganomaly, ebgan]}", "tricks=[]", "base={detector.width: 4}")
    plan = make(*grid, "scores=[energy]")
    assert {cell.labels["detector"] for cell in plan.cells} == {"ebgan"}
    assert [one.reason for one in plan.not_applicable] == ["ganomaly has none of the scores energy"]
    assert not make(*grid, "scores=[energy, res_l1]").not_applicable


def test_settings_of_an_objective_apply_to_those_that_have_them(make: Make) -> None:
    plan = make("axes={objective: [mim, minimax]}", "tricks=[]", "base={objective.output: raw, detector: rcgan}")
    assert [one.reason for one in plan.not_applicable] == ["minimax has no setting objective.output"]
    objectives = [plan.identities[cell.id]["config"]["objective"] for cell in plan.cells]
    assert {(one["name"], one["output"]) for one in objectives} == {("mim", "raw")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("base={detector.widht: 4}", "unknown key 'detector.widht': did you mean 'width'"),
        ("base={training.steps: none}", "training.steps = 'none'"),
        ("axes={detector: [ganomali]}", "unknown detector 'ganomali': did you mean 'ganomaly'"),
        ("axes={objective: [mimm]}", "unknown objective 'mimm'"),
        ("scores=[res_l7]", "no detector of the grid has a score 'res_l7'"),
        ("axes={detector: [ganomaly], objective: [ebgan]}", "no combination of the grid can be run: ganomaly cannot"),
    ],
)
def test_settings_wrong_in_themselves_are_errors(change: str, message: str, make: Make) -> None:
    with pytest.raises(InspectGanError, match=message):
        make(change)


def test_errors_of_settings_name_the_line(grid_file: Path, images: Path) -> None:
    text = grid_file.read_text().replace("tricks: [input_noise, soft_labels]", "  mode:\n    x: {tricks.noise: 1}")
    grid_file.write_text(text)
    grid, lines = load_grid(grid_file)
    data = {"cloth": open_data("cloth", grid.data["cloth"], images)}
    with pytest.raises(InspectGanError, match=r"grid\.yaml line 7: unknown key 'tricks\.noise'"):
        make_plan(grid, lines, data)


def test_written_plans_name_the_data_and_keep_cells_of_earlier_grids(make: Make, tmp_path: Path) -> None:
    first, second = make(), make("seeds=[1, 2]")
    write_plan(tmp_path / "out", first)
    kept = next(iter(ids(first)))
    (tmp_path / "out" / CELLS / kept / "result.json").write_text("{}")
    write_plan(tmp_path / "out", second)
    assert (tmp_path / "out" / CELLS / kept / "result.json").is_file()
    assert {path.name for path in (tmp_path / "out" / CELLS).iterdir()} == ids(first) | ids(second)
    assert planned_data(tmp_path / "out", first.data["cloth"].digest) == first.data["cloth"]
    with pytest.raises(InspectGanError, match="no data set of digest 123"):
        planned_data(tmp_path / "out", "123")
    document = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert {cell["id"] for cell in document["cells"]} == ids(second)


@pytest.mark.parametrize("name", ["thesis_tricks", "objectives", "penalty"])
def test_packaged_grids_can_be_planned(name: str, tmp_path: Path) -> None:
    grid, lines = load_grid(name)
    data = {key: open_data(key, entry, tmp_path, draw=False) for key, entry in grid.data.items()}
    assert not any(tmp_path.iterdir())  # nothing is drawn for a dry run
    plan = make_plan(grid, lines, data)
    shown = {tuple(cell.labels.values()) for cell in plan.cells}
    assert len(grid.seeds) >= 5
    if name == "thesis_tricks":
        assert {labels[0] for labels in shown} == set(detectors.names())
        assert len(shown) + len(plan.not_applicable) == len(detectors.names()) * 8
    elif name == "objectives":
        assert {"mim", "minimax", "lsgan", "wgan_gp"} <= {labels[1] for labels in shown}
    else:
        assert shown == {("rcgan", "without"), ("rcgan", "with")}


def test_data_without_test_images_or_truth_is_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InspectGanError, match="'x' has no test images"):
        open_data("x", DataEntry(train=images / "train" / "good"), tmp_path)
    (images / "test" / "odd").mkdir()
    shutil.copy(images / "train/good/0.png", images / "test/odd/0.png")
    with pytest.raises(InspectGanError):
        open_data("x", DataEntry(train=images), tmp_path)


def test_drawn_images_are_drawn_once(tmp_path: Path) -> None:
    entry = DataEntry.model_validate({"draw": {"normal": 1, "defective": 1, "height": 64, "width": 64}})
    first = open_data("x", entry, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert open_data("x", entry, tmp_path) == first
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert len(first.train) == 1


def test_drawn_images_may_be_tested_on_others(images: Path, tmp_path: Path) -> None:
    draw = {"normal": 1, "defective": 1, "height": 64, "width": 64}
    folders = {"test": str(images / "test" / "hole"), "masks": str(images / "ground_truth" / "hole")}
    files = open_data("x", DataEntry.model_validate({"draw": draw} | folders), tmp_path)
    assert [sample.image for sample in files.test] == [images / "test" / "hole" / "0.png"]
    assert files.train == open_data("x", DataEntry.model_validate({"draw": draw}), tmp_path).train
    with pytest.raises(InspectGanError, match="needs a list file"):
        open_data("x", DataEntry.model_validate({"draw": draw, "layout": "list"}), tmp_path)


def test_a_dry_run_tells_undrawn_data_sets_apart(make: Make, tmp_path: Path) -> None:
    grid, lines = load_grid("penalty", ["data={a: {draw: {seed: 0}}, b: {draw: {seed: 1}}, c: {draw: {seed: 1}}}"])
    data = {name: open_data(name, entry, tmp_path, draw=False) for name, entry in grid.data.items()}
    plan = make_plan(grid, lines, data)
    assert len(ids(plan)) == len(plan.cells) * 2 // 3  # b and c are the same


def test_cells_may_start_from_the_recipes(make: Make) -> None:
    grid = ("axes={detector: [ganomaly, ebgan]}", "tricks=[]", "base={detector.width: 4}")
    plain, recipes = make(*grid), make(*grid, "recipes=true")
    found = [
        {name: (one["patches"]["size"], one["detector"]["width"]) for name, one in by_detector(plan).items()}
        for plan in (plain, recipes)
    ]
    assert found == [{"ganomaly": (32, 4), "ebgan": (32, 4)}, {"ganomaly": (64, 4), "ebgan": (32, 4)}]
    assert by_detector(recipes)["ebgan"]["detector"]["energy"] == "ssim"


def by_detector(plan: Plan) -> dict[str, Any]:
    return {one["config"]["detector"]["name"]: one["config"] for one in plan.identities.values()}
