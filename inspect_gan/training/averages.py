"""Exponential moving average of weights; the averaged weights are the ones that score."""

import copy
from collections.abc import Callable, Iterable

import torch

from inspect_gan.detector import Detector


def warm_up(decay: float) -> Callable[[int], float]:
    """min(decay, (1 + k) / (10 + k)) after k updates: a short run is not dominated by its initial weights."""
    return lambda k: min(decay, (1 + k) / (10 + k))


class Averages:
    """Shadow of a detector: after each optimiser step of a sub-network, shadow = d · shadow + (1 - d) · weights.

    Buffers (batch-normalisation statistics) are copied as they are. decay: number of updates -> d.
    """

    def __init__(self, detector: Detector, decay: Callable[[int], float]):
        self.shadow = copy.deepcopy(detector).eval().requires_grad_(False)
        self.updates = dict.fromkeys((name for name, _ in detector.named_children()), 0)
        self._decay = decay

    @torch.no_grad()
    def update(self, detector: Detector, names: Iterable[str]) -> None:
        """Follow the sub-networks `names` of `detector` after one of their steps."""
        for name in names:
            live, average = getattr(detector, name), getattr(self.shadow, name)
            weight = 1 - self._decay(self.updates[name])
            torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), weight)
            self.updates[name] += 1

    @torch.no_grad()
    def copy_buffers(self, detector: Detector) -> None:
        for average, live in zip(self.shadow.buffers(), detector.buffers(), strict=True):
            average.copy_(live)

    def hand_over(self, detector: Detector, names: Iterable[str]) -> None:
        """Give `detector` the averaged weights of the sub-networks `names`: what later stages build on is what
        scores."""
        for name in names:
            getattr(detector, name).load_state_dict(getattr(self.shadow, name).state_dict())
