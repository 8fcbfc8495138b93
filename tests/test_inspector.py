"""The front door: fit, inspect, save, load."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inspect_gan.config import Config, TrainingSettings, load_config
from inspect_gan.errors import InspectGanError
from inspect_gan.inspector import Inspector
from inspect_gan.scoring.verdict import Verdict

TINY = ["detector.width=4", "detector.nz=8", "training.batch_size=8", "training.precision=32-true"]


def texture(seed: int, shape: tuple[int, int] = (128, 192)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    waves = 0.5 + 0.3 * np.sin(rows / 2 + rng.uniform(0, 6)) * np.cos(columns / 3 + rng.uniform(0, 6))
    return (np.clip(waves + rng.normal(0, 0.03, shape), 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    config = load_config("ganomaly", [*TINY, "data.holdout_fraction=0.4", "scoring.target_fpr=0.05"])
    out = tmp_path_factory.mktemp("runs") / "texture"
    return Inspector.fit([texture(i) for i in range(4)], config, steps=250, out=out)


def test_a_blob_on_the_texture_is_found_where_it_is(inspector: Inspector) -> None:
    spoilt = texture(9)
    spoilt[50:80, 100:130] = 250
    result = inspector.inspect(spoilt)
    assert result.verdict == Verdict.NG
    x0, y0, x1, y1 = result.regions[0].box
    assert x0 < 115 < x1
    assert y0 < 65 < y1
    assert result.mask[65, 115]
    assert result.map.shape == spoilt.shape
    assert result.score == result.map.max()
    # What lies beyond the blob's neighbourhood stays within the accepted false alarms.
    outside = np.ones(spoilt.shape, dtype=bool)
    outside[20:110, 70:160] = False
    assert (result.map[outside] > 1).mean() < 0.2


def test_a_result_does_not_depend_on_what_was_inspected_before(inspector: Inspector) -> None:
    first = inspector.inspect(texture(7)).map
    inspector.inspect(255 - texture(8))
    assert np.array_equal(first, inspector.inspect(texture(7)).map)


def test_arrays_of_eight_and_sixteen_bits_and_floats_agree(inspector: Inspector) -> None:
    image = texture(7)
    eight = inspector.inspect(image).map
    sixteen = inspector.inspect(image.astype(np.uint16) * 257).map
    floats = inspector.inspect(image / 255.0).map
    np.testing.assert_allclose(sixteen, eight, atol=1e-3)
    np.testing.assert_allclose(floats, eight, atol=1e-3)


def test_saved_and_loaded_inspector_gives_the_same_map(inspector: Inspector, tmp_path: Path) -> None:
    inspector.save(tmp_path / "copy")
    again = Inspector.load(tmp_path / "copy")
    image = texture(7)
    assert np.array_equal(inspector.inspect(image).map, again.inspect(image).map)
    assert not again.predictor.detector.training
    with pytest.raises(InspectGanError, match="not empty"):
        inspector.save(tmp_path / "copy")


def test_loosening_the_rate_lowers_the_threshold_without_the_training_images(
    inspector: Inspector, tmp_path: Path
) -> None:
    inspector.save(tmp_path / "copy")
    alone = Inspector.load(tmp_path / "copy")
    assert alone.calibration(target_fpr=0.2).threshold < alone.calibration(target_fpr=0.05).threshold
    with pytest.raises(InspectGanError, match="held-out normal patches"):
        alone.calibration(target_fpr=1e-5)
    for none in (0.0, 1.0):
        with pytest.raises(InspectGanError, match="not between 0 and 1"):
            alone.inspect(texture(7), target_fpr=none)
    Inspector.load(tmp_path / "copy")  # nothing was kept that cannot be read


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((40, 40), np.int32), "int32"),
        (np.full((40, 40), 3.0), r"outside \[0, 1\]"),
        (np.full((40, 40), np.nan), "not finite"),
        (np.zeros((40, 40, 2), np.uint8), r"\(40, 40, 2\)"),
        (np.zeros((16, 40), np.uint8), "16×40 px"),
    ],
)
def test_unusable_arrays_are_refused(inspector: Inspector, array: np.ndarray, message: str) -> None:
    with pytest.raises(InspectGanError, match=message):
        inspector.inspect(array)


@pytest.mark.parametrize("damage", ["weights.safetensors", "config.yaml", "held_out.npz", "calibration.json"])
def test_damaged_and_missing_files_are_named(inspector: Inspector, tmp_path: Path, damage: str) -> None:
    inspector.save(tmp_path / "run")
    (tmp_path / "run" / damage).write_bytes(b"\x80\x04 not what it was")
    with pytest.raises(InspectGanError, match=damage):
        Inspector.load(tmp_path / "run")
    (tmp_path / "run" / damage).unlink()
    if damage == "calibration.json":
        Inspector.load(tmp_path / "run").calibration()
    else:
        with pytest.raises(InspectGanError):
            Inspector.load(tmp_path / "run")


def test_stride_must_leave_no_gaps(inspector: Inspector) -> None:
    with pytest.raises(InspectGanError, match="at most 32"):
        inspector.inspect(texture(0), stride=33)


def test_fit_takes_a_folder_of_files(tmp_path: Path) -> None:
    import cv2

    (tmp_path / "good").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "good" / f"{i}.png"), texture(i))
    config = load_config(None, [*TINY, "data.holdout_fraction=0.4", "scoring.target_fpr=0.1"])
    found = Inspector.fit(tmp_path / "good", config, steps=3, out=tmp_path / "run")
    assert [Path(entry["name"]).name for entry in found.record["data"]] == ["0.png", "1.png", "2.png"]
    with pytest.raises(TypeError, match="epochs"):
        Inspector.fit(tmp_path / "good", config, epochs=3)


@pytest.mark.parametrize(
    ("budget", "left"), [({"steps": 3}, (3, None)), ({"minutes": 2}, (None, 2.0)), ({}, (None, 20.0))]
)
def test_a_budget_takes_the_place_of_the_configuration_s(
    budget: dict[str, Any], left: tuple[int | None, float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[TrainingSettings] = []

    def train(sources: object, settings: Config, folder: Path) -> None:
        trained.append(settings.training)
        raise RuntimeError("enough seen")

    monkeypatch.setattr("inspect_gan.training.fit.fit_run", train)
    config = load_config("ganomaly", ["training.minutes=20"])
    with pytest.raises(RuntimeError, match="enough seen"):
        Inspector.fit([texture(0)], config, **budget)
    assert [(training.steps, training.minutes) for training in trained] == [left]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"steps": 3, "minutes": 2}, "one budget"),
        ({"steps": 0}, "training.steps = 0"),
    ]
    for wrong, message in refused:
        with pytest.raises(InspectGanError, match=message):
            Inspector.fit([texture(0)], config, **wrong)


def test_fit_on_images_too_small_for_the_default_recipe(tmp_path: Path) -> None:
    images = [texture(i, (200, 640)) for i in range(4)]
    found = Inspector.fit(images, steps=1, out=tmp_path / "run")
    assert (found.detector_name, found.config.patches.size) == ("ganomaly", 32)


def test_health_of_the_training_is_known(inspector: Inspector, tmp_path: Path) -> None:
    assert inspector.health is not None and inspector.health.startswith(("healthy", "suspect: "))
    inspector.save(tmp_path / "copy")
    health = tmp_path / "copy" / "health.json"
    health.write_text('{"verdict": "suspect", "findings": ["one", "two"]}')
    assert Inspector.load(tmp_path / "copy").health == "suspect: one; two"
    health.write_text("[1]")
    with pytest.raises(InspectGanError, match=r"health.json is damaged"):
        Inspector.load(tmp_path / "copy")
    health.unlink()
    assert Inspector.load(tmp_path / "copy").health is None


def test_training_and_scoring_are_deterministic_on_request_and_in_the_precision_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    tf32: set[bool] = set()
    forward = torch.nn.Conv2d.forward

    def watched(layer: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.are_deterministic_algorithms_enabled())
        tf32.add(torch.backends.cudnn.allow_tf32)
        return forward(layer, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
    found = {}
    for wanted in (True, False):
        own = ["scoring.target_fpr=0.2", "scoring.precision=32-true", f"training.deterministic={wanted}"]
        config = load_config("ganomaly", [*TINY, *own])
        Inspector.fit([texture(0)], config, steps=2, out=tmp_path / str(wanted))
        inspector = Inspector.load(tmp_path / str(wanted))
        assert set(seen) == {wanted}
        seen.clear()
        found[wanted] = inspector.inspect(texture(1)).map
        assert set(seen) == {wanted}
        seen.clear()
    assert tf32 == {False}
    assert np.array_equal(found[True], found[False])  # on a CPU, whose algorithms are deterministic anyway


def test_a_folder_that_is_no_run_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(InspectGanError, match="is not a run directory"):
        Inspector.load(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(InspectGanError, match="training has not finished"):
        Inspector.load(tmp_path)
