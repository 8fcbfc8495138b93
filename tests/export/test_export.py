"""Exported detectors give the trained detector's scores, maps and verdicts, without torch."""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from inspect_gan.config import load_config, make_config
from inspect_gan.detector import detectors
from inspect_gan.errors import InspectGanError
from inspect_gan.export import scorer, write
from inspect_gan.export.scorer import METADATA, ExportedInspector, open_session, run_session
from inspect_gan.imaging import write_png
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.inspection import inspect_images, open_inspector
from inspect_gan.inspector import Inspector
from inspect_gan.recalibration import recalibrate
from inspect_gan.scoring.folding import folded
from inspect_gan.scoring.maps import MapSettings

TINY = ("detector.width=4", "detector.nz=8", "training.batch_size=8", "scoring.target_fpr=0.05")


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((100, 161))
    waves = 0.5 + 0.3 * np.sin(rows / 2 + rng.uniform(0, 6)) * np.cos(columns / 3 + rng.uniform(0, 6))
    return (np.clip(waves + rng.normal(0, 0.03, waves.shape), 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    config = load_config("ganomaly", [*TINY, "data.holdout_fraction=0.4", "scoring.stride=7"])
    out = tmp_path_factory.mktemp("runs") / "texture"
    return Inspector.fit([texture(i) for i in range(4)], config, steps=150, out=out)


@pytest.fixture(scope="module")
def exported(run: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "texture.onnx"
    assert 0 < write.export_scorer(run, path) < write.TOLERANCE
    return path


def test_maps_and_verdicts_are_those_of_the_run(run: Inspector, exported: Path) -> None:
    spoilt = texture(9)
    spoilt[40:70, 60:100] = 250
    for image in (texture(8), spoilt):
        ours = ExportedInspector(exported).inspect(image)
        calibration = run.calibration(precision="32-true")
        picture = run.read(image)
        wanted = run.predictor.score_maps(picture, ["res_ssim"], calibration.maps)["res_ssim"]
        np.testing.assert_allclose(ours.map, calibration.normalise(wanted), atol=1e-3)
        assert ours.map.shape == image.shape
    assert ours.verdict == "NG"
    assert ours.regions


def test_results_are_judged_anew_by_a_file_as_far_as_it_can(exported: Path, tmp_path: Path) -> None:
    inspector = ExportedInspector(exported)
    write_png(tmp_path / "a.png", texture(8))
    inspect_images(inspector, [tmp_path / "a.png"], tmp_path / "out")
    with pytest.raises(InspectGanError, match="give the run directory"):
        recalibrate(inspector, tmp_path / "out", target_fpr=0.2)
    assert sum(recalibrate(inspector, tmp_path / "out", min_area=5).values()) == 1


@pytest.mark.parametrize("suffix", sorted(write.WRITERS))
@pytest.mark.parametrize("name", sorted(set(detectors.names()) - {"anogan"}))
def test_graphs_of_all_detectors_take_any_number_of_patches(name: str, suffix: str) -> None:
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": name, "width": 4, "nz": 6}}).build(1).eval()
    score = detector.published_score()
    scorer = write.PatchScorer(folded(detector), Preprocess(size=32, channels=1), score).eval()
    patches = np.random.default_rng(0).random((7, 32, 32, 1)).astype(np.float32)
    with torch.inference_mode():
        _, run_file = write.WRITERS[suffix](scorer, "{}")
        wanted = scorer(torch.from_numpy(patches)).numpy()
        for n in (1, 7):
            np.testing.assert_allclose(run_file(patches[:n]), wanted[:n], rtol=1e-4, atol=1e-5)


def test_inspection_imports_no_torch(exported: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "image.png", texture(8))
    code = (
        "import sys\n"
        "from inspect_gan.tools.cli import main\n"
        f"try:\n    main(['defect_map', {str(exported)!r}, {str(tmp_path)!r}, '--out', {str(tmp_path / 'maps')!r}])\n"
        "except SystemExit as stopped:\n    assert not stopped.code, stopped.code\n"
        "heavy = {'torch', 'kornia', 'lightning_fabric', 'skimage', 'scipy', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (tmp_path / "maps" / "report.html").is_file()
    assert json.loads((tmp_path / "maps" / "results.json").read_text())["header"]["run"] == "texture"


def test_the_guides_example_needs_numpy_and_the_runtime_alone(run: Inspector, exported: Path, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(import json.*?)```", guide, flags=re.DOTALL)
    assert example.count("\n") <= 30
    shutil.copy(exported, tmp_path / "scorer.onnx")
    np.save(tmp_path / "image.npy", texture(8))
    code = f"{example}\nimport sys\nassert not {{'torch', 'inspect_gan'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    units = np.array([[float(value) for value in row.split()] for row in re.findall(r"\[([^\[\]]+)\]", done.stdout)])
    settings = MapSettings(16, precision="32-true")
    grid, wanted = run.predictor.patch_scores(run.read(texture(8)), ["res_ssim"], settings)
    calibration = ExportedInspector(exported).calibration()
    whole = wanted["res_ssim"].reshape(len(grid.rows), len(grid.cols))[: len(units), : units.shape[1]]
    np.testing.assert_allclose(units, calibration.normalise(whole), atol=0.006)


def test_what_is_not_in_the_file_is_refused(exported: Path) -> None:
    inspector = open_inspector(exported)
    assert inspector.calibration("res_ssim", 7, 0.05).score == "res_ssim"
    with pytest.raises(InspectGanError, match=r"exported for --stride 7, not 4: export the run again with --stride 4"):
        inspector.inspect(texture(8), stride=4)
    with pytest.raises(InspectGanError, match="--score res_ssim, not res_l1"):
        inspector.inspect(texture(8), score="res_l1")
    with pytest.raises(InspectGanError, match=r"--target-fpr 0\.05, not 0\.01"):
        inspector.inspect(texture(8), target_fpr=0.01)


@pytest.mark.parametrize(("setting", "height"), [(None, 100), ("none", 100), (20, 80)])
def test_an_info_bar_is_cut_off_as_in_the_run(exported: Path, tmp_path: Path, setting: object, height: int) -> None:
    model = onnx.load(exported)
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA)
    found = json.loads(entry.value)
    assert found.pop("info_bar") == "none"  # files of before the setting do not have it
    entry.value = json.dumps(found if setting is None else {**found, "info_bar": setting})
    onnx.save(model, tmp_path / "a.onnx")
    inspector = open_inspector(tmp_path / "a.onnx")
    assert inspector.read(texture(8)).height == height
    assert inspector.inspect(texture(8)).map.shape == (100, 161)


def test_other_files_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InspectGanError, match=r"nowhere\.onnx does not exist"):
        open_inspector(tmp_path / "nowhere.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(exported.read_bytes()[:1000])
    with pytest.raises(InspectGanError, match=r"broken\.onnx is no readable ONNX file"):
        open_inspector(broken)
    model = onnx.load(exported)
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA)
    found = json.loads(entry.value)
    changes = {
        "inspect-gan-export-9, this version reads": {"format": "inspect-gan-export-9"},
        "is damaged": {"calibration": {}},
        r"is damaged .*size": {"preprocess": {"channels": 1}},
    }
    for message, change in changes.items():
        entry.value = json.dumps(found | change)
        onnx.save(model, broken)
        with pytest.raises(InspectGanError, match=message):
            open_inspector(broken)
    del model.metadata_props[:]
    onnx.save(model, broken)
    with pytest.raises(InspectGanError, match="was not written by `inspect-gan export`"):
        open_inspector(broken)


@pytest.mark.parametrize(("wanted", "threads"), [("3", 3), ("2,1", 2), ("", 0), ("many", 0), ("-1", 0), (None, 0)])
def test_threads_are_as_many_as_are_asked_for(
    wanted: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["a"], ["b"])],
        "same",
        [value("a", onnx.TensorProto.FLOAT, [1])],
        [value("b", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert open_session(model.SerializeToString()).get_session_options().intra_op_num_threads == threads


def test_a_graph_without_end_is_stopped(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "BATCH_SECONDS", 0.2)
    model = onnx.load(exported)
    last = model.graph.node[-1]
    (result,) = (name for name in last.output if name == "res_ssim")
    last.output[list(last.output).index(result)] = "once"
    kind = onnx.TensorProto.BOOL
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [name], [f"{name}_next"]) for name in ("go_on", "state")],
        "for_ever",
        [
            onnx.helper.make_tensor_value_info("step", onnx.TensorProto.INT64, []),
            onnx.helper.make_tensor_value_info("go_on", kind, []),
            onnx.helper.make_tensor_value_info("state", onnx.TensorProto.FLOAT, None),
        ],
        [
            onnx.helper.make_tensor_value_info("go_on_next", kind, []),
            onnx.helper.make_tensor_value_info("state_next", onnx.TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(onnx.helper.make_tensor("true", kind, [], [True]))
    model.graph.node.append(onnx.helper.make_node("Loop", ["", "true", "once"], ["res_ssim"], body=body))
    onnx.save(model, tmp_path / "loop.onnx")
    with pytest.raises(InspectGanError, match=r"not scored 64 patches within 0\.2 s and was stopped"):
        open_inspector(tmp_path / "loop.onnx").inspect(texture(8))


def test_a_graph_takes_no_more_memory_than_is_left(exported: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "image.png", texture(8))
    model = onnx.load(exported)
    last = model.graph.node[-1]
    (result,) = (name for name in last.output if name == "res_ssim")
    last.output[list(last.output).index(result)] = "once"
    for name, values in (("times", [1000, 1, 1, 1]), ("first", [0])):
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [len(values)], values))
    model.graph.node.append(onnx.helper.make_node("Expand", ["once", "times"], ["often"]))
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["often", "first"], ["res_ssim"], keepdims=0))
    onnx.save(model, tmp_path / "large.onnx")
    code = (  # in a process of its own, as the limit is of the whole process
        "import sys; from inspect_gan.export import scorer; from inspect_gan.inspection import open_inspector\n"
        "scorer.memory_left = lambda: 300e6\n"
        "from pathlib import Path; graph, image = map(Path, sys.argv[1:])\n"
        "try: open_inspector(graph).inspect(image)\n"
        "except scorer.InspectGanError as error: sys.exit(str(error))"
    )

    def inspect(graph: Path) -> str:
        arguments = [sys.executable, "-c", code, str(graph), str(tmp_path / "image.png")]
        return subprocess.run(arguments, capture_output=True, text=True, check=False).stderr

    assert "needs more memory for 64 patches than is left" in inspect(tmp_path / "large.onnx")
    assert inspect(exported) == ""


def test_a_graph_that_scores_otherwise_is_not_written(
    run: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix, writer in list(write.WRITERS.items()):

        def spoil(scorer: write.PatchScorer, about: str, writer: Any = writer) -> Any:
            changed = copy.deepcopy(scorer)
            with torch.no_grad():
                max(changed.parameters(), key=lambda weights: weights.numel()).zero_()
            return writer(changed, about)

        monkeypatch.setitem(write.WRITERS, suffix, spoil)
        with pytest.raises(InspectGanError, match="scores held-out patches differently"):
            write.export_scorer(run, tmp_path / f"spoilt{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_program_of_torch_says_what_stands_beside_it(run: Inspector, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "scorer.pt2"
    assert 0 <= write.export_scorer(run, path) < write.TOLERANCE
    beside = {METADATA: ""}
    program = torch.export.load(path, extra_files=beside)
    (entry,) = (entry for entry in onnx.load(exported).metadata_props if entry.key == METADATA)
    assert json.loads(beside[METADATA]) == json.loads(entry.value)
    patches = run.held_out_patches()[:5]
    with torch.inference_mode():
        found = program.module()(torch.from_numpy(patches)).numpy()
    wanted = run_session(open_session(exported.read_bytes()), patches, ["res_ssim"])["res_ssim"]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    with pytest.raises(InspectGanError, match=r"scorer\.pt2 is for programs.*\.onnx"):
        open_inspector(path)


def test_a_detector_that_searches_cannot_be_exported(run: Inspector, tmp_path: Path) -> None:
    with pytest.raises(InspectGanError, match=r"must end in \.onnx or \.pt2"):
        write.export_scorer(run, tmp_path / "scorer.bin")
    searching = make_config({"detector": {"name": "anogan", "width": 4, "nz": 6}}).build(1)
    plain, run.predictor.detector = run.predictor.detector, searching
    try:
        with pytest.raises(InspectGanError, match="no exported graph can do"):
            write.export_scorer(run, tmp_path / "scorer.onnx")
    finally:
        run.predictor.detector = plain
