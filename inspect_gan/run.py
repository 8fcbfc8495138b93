"""The run directory: what a training leaves behind and what inspection needs of it."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError, safe_open

import inspect_gan
from inspect_gan.config import Config, make_config
from inspect_gan.detector import Detector
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import Image, atomic_bytes, atomic_text, to_float
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid

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
FORMAT = "inspect-gan-2"
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


def save_weights(path: Path, weights: Weights) -> None:
    """Write a self-describing safetensors file: configuration and preprocessing are in its header. The same weights
    give the same bytes."""
    tensors = {name: value.contiguous().cpu() for name, value in weights.detector.state_dict().items()}
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    header = {
        "format": FORMAT,
        "version": inspect_gan.__version__,
        "digest": digest.hexdigest(),
        "config": weights.config.model_dump(mode="json"),
        "preprocess": weights.preprocess.model_dump(mode="json"),
    }
    atomic_bytes(path, safetensors.torch.save(tensors, metadata={HEADER: json.dumps(header)}))


def load_weights(path: Path) -> Weights:
    """Read what `save_weights` wrote. Nothing in the file is executed.

    Raises InspectGanError when the file is missing, not such a file, or does not fit the detector it names.
    """
    if not path.is_file():
        raise InspectGanError(f"no weights at {path}: training has not finished; continue it with --resume")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise InspectGanError(f"{path} is not a readable weights file: {error}") from error
    if header.get("format") != FORMAT:
        raise InspectGanError(f"{path} was not written by inspect-gan (format {header.get('format')})")
    try:
        digest = header["digest"]
        config = make_config(header["config"])
        preprocess = Preprocess.model_validate(header["preprocess"])
        detector = config.build(preprocess.channels)
        detector.load_state_dict(safetensors.torch.load_file(path))
    except (KeyError, ValueError, RuntimeError) as error:
        raise InspectGanError(
            f"{path} does not fit inspect-gan {inspect_gan.__version__}, train it again with this version: "
            f"{' '.join(str(error).split())}"
        ) from error
    return Weights(detector.eval().requires_grad_(False), preprocess, config, digest)


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
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[name] for name in archive.files]
    except (ValueError, OSError) as error:
        raise InspectGanError(f"{path} is damaged: {error}") from error
    return [Image(to_float(array), array.dtype.itemsize * 8) for array in arrays]


def held_out_patches(regions: Sequence[Image], preprocess: Preprocess, most: int = 256) -> np.ndarray:
    """At most `most` non-overlapping patches of held-out regions, (n, S, S, C) float32, evenly chosen."""
    patches = []
    for region in regions:
        pixels = preprocess.image(region)
        grid = Grid(pixels.shape[0], pixels.shape[1], preprocess.size, preprocess.size)
        patches += [pixels[top:bottom, left:right] for top, left, bottom, right in grid.boxes()]
    chosen = np.linspace(0, len(patches) - 1, min(most, len(patches))).round().astype(int)
    return np.stack([patches[number] for number in chosen])


def save_config(path: Path, config: Config, fingerprint: Sequence[Mapping[str, Any]]) -> None:
    """The resolved configuration with versions and the data it was trained on."""
    record = {
        "versions": {
            "inspect_gan": inspect_gan.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "data": [dict(entry) for entry in fingerprint],
    }
    text = yaml.safe_dump({**config.model_dump(mode="json"), "record": record}, sort_keys=False, allow_unicode=True)
    atomic_text(path, text)


def load_record(path: Path) -> tuple[Config, dict[str, Any]]:
    """Configuration and record of a run. Raises InspectGanError when the file is missing or damaged."""
    if not path.is_file():
        raise InspectGanError(f"{path.parent} is not a run: it has no {CONFIG}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        record = values.pop("record")
    except (yaml.YAMLError, AttributeError, KeyError, UnicodeDecodeError) as error:
        raise InspectGanError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    return make_config(values), record


def sha256(path: Path) -> str:
    """Content hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
