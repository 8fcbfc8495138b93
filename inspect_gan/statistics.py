"""The running statistics of networks, which scoring uses in place of a batch's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def statistics_kept(*networks: nn.Module) -> Iterator[None]:
    """Passes inside leave the running statistics alone: what they see must not enter the scores."""
    layers: list[Any] = [layer for network in networks for layer in network.modules() if hasattr(layer, "momentum")]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
