"""The run directory: what a training leaves behind and what inspection needs of it."""

import hashlib
import json
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.torch
import torch
import yaml
from pydantic import Field
from safetensors import SafetensorError, safe_open

import inspect_gan
from inspect_gan.config import Config, make_config
from inspect_gan.detector import Detector
from inspect_gan.documents import parse_json, parse_yaml, read_json, read_text
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import require_memory
from inspect_gan.imaging import Image, atomic_bytes, atomic_text
from inspect_gan.imaging.arrays import from_array
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.settings import Settings

WEIGHTS, CONFIG, STATE, CALIBRATION, HELD_OUT, HEALTH = (
    "weights.safetensors",
    "config.yaml",
    "state.pt",
    "calibration.json",
    "held_out.npz",
    "health.json",
)
HEALTHY_STATE = "state_healthy.pt"  # the last one before a collapse
LOCK = ".lock"  # held by the process that trains
EXAMINED_PATCHES = 256  # of the held-out regions, for all that a few patches tell
FORMAT = "inspect-gan-2"
FIRST_FORMAT = "inspect-gan-1"  # read, no longer written: a header of several entries, no digest
# The one entry of a weights file's header: of several, the order would differ between files that say the same.
HEADER = "inspect_gan"


@dataclass(frozen=True)
class Weights:
    """A trained detector in eval mode, its preprocessing and the configuration it was trained with.

    digest: of the weights as they were saved, "" before that.
    """

    detector: Detector
    preprocess: Preprocess
    config: Config
    digest: str = ""


