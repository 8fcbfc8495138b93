"""The running statistics of networks, which scoring uses in place of a batch's own."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
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


@contextmanager
def settling(network: nn.Module, names: Collection[str]) -> Iterator[Callable[[int], None]]:
    """Inside, the sub-networks `names` are in training mode and forget their running statistics for those of the passes
    that follow; what else they keep (spectral norms, running means) is as before in the end, and they are in eval mode
    and frozen again. Call what is yielded with the number of the batch, from 0, before its passes.
    """
    parts = [getattr(network, name) for name in names]
    layers: list[Any] = [
        layer for part in parts for layer in part.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    momenta = [layer.momentum for layer in layers]
    settled = {id(buffer) for layer in layers for buffer in layer.buffers()}
    kept = [(buffer, buffer.clone()) for buffer in network.buffers() if id(buffer) not in settled]

    def number(k: int) -> None:
        # Batch k counts k-fold: all but the first count, and about alike in the end.
        for layer in layers:
            layer.momentum = 1 / (k + 1)

    try:
        for part in parts:
            part.train()
        yield number
    finally:
        network.eval().requires_grad_(False)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
