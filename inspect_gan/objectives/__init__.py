"""Adversarial losses and penalties. They know tensors, nothing of networks or detectors."""

from inspect_gan.objectives.base import Objective, Optimizer, objectives

__all__ = ["Objective", "Optimizer", "objectives"]
