"""The resume file: everything a run needs to go on as if it had never stopped."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict
from torch import Tensor

from inspect_gan.errors import CannotResume
from inspect_gan.imaging import atomic_file
from inspect_gan.settings import Settings

# In earlier ones a prepared file could corrupt memory in spite of `weights_only` (CVE-2026-24747).
SAFE_TORCH = "2.10"


class State(Settings):
    """What a checkpoint holds, beside the fingerprint that `load_state` compares. See `Trainer` for the entries."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    fingerprint: str
    position: dict[str, int | float]
    detector: dict[str, Tensor]
    shadow: dict[str, Tensor]
    updates: dict[str, int]
    optimizers: dict[str, dict[str, Any]]
    sums: dict[str, Tensor]
    counts: dict[str, int]
    latest: dict[str, float]
    alive: bool
    signs: dict[str, Tensor]
    precision: dict[str, Any]


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and strings; the file appears whole or not at all.

    Raises InspectGanError when it cannot be written.
    """
    with atomic_file(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # PyTorch's writer stumbles over what the file refused and hides why.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_state(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any]:
    """Read what `save_state` wrote; nothing in the file is executed.

    Raises CannotResume when it is missing, damaged, or `fingerprint` (of data and configuration) differs, and with a
    PyTorch that does not read it safely.
    """
    if torch.__version__ < SAFE_TORCH:
        raise CannotResume(
            f"{path} cannot be read safely with PyTorch {torch.__version__}: install {SAFE_TORCH} or a later one"
        )
    if not path.is_file():
        raise CannotResume(f"nothing to resume: {path} does not exist; train without --resume")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # PyTorch meets damage with errors of many kinds
        raise CannotResume(f"{path} is damaged or not a checkpoint of inspect-gan; train again") from error
    if not isinstance(state, dict) or "fingerprint" not in state:
        raise CannotResume(f"{path} is not a checkpoint of inspect-gan; train again")
    if state["fingerprint"] != fingerprint:
        raise CannotResume(
            f"{path} belongs to other training images: resume with the same images, or train into a new folder"
        )
    return state
