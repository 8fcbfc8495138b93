"""Grids: strict reading, axes, paths."""

from pathlib import Path

import pytest

from inspect_gan.ablation.grid import axes_of, load_grid
from inspect_gan.config import packaged_configs
from inspect_gan.errors import InspectGanError


def test_axes_hold_values_named_sets_and_tricks(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "data: {a: images}\n"
        "axes:\n"
        "  detector.spectral_norm: [true, false]\n"
        "  size: {small: {detector: {width: 4}, patches.size: 32}, large: {}}\n"
        "tricks: [input_noise]\n"
    )
    axes = axes_of(load_grid(path)[0])
    assert {name: [level.label for level in levels] for name, levels in axes.items()} == {
        "detector.spectral_norm": ["true", "false"],
        "size": ["small", "large"],
        "input_noise": ["off", "on"],
    }
    assert axes["size"][0].settings == {"detector.width": 4, "patches.size": 32}
    assert axes["input_noise"][1].settings == {"tricks.input_noise": 0.75}
    assert axes["detector.spectral_norm"][0].settings == {"detector.spectral_norm": True}


def test_paths_are_relative_to_the_file_and_those_of_overrides_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grids" / "grid.yaml"
    path.parent.mkdir()
    path.write_text("data: {a: images, b: {train: t, test: /data/test, masks: m}}\n")
    monkeypatch.chdir(tmp_path)
    grid, _ = load_grid(path, ["data.b.masks=mine"])
    assert grid.data["a"].train == path.parent / "images"
    assert grid.data["b"].train == path.parent / "t"
    assert grid.data["b"].test == Path("/data/test")
    assert grid.data["b"].masks == Path("mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {a: i}\nseds: [1]", r"grid.yaml line 2: unknown key 'seds': did you mean 'seeds'\?"),
        ("data:\n  a:\n    trian: i", r"grid.yaml line 3: unknown key 'data.a.trian': did you mean 'train'\?"),
        ("data: {a: {draw: {}, train: i}}", "give train .* or draw"),
        ("data:\n  a: {draw: {norml: 3}}", r"grid.yaml line 2: unknown key 'data.a.draw.norml': did you mean 'normal'"),
        ("seeds: [1]", "data"),
        ("data: {a: i}\nseeds: [1, 1]", "line 2: .*different whole numbers"),
        ("data: {a: i}\ntricks: [input_nois]", "line 2: .*did you mean 'input_noise'"),
        ("data: {a: i}\naxes:\n  detector: ganomaly", "line 2: .*'detector' needs a list"),
        ("data: {a: i}\naxes:\n  detector: [rcgan, rcgan]", "a value twice"),
        ("data: {a: i}\naxes: {seed: [1]}", "no axis may be called 'seed'"),
        ("data: {a: i}\naxes: {coverage: {x: {}}}", "no axis may be called 'coverage'"),
        ("data: {a: i}\naxes: {pixel_ap_low: {x: {}}}", "no axis may be called 'pixel_ap_low'"),
        ("data: {a: i}\naxes: {detector.width: [4], w: {x: {detector.width: 8}}}", "both set detector.width"),
        ("data: {a: i}\naxes: {objective: [mim], x: {y: {objective.name: mim}}}", "both set objective.name"),
        ("data: {a: i}\nbase: {seed: 3}", "list the seeds under seeds"),
        ("data: {a: i}\nlimits: {minutes: 0}", "line 2: limits.minutes = 0"),
    ],
)
def test_wrong_grids_are_refused_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(InspectGanError, match=message) as error:
        load_grid(path)
    assert "\n" not in str(error.value)


def test_unknown_grid_names_the_nearest_packaged_one() -> None:
    with pytest.raises(InspectGanError, match="did you mean 'penalty'"):
        load_grid("penalti")


def test_packaged_grids_are_not_configurations_of_runs() -> None:
    assert set(packaged_configs("ablations")) == {"thesis_tricks", "objectives", "penalty"}
    assert not set(packaged_configs("ablations")) & set(packaged_configs())


def test_a_grid_without_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("axes: {detector: [bigan]}\n")
    with pytest.raises(InspectGanError, match=r"grid\.yaml: the grid names no data"):
        load_grid(path)
    assert list(load_grid(path, ["data={a: {draw: {}}}"])[0].data) == ["a"]
