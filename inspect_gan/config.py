"""Settings of a run: typed, frozen, strict; read from YAML, changed by dotted overrides, recorded with the run."""

import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from inspect_gan.detector import Detector, PatchShape, detectors
from inspect_gan.documents import parse_yaml, read_text
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import Precision
from inspect_gan.imaging.info_bar import InfoBar
from inspect_gan.imaging.preprocess import MAX_SCALE
from inspect_gan.objectives import Objective, TrickSettings, objectives
from inspect_gan.objectives.penalties import PenaltySettings
from inspect_gan.registry import did_you_mean
from inspect_gan.settings import Settings

DEFAULT_DETECTOR = "ganomaly"
GRIDS = "ablations"  # folder of the packaged grids of `ablate`
RECIPES = "nanotwice"  # folder of what the detectors need on such material
DEFAULT_RECIPE = f"{RECIPES}/bigan"
MAX_BATCH = 2**16  # patches

_SHOWN = reprlib.Repr()  # values in messages, the long ones shortened
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 200


class PatchSettings(Settings):
    """size: patch side S in px of the rescaled image, 32, 64 or 128. channels: "auto": 3 if any training image has
    colour, else 1. scale: images are resized by this factor first; below 1 a patch sees more of the surface. range:
    which grey values become 0 and 1: "full": the bit depth's; "data": the 0.1 to 99.9 % quantiles of the training
    images; "auto": those of the data where the images fill less than half of the bit depth's range. scaling:
    "minus1_1": [0, 1] becomes [-1, 1]; "per_patch_std": every patch and channel gets mean 0 and variance 1.
    """

    size: int = 32
    channels: Literal["auto", 1, 3] = "auto"
    scale: float = Field(1.0, gt=0, le=MAX_SCALE)
    range: Literal["auto", "full", "data"] = "auto"
    scaling: Literal["minus1_1", "per_patch_std"] = "minus1_1"


class DataSettings(Settings):
    """layout: how the files lie (`inspect-gan list datasets`), "auto": recognised. page: which page of multi-page TIFF
    files, from 1. info_bar: rows at the bottom of every image that are no picture, cut off when it is read; "auto":
    they are found, see `imaging.info_bar`. holdout: which normal regions are kept from training for calibration, whole
    images or a band of each. holdout_fraction: how much of them, None: a tenth, up to 0.3 where the target false-alarm
    rate needs it. augment: what is done to training patches at random, "d4": flips and quarter turns. memory_mb: above
    it images are memory-mapped from disk, and none are kept on a GPU."""

    layout: str = "auto"
    page: int | None = Field(None, ge=1)
    info_bar: InfoBar = "none"
    holdout: Literal["auto", "image", "band"] = "auto"
    holdout_fraction: float | None = Field(None, gt=0, lt=1)
    augment: Literal["none", "flips", "d4"] = "d4"
    memory_mb: int = Field(4096, ge=1)


class TrainingSettings(Settings):
    """batch_size: patches. epoch_patches: patches that make an epoch. steps, minutes: total budget, shared among the
    stages; neither: the published epochs. precision: of the arithmetic, "auto": bfloat16 where the device computes in
    it natively. device: "auto": a GPU where there is one. ema: decay of the weight average used for scoring, 0 for
    none. clip_grad: largest norm of a phase's gradients, None: not clipped. log_every, image_every: steps between two
    lines of statistics, and between two pictures for TensorBoard. checkpoint_minutes: time between two checkpoints.
    deterministic: the same weights and scores each time on the same GPU, too, for more time (a CPU gives them anyway).
    """

    batch_size: int = Field(64, ge=2, le=MAX_BATCH)
    epoch_patches: int = Field(51_200, ge=1)
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    precision: Precision = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ema: float = Field(0.999, ge=0, lt=1)
    clip_grad: float | None = Field(None, gt=0)
    log_every: int = Field(50, ge=1)
    image_every: int = Field(1000, ge=1)
    checkpoint_minutes: float = Field(2.0, gt=0)
    deterministic: bool = False

    @field_validator("minutes")
    @classmethod
    def _one_budget(cls, minutes: float | None, info: ValidationInfo) -> float | None:
        steps = info.data.get("steps")
        if minutes is not None and steps is not None:
            raise PydanticCustomError(
                "one_budget",
                "a run has one budget, and training.steps is {steps}: leave one of the two out, or set it to null",
                {"steps": steps},
            )
        return minutes


