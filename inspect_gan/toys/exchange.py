"""Detectors with their own losses, order of steps, optimisers and scores, on points or rows instead of patches: only
their networks are exchanged for small ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from inspect_gan.detector import Batch, PatchShape, Phase, detectors
from inspect_gan.objectives import Objective
from inspect_gan.toys.side_by_side import make_optimizer

Playing = tuple[Phase, Callable[[Tensor], None]]  # a phase, and what takes its loss and makes a step


def bare_detector(name: str, settings: Mapping[str, Any], objective: Objective) -> Any:
    """A detector whose networks the caller exchanges; those it comes with are for patches, as small as can be."""
    kind = detectors.get(name)
    return kind(PatchShape(), kind.make_settings({"width": 1, "spectral_norm": False, **settings}), objective)


def optimize_phases(detector: Any) -> list[Playing]:
    """The phases of a detector's first stage, each with its optimiser over the networks that the detector has now."""
    return [
        (phase, make_optimizer(phase.optimizer, [detector.get_submodule(name) for name in phase.trains]))
        for phase in detector.stages()[0].phases
    ]


def iterate(detector: Any, phases: Sequence[Playing], draw: Callable[[], Batch]) -> None:
    """One iteration as in a training: every phase in turn, a fresh batch for each of its repeats but the first."""
    batch = draw()
    for phase, optimize in phases:
        for name, network in detector.named_children():
            network.requires_grad_(name in phase.trains)
        for repeat in range(phase.repeats):
            batch = draw() if repeat else batch
            losses = phase.loss(batch)
            optimize(losses["total"])
            if phase.after_step is not None:
                phase.after_step(losses)