def load_health(path: Path) -> str | None:
    """What training found of itself, as "suspect: finding; finding"; None where no file tells."""
    try:
        found = read_json(path)
        return ": ".join(filter(None, [str(found["verdict"]), "; ".join(map(str, found["findings"]))]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())
        raise InspectGanError(f"{path} is damaged ({why}): delete it, it is not needed") from error


def save_weights(path: Path, weights: Weights) -> None:
    """Write a self-describing safetensors file: configuration and preprocessing are in its header. The same weights
    give the same bytes."""
    tensors = {name: value.contiguous().cpu() for name, value in weights.detector.state_dict().items()}
    header = {
        "format": FORMAT,
        "version": inspect_gan.__version__,
        "digest": _digest(tensors),
        "config": weights.config.model_dump(mode="json"),
        "preprocess": weights.preprocess.model_dump(mode="json"),
    }
    atomic_bytes(path, safetensors.torch.save(tensors, metadata={HEADER: json.dumps(header)}))


def load_weights(path: Path) -> Weights:
    """Read what `save_weights` wrote. Nothing in the file is executed.

    Raises InspectGanError when the file is missing, not such a file, or does not fit the detector it names.
    """
    if not path.is_file():
        if (path.parent / CONFIG).is_file():
            raise InspectGanError(f"no weights at {path}: training has not finished; continue it with --resume")
        raise InspectGanError(f"{path.parent} is not a run directory: give the folder that `train --out` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            found = _header_of(file.metadata() or {})
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InspectGanError(f"{path} is not a readable weights file: {error}") from error
    form = found.get("format") if isinstance(found, dict) else None
    if form not in (FORMAT, FIRST_FORMAT):
        raise InspectGanError(f"{path} was not written by inspect-gan (format {form})")
    try:
        header = _Header.model_validate(found)
        config, preprocess = _recorded_config(header.config), header.preprocess
        if preprocess.size != config.patches.size:
            raise ValueError(f"patches of {preprocess.size} px, a detector of {config.patches.size}")
        with torch.device("meta"):  # takes no memory, whatever sizes the header asks for
            _check_tensors(tensors, config.build(preprocess.channels))
        detector = config.build(preprocess.channels)
        digest = _digest({name: tensors[name] for name in detector.state_dict()})
        if form == FORMAT and digest != header.digest:
            raise ValueError("the weights are not those that were written, the file is damaged")
        detector.load_state_dict(tensors)
    except (InspectGanError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise InspectGanError(
            f"{path} does not fit inspect-gan {inspect_gan.__version__}, train it again with this version: "
            f"{' '.join(str(error).split())[:500]}"
        ) from error
    return Weights(detector.eval().requires_grad_(False), preprocess, config, digest)


class _Header(Settings):
    """Of a weights file."""

    format: str
    version: str
    digest: str
    config: dict[str, Any]
    preprocess: Preprocess


def _header_of(metadata: Mapping[str, str]) -> Any:
    """What a `_Header` is made of. Raises ValueError where it is not JSON."""
    if metadata.get("format") != FIRST_FORMAT:
        return parse_json(metadata.get(HEADER, "{}"))
    parts = {name: parse_json(metadata.get(name, "null")) for name in ("config", "preprocess")}
    return {"format": FIRST_FORMAT, "version": metadata.get("version"), "digest": "", **parts}


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Of names and values, in the order of a detector's state."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _check_tensors(tensors: Mapping[str, torch.Tensor], detector: Detector) -> None:
    """Raises ValueError unless names, shapes and types are those of the detector's own tensors."""
    wanted = {name: (tuple(value.shape), value.dtype) for name, value in detector.state_dict().items()}
    given = {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}
    if wanted != given:
        name = min(name for name in {*wanted, *given} if wanted.get(name) != given.get(name))
        shown = [" ".join(map(str, kinds[name])) if name in kinds else "none" for kinds in (given, wanted)]
        raise ValueError(f"tensor '{name}' is {shown[0]} in the file, {shown[1]} in the detector")


def save_held_out(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Keep normal regions, (H, W, C) in their native dtype, so that a run can be calibrated again anywhere."""
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, *arrays)
    atomic_bytes(path, buffer.getvalue())


def load_held_out(path: Path) -> list[Image]:
    """The regions `save_held_out` kept."""
    if not path.is_file():
        raise InspectGanError(f"no held-out normal regions at {path}: the run is incomplete; train it again")
    try:
        with zipfile.ZipFile(path) as archive:
            require_memory(path, 5 * sum(entry.file_size for entry in archive.infolist()))  # as stored and as float32
            arrays = [_held_out_array(archive, entry) for entry in archive.infolist()]
        if not arrays:
            raise ValueError("it holds no regions")
        return [from_array(array) for array in arrays]
    except Exception as error:  # zip and array readers meet damage with errors of many kinds
        raise InspectGanError(f"{path} is damaged ({error}): train it again") from error


def _held_out_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """(H, W, C). No more is unpacked than the archive announces."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, in_columns, dtype = read_header[version](file)
        if dtype not in (np.uint8, np.uint16, np.float32) or len(shape) != 3:
            raise ValueError(f"a region of shape {shape} and type {dtype}")
        data = file.read()
    return np.frombuffer(data, dtype).reshape(shape, order="F" if in_columns else "C")


def held_out_patches(regions: Sequence[Image], preprocess: Preprocess, most: int = EXAMINED_PATCHES) -> np.ndarray:
    """At most `most` non-overlapping patches of held-out regions, (n, S, S, C) float32, evenly chosen."""
    patches = []
    for region in regions:
        pixels = preprocess.image(region)
        grid = Grid(pixels.shape[0], pixels.shape[1], preprocess.size, preprocess.size)
        patches += [pixels[top:bottom, left:right] for top, left, bottom, right in grid.boxes()]
    chosen = np.linspace(0, len(patches) - 1, min(most, len(patches))).round().astype(int)
    return np.stack([patches[number] for number in chosen])


def save_config(path: Path, config: Config, fingerprint: Sequence[Mapping[str, Any]], divided_for: float) -> None:
    """The resolved configuration with versions, the data it was trained on and the target false-alarm rate that these
    were divided for into training and held-out regions: a run that goes on may have another."""
    record = {
        "versions": {
            "inspect_gan": inspect_gan.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "divided_for": divided_for,
        "data": [dict(entry) for entry in fingerprint],
    }
    text = yaml.safe_dump({**config.model_dump(mode="json"), "record": record}, sort_keys=False, allow_unicode=True)
    atomic_text(path, text)


class _TrainedImage(Settings):
    name: str
    height: int
    width: int
    digest: str


class _Record(Settings):
    """What a run's config.yaml says beside the settings. divided_for: None in earlier versions, where it is the rate of
    the settings."""

    versions: dict[str, str]
    divided_for: Annotated[float, Field(gt=0, lt=1)] | None = None
    data: list[_TrainedImage]


def load_record(path: Path) -> tuple[Config, dict[str, Any]]:
    """Configuration and record of a run. Raises InspectGanError when the file is missing or damaged."""
    if not path.is_file():
        raise InspectGanError(f"{path.parent} is not a run: it has no {CONFIG}")
    try:
        values, _ = parse_yaml(read_text(path))
        if not isinstance(values, dict):
            raise ValueError("it holds no keys and values")
        record = _Record.model_validate(values.pop("record", None))
        return _recorded_config(values), record.model_dump()
    except (InspectGanError, OSError, ValueError) as error:
        raise InspectGanError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def _recorded_config(values: Mapping[str, Any]) -> Config:
    """Of a run. Earlier versions let it have steps beside the minutes, which alone counted."""
    training = values.get("training")
    if isinstance(training, dict) and training.get("minutes") is not None:
        values = {**values, "training": {**training, "steps": None}}
    return make_config(values)


def sha256(path: Path) -> str:
    """Content hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