class ScoringSettings(Settings):
    """score: a score's name, "default" for the detector's published one. stride: px, None: a quarter patch. window: how
    a patch's scores are weighted where patches overlap. smooth: standard deviation in patch sides of the Gaussian that
    smooths a map, 0 for none. target_fpr: share of normal pixels that may lie above the threshold. precision: of the
    networks, "auto": bfloat16 where the device computes in it natively. batch_size: patches scored together.
    """

    score: str = "res_ssim"
    stride: int | None = Field(None, ge=1)
    window: Literal["uniform", "hann", "gaussian"] = "hann"
    smooth: float = Field(0.25, ge=0, le=1)
    target_fpr: float = Field(0.01, gt=0, lt=1)
    precision: Precision = "auto"
    batch_size: int = Field(192, ge=1, le=MAX_BATCH)


class Config(Settings):
    """One run, made by `load_config` or `make_config`.

    detector, objective: resolved, {"name": ..., every setting of it}; a name alone is short for its defaults. seed: of
    weights, patches and noise.
    """

    detector: dict[str, Any] = Field(default_factory=dict)
    objective: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**32)
    patches: PatchSettings = PatchSettings()
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    tricks: TrickSettings = TrickSettings()
    scoring: ScoringSettings = ScoringSettings()

    @field_validator("detector", "objective", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def build(self, channels: int) -> Detector:
        """The detector with fresh weights for patches of `channels` channels.

        Raises InspectGanError when it has no score of the configured name.
        """
        detector_class = detectors.get(self.detector["name"])
        settings = detector_class.make_settings(_without_name(self.detector))
        detector = detector_class(
            PatchShape(channels, self.patches.size), settings, self.build_objective(), self.tricks
        )
        detector.score_name(self.scoring.score)
        return detector

    def build_objective(self) -> Objective:
        objective = objectives.get(self.objective["name"])
        return objective(objective.settings_class(**_without_name(self.objective)))


def takes_penalty(detector: type[Detector]) -> bool:
    """Whether RCGAN's penalty distribution can be switched on: it acts on discriminators that are no energies."""
    return issubclass(detector.settings_class, PenaltySettings)


def packaged_configs(folder: str = "") -> list[str]:
    """Names of the configurations that come with the package. folder: "" for runs, recipes with RECIPES/ before their
    names, or GRIDS."""
    names = sorted(entry.name[:-5] for entry in _packaged(folder).iterdir() if entry.name.endswith(".yaml"))
    return names if folder else names + [f"{RECIPES}/{name}" for name in packaged_configs(RECIPES)]


def load_config(source: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Configuration from a YAML file or the name of a packaged one, with `key.sub=value` overrides.

    Raises InspectGanError naming the file, the line, the key and the nearest valid key.
    """
    values: dict[str, Any] = {}
    lines: dict[str, str] = {}
    if source is not None:
        _, values, lines = read_values(source)
    apply_overrides(values, lines, overrides)
    return make_config(values, lines)


def read_values(source: str | Path, folder: str = "") -> tuple[Path, dict[str, Any], dict[str, str]]:
    """A YAML file or the packaged one of that name in `folder`: its path, its values and, per dotted key, where it
    stands. Raises InspectGanError for a file that cannot be read, is no YAML or holds a key twice."""
    path, text = _read(source, folder)
    values, lines = _parse(text, str(path))
    return path, values, lines


def apply_overrides(values: dict[str, Any], lines: dict[str, str], overrides: Iterable[str]) -> None:
    """Put `key.sub=value` overrides into values, and into lines where they were written."""
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise InspectGanError(f"override '{override}' is not of the form key.sub=value")
        lines[key] = f"override '{override}'"
        try:
            put(values, key, parse_yaml(value)[0])
        except ValueError as error:
            raise InspectGanError(f"{lines[key]}: '{value}' is not a YAML value") from error
        except TypeError as error:
            raise InspectGanError(f"{lines[key]}: {error}") from None


def make_config(values: Mapping[str, Any], lines: Mapping[str, str] | None = None) -> Config:
    """Validate values and resolve detector and objective. lines: dotted key -> where it was written."""
    lines = lines or {}
    config = validate(Config, values, "", lines)
    with _located("detector.name", lines):
        detector = detectors.get(str(config.detector.get("name", DEFAULT_DETECTOR)))
    chosen = _without_name(config.detector)
    preset = chosen.get("preset", "default")
    if not isinstance(preset, str) or preset not in detector.presets:
        raise InspectGanError(
            f"{_where('detector.preset', lines)}unknown preset '{preset}': "
            f"{did_you_mean(str(preset), detector.presets)}"
        )
    if "penalty" in chosen and not takes_penalty(detector):
        others = ", ".join(name for name in detectors.names() if takes_penalty(detectors.get(name)))
        raise InspectGanError(
            f"{_where('detector.penalty', lines)}{detector.name} measures energies, no penalty distribution acts "
            f"on them: use {others}, or leave detector.penalty out"
        )
    settings = validate(detector.settings_class, {**detector.presets[preset], **chosen}, "detector", lines)
    wanted = config.objective or {}
    with _located("objective.name", lines):
        objective = objectives.get(str(wanted.get("name", detector.default_objective[preset])))
        detector.check_objective(objective.name)
    objective_settings = validate(objective.settings_class, _without_name(wanted), "objective", lines)
    config = config.model_copy(
        update={
            "detector": {"name": detector.name, **settings.model_dump()},
            "objective": {"name": objective.name, **objective_settings.model_dump()},
        }
    )
    with _located("patches.size", lines):
        PatchShape(1, config.patches.size)
    return config


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Readable list of the keys in which two nested mappings differ, `a` being the recorded one."""
    found: list[str] = []
    for key in sorted({*a, *b}):
        left, right, name = a.get(key), b.get(key), f"{prefix}{key}"
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{name}.")
        elif left != right:
            found.append(f"{name}: {left} -> {right}")
    return found


def _packaged(folder: str) -> Traversable:
    return resources.files("inspect_gan.configs").joinpath(folder)


def _read(source: str | Path, folder: str) -> tuple[Path, str]:
    path = Path(source)
    if not path.suffix and not os.path.exists(path):
        if str(source) in packaged_configs(folder):
            packaged = _packaged(folder).joinpath(f"{source}.yaml")
            return Path(str(packaged)), packaged.read_text(encoding="utf-8")
        raise InspectGanError(f"no configuration '{source}': {did_you_mean(str(source), packaged_configs(folder))}")
    try:
        return path, read_text(path)
    except (OSError, ValueError) as error:
        raise InspectGanError(f"cannot read configuration {path}: {error}") from error


def _parse(text: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and, per dotted key, where it stands."""
    lines: dict[str, str] = {}

    def walk(node: yaml.Node, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            here = f"{name} line {key.start_mark.line + 1}"
            if dotted in lines:
                raise InspectGanError(f"{here}: key '{dotted}' stands there twice; remove one")
            lines[dotted] = here
            walk(value, f"{dotted}.")

    try:
        values, root = parse_yaml(text)
        if root is not None:
            walk(root, "")
    except (ValueError, RecursionError) as error:
        raise InspectGanError(f"{name} is not valid YAML: {error}") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise InspectGanError(f"{name} must hold keys and values, found {type(values).__name__}")
    values.pop("record", None)  # what a run's config.yaml adds about its own making
    return values, lines


def put(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key of nested mappings. Raises TypeError where a value has no keys."""
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.get(parent)
        # `objective: lsgan` is short for `objective: {name: lsgan}`; an override may add to either form.
        inner = {"name": inner} if isinstance(inner, str) else inner or {}
        if not isinstance(inner, dict):
            raise TypeError(f"'{parent}' is {inner!r} and has no keys")
        inner = dict(inner)  # a YAML alias may stand for it elsewhere too
        values[parent] = inner
        values = inner
    values[last] = value


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], values: Mapping[str, Any], prefix: str, lines: Mapping[str, str]) -> M:
    """A model of values that stand under the dotted key `prefix`. Raises InspectGanError for the first wrong one, with
    where it was written."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as errors:
        error = errors.errors()[0]
        keys = [str(part) for part in error["loc"]]
        dotted = ".".join([prefix, *keys] if prefix else keys)
        where = _where(dotted, lines)
        if error["type"] == "extra_forbidden":
            known = _known_keys(model, keys[:-1])
            raise InspectGanError(f"{where}unknown key '{dotted}': {did_you_mean(keys[-1], known)}") from None
        raise InspectGanError(f"{where}{dotted} = {_SHOWN.repr(error['input'])}: {error['msg']}") from None


@contextmanager
def _located(dotted: str, lines: Mapping[str, str]) -> Iterator[None]:
    """Puts where a key was written before an error about its value."""
    try:
        yield
    except InspectGanError as error:
        raise InspectGanError(f"{_where(dotted, lines)}{error}") from None


def _known_keys(model: type[BaseModel], parents: list[str]) -> list[str]:
    inner: Any = model
    for parent in parents:
        # Below a model a field, below a mapping any key.
        inner = get_args(inner)[1] if get_origin(inner) is dict else inner.model_fields[parent].annotation
        if get_origin(inner) is UnionType:  # of a model and None
            inner = get_args(inner)[0]
    return list(inner.model_fields)


def place_of(dotted: str, lines: Mapping[str, str]) -> str | None:
    """The nearest place in the file at or above a dotted key."""
    while dotted and dotted not in lines:
        dotted = dotted.rpartition(".")[0]
    return lines.get(dotted)


def _where(dotted: str, lines: Mapping[str, str]) -> str:
    """The same as the beginning of a message."""
    place = place_of(dotted, lines)
    return "" if place is None else f"{place}: "


def _without_name(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "name"}
