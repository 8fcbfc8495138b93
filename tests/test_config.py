"""Configuration: strict reading, precise messages, overrides, presets, and a lossless record."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from inspect_gan.config import Config, differences, load_config, make_config, packaged_configs
from inspect_gan.detector import detectors
from inspect_gan.errors import InspectGanError
from inspect_gan.objectives import objectives

Writer = Callable[[str], Path]


def message(source: Path | str | None, *overrides: str) -> str:
    """The one sentence with which a configuration is refused."""
    with pytest.raises(InspectGanError) as error:
        load_config(source, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# What is accepted.


def test_defaults_are_resolved() -> None:
    config = load_config(None)
    assert config.detector["name"] == "ganomaly"
    assert config.detector["w_con"] == 50.0
    assert config.detector["preset"] == "default"
    assert config.objective == {"name": "nonsaturating"}
    assert config.scoring.score == "res_ssim"


@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configurations_load_and_build(name: str) -> None:
    config = load_config(name, ["detector.width=2", "detector.nz=4"])
    assert config.build(1).name == config.detector["name"]


def test_every_detector_has_a_packaged_configuration_of_its_name() -> None:
    assert set(detectors.names()) <= set(packaged_configs())
    for name in detectors.names():
        assert load_config(name).detector["name"] == name


@pytest.mark.parametrize("preset", ["default", "thesis"])
@pytest.mark.parametrize("detector", detectors.names())
def test_round_trip_through_yaml(detector: str, preset: str, write: Writer) -> None:
    values = {
        "detector": {"name": detector, "preset": preset, "nz": 7, "lr_g": 1.5e-5},
        "seed": 3,
        "patches": {"size": 64, "scale": 0.5, "channels": 3},
        "training": {"minutes": 1.5, "clip_grad": 1e-9},
        "scoring": {"score": "default", "stride": 4},
    }
    config = make_config(values)
    dumped = config.model_dump(mode="json")
    for path in (
        write(yaml.safe_dump(dumped)),
        write(yaml.safe_dump(dumped | {"record": {"version": "1", "made": 2}})),
    ):
        again = load_config(path)
        assert again == config
        assert again.model_dump(mode="json") == dumped
    assert make_config(config.model_dump()) == config


def test_record_of_a_run_is_ignored(write: Writer) -> None:
    assert load_config(write("record: {anything: [1, 2]}\nseed: 5\n")) == load_config(write("seed: 5\n"))
    assert load_config(write("record: {}\n")) == load_config(None)


def test_empty_file_means_defaults(write: Writer) -> None:
    assert load_config(write("")) == load_config(write("# nothing\n")) == load_config(None)


def test_short_and_long_names(write: Writer) -> None:
    short = load_config(write("detector: fanogan\nobjective: mim\n"))
    assert short == load_config(write("detector: {name: fanogan}\nobjective: {name: mim}\n"))
    assert short.objective == {"name": "mim", "output": "sigmoid", "generator": "zero_sum", "optimizers": "detector"}


def test_presets_lie_below_user_values(write: Writer) -> None:
    thesis = load_config(write("detector: {name: ganomaly, preset: thesis, lr_d: 0.01}\n")).detector
    assert (thesis["lr_g"], thesis["lr_d"], thesis["networks"]) == (5e-5, 0.01, "k5")
    # A value the preset sets can be put back to the default.
    back = load_config("ganomaly", ["detector.preset=thesis", "detector.networks=k4", "detector.lr_g=null"]).detector
    assert (back["lr_g"], back["lr_d"], back["networks"]) == (None, 1e-6, "k4")
    assert load_config("fanogan", ["detector.preset=thesis"]).objective == {"name": "wgan", "clip": 0.01}
    assert load_config("fanogan").objective == {"name": "wgan_gp", "gp_weight": 10.0}
    assert load_config("fanogan", ["detector.preset=thesis", "objective=hinge"]).objective == {"name": "hinge"}


@pytest.mark.parametrize("preset", ["default", "thesis"])
@pytest.mark.parametrize("name", detectors.names())
def test_presets_are_settings_of_the_detector(name: str, preset: str) -> None:
    detector = detectors.get(name)
    config = make_config({"detector": {"name": name, "preset": preset}})
    for key, value in detector.presets[preset].items():
        assert config.detector[key] == value
    assert config.objective["name"] == detector.default_objective[preset]
    built = make_config({"detector": {"name": name, "preset": preset, "nz": 4, "width": 2}}).build(1)
    assert built.settings.preset == preset
    assert detector.default_score[preset] in built.score_table()


def test_a_penalty_distribution_does_not_act_on_energies(write: Writer) -> None:
    assert load_config("alad", ["detector.penalty=normal"]).detector["penalty"] == "normal"
    path = write("detector:\n  name: ebgan\n  penalty: normal\n")
    with pytest.raises(InspectGanError, match=r"line 3: ebgan measures energies.*use alad, anogan, bigan"):
        load_config(path)


def test_overrides(write: Writer) -> None:
    path = write("detector: ganomaly\nobjective: {name: lsgan, zero_sum: true}\ntraining: {steps: 5}\n")
    config = load_config(
        path,
        [
            "objective=mim",
            "objective.output=raw",
            "detector.nz=9",
            "training.steps=null",
            "training.minutes=2",
        ],
    )
    assert config.objective == {"name": "mim", "output": "raw", "generator": "zero_sum", "optimizers": "detector"}
    assert (config.detector["nz"], config.training.steps, config.training.minutes) == (9, None, 2.0)
    assert load_config(None, ["detector.lr_g=1e-4"]).detector["lr_g"] == 1e-4  # YAML 1.1 reads a string
    assert load_config(None, ["detector.nz=5"]) == make_config({"detector": {"name": "ganomaly", "nz": 5}})
    assert load_config("ganomaly", ["detector=fanogan"]).detector["name"] == "fanogan"
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2
    assert load_config(None, ["scoring.score=a=b"]).scoring.score == "a=b"


def test_an_override_does_not_reach_through_a_yaml_alias(write: Writer) -> None:
    path = write("training: &a {batch_size: 8}\nscoring: *a\n")
    config = load_config(path, ["training.batch_size=16"])
    assert (config.training.batch_size, config.scoring.batch_size) == (16, 8)


def test_frozen() -> None:
    config = load_config(None)
    with pytest.raises(ValidationError):
        config.seed = 4
    with pytest.raises(ValidationError):
        config.training.steps = 4


# What is refused, and how.


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("seed: 1\nsead: 2\n", 2, "unknown key 'sead': did you mean 'seed'?"),
        (
            "training:\n  batch: 3\n  steps: 2\n",
            2,
            "unknown key 'training.batch': did you mean 'batch_size'?",
        ),
        (
            "detector:\n  name: ganomaly\n\n  w_cn: 3\n",
            4,
            "unknown key 'detector.w_cn': did you mean 'w_con'?",
        ),
        ("detector: {name: ganomaly,\n  kappa: 3}\n", 2, "unknown key 'detector.kappa': known: "),
        (
            "objective:\n  name: mim\n  outptu: raw\n",
            3,
            "unknown key 'objective.outptu': did you mean 'output'?",
        ),
        ("seed: 0\ndetector: ganomly\n", 2, "unknown detector 'ganomly': did you mean 'ganomaly'?"),
        ("seed: 0\nobjective:\n  name: mom\n", 3, "unknown objective 'mom': did you mean 'mim'?"),
        ("detector: {preset: teesis}\n", 1, "unknown preset 'teesis': did you mean 'thesis'?"),
        ("detector: {preset: [1]}\n", 1, "unknown preset '[1]': known: default, thesis"),
        ("seed: 1\ntraining: {steps: 2}\nseed: 1\n", 3, "key 'seed' stands there twice; remove one"),
        ("training:\n  steps: 2\n  steps: 3\n", 3, "key 'training.steps' stands there twice; remove one"),
        ("data:\n  info_bar: 0\n", 2, "data.info_bar = 0: Input should be none, auto or a number of rows from 1"),
        ("data:\n  info_bar: some\n", 2, "data.info_bar = 'some': Input should be none, auto or a number of rows"),
        ("training:\n  steps: many\n", 2, "training.steps = 'many': Input should be a valid integer"),
        ("training:\n  steps: 1.5\n", 2, "training.steps = 1.5: Input should be a valid integer"),
        ("training:\n  steps: 0\n", 2, "training.steps = 0: Input should be greater than or equal to 1"),
        (
            "training:\n  minutes: 20\n  steps: 500\n",
            2,
            "training.minutes = 20: a run has one budget, and training.steps is 500: leave one of the two out",
        ),
        ("training:\n  clip_grad: .nan\n", 2, "training.clip_grad = nan: Input should be a finite number"),
        ("training:\n  minutes: .inf\n", 2, "training.minutes = inf: Input should be a finite number"),
        ("detector: {w_con: heavy}\n", 1, "detector.w_con = 'heavy': Input should be a valid number"),
        ("training:\n", 1, "training = None: Input should be a valid dictionary"),
        ("detector: 5\n", 1, "detector = 5: Input should be a valid dictionary"),
        (
            "objective:\n  name: mim\n  output: tanh\n",
            3,
            "objective.output = 'tanh': Input should be 'sigmoid' or 'raw'",
        ),
        ("patches:\n  size: 48\n", 2, "patch size 48 is not supported: use 32"),
        ("patches:\n  channels: 2\n", 2, "patches.channels = 2: Input should be 'auto', 1 or 3"),
        ("1: 2\n", 1, "1 = 1: Keys should be strings"),
    ],
)
def test_refusals_name_file_line_key_and_remedy(text: str, line: int, words: str, write: Writer) -> None:
    path = write(text)
    said = message(path)
    assert said.startswith(f"{path} line {line}: ")
    assert words in said


@pytest.mark.parametrize(
    "text",
    [
        "- a list\n",
        "word\n",
        "7\n",
        "a: [\n",
        "\tseed: 1\n",
        "? [a]\n: 1\n",
        "a: &a\n  b: *a\n",
        "a: 1\n---\nb: 2\n",
    ],
)
def test_files_that_are_no_configuration(text: str, write: Writer) -> None:
    path = write(text)
    assert str(path) in message(path)


def test_unreadable_sources(tmp_path: Path) -> None:
    assert "did you mean 'ganomaly'?" in message("ganomly")
    assert str(tmp_path / "none.yaml") in message(tmp_path / "none.yaml")
    assert "cannot read" in message(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("seed: 1 # é\n".encode("latin-1"))
    assert "latin.yaml" in message(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "is not of the form key.sub=value"),
        ("=3", "is not of the form key.sub=value"),
        ("seed=[1", "'[1' is not a YAML value"),
        ("seed=!!python/object:os.system x", "is not a YAML value"),
        ("training.stps=3", "unknown key 'training.stps': did you mean 'steps'?"),
        ("training.steps=no way", "training.steps = 'no way'"),
        ("detector=ganomly", "did you mean 'ganomaly'?"),
        ("objective.output=raw", "unknown key 'objective.output'"),
    ],
)
def test_refused_overrides_are_quoted(override: str, words: str) -> None:
    said = message(None, override)
    assert said.startswith(f"override '{override}'")
    assert words in said


def test_override_below_a_value_that_has_no_keys(write: Writer) -> None:
    for text in ("training: 5\n", "training: [1]\n"):
        assert message(write(text), "training.steps=3").startswith("override 'training.steps=3': 'training' is ")


def test_objective_the_detector_cannot_be_trained_with(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.get("ganomaly"), "objectives", ("nonsaturating", "lsgan"))
    said = message(write("detector: ganomaly\nobjective: mim\n"))
    assert said.endswith("line 2: ganomaly cannot be trained with objective 'mim': use one of nonsaturating, lsgan")


@pytest.mark.parametrize("name", objectives.names())
def test_objectives_are_built_with_their_settings(name: str) -> None:
    partner = next(detector for detector in detectors.names() if name in detectors.get(detector).objectives)
    built = make_config({"detector": partner, "objective": name}).build_objective()
    assert built.name == name
    assert built.settings == objectives.get(name).settings_class()
    assert make_config({"objective": {"name": "wgan", "clip": 0.5}}).build_objective().settings.clip == 0.5  # type: ignore[attr-defined]


def test_unknown_score_is_refused_before_any_training() -> None:
    config = make_config({"detector": {"name": "ganomaly", "nz": 4, "width": 2}, "scoring": {"score": "enc_mze"}})
    with pytest.raises(InspectGanError, match=r"ganomaly has no score 'enc_mze': did you mean 'enc_mse'\?"):
        config.build(1)


def test_default_score_is_that_of_the_preset() -> None:
    def score(*overrides: str) -> str:
        return load_config("ganomaly", overrides).build(1).score_name("default")

    assert (score(), score("detector.preset=thesis")) == ("enc_mse", "enc_l1")


def test_differences_name_the_recorded_value_first() -> None:
    old, new = Config(seed=1), Config(seed=2, training={"steps": 4})  # type: ignore[arg-type]
    assert differences(old.model_dump(), new.model_dump()) == ["seed: 1 -> 2", "training.steps: None -> 4"]
    assert differences(old.model_dump(), old.model_dump()) == []
    assert differences({"a": {"b": 1}}, {"a": 3}) == ["a: {'b': 1} -> 3"]
    assert differences({"a": 1}, {"b": 1}) == ["a: 1 -> None", "b: None -> 1"]
