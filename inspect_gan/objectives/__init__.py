"""Adversarial losses and penalties. They know tensors, nothing of networks or detectors."""

from inspect_gan.objectives.base import Objective, Optimizer, Role, both, objectives
from inspect_gan.objectives.game import Game, TrickSettings, with_total

__all__ = ["Game", "Objective", "Optimizer", "Role", "TrickSettings", "both", "objectives", "with_total"]
