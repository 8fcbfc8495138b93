"""Combining scores of different scale."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """Scores added up after each was standardised by its mean and deviation on held-out normal patches.

    text: the formula in words. parts: a weight and view -> (B,) or a per-pixel map (B, 1, S, S), for each.
    """

    text: str
    parts: tuple[tuple[float, Callable[[Any], Tensor]], ...]

    def spreads(self, view: Any) -> Tensor:
        """What `compute` standardises with, fitted to normal patches: (parts, 2) float32."""
        return torch.stack([spread(compute(view)) for _, compute in self.parts])

    def compute(self, view: Any, spreads: Tensor) -> Tensor:
        """Sum of the standardised parts, (B, 1, S, S) where one of them is a map, else (B,)."""
        parts = [
            weight * (compute(view).float() - mean) * reciprocal
            for (weight, compute), (mean, reciprocal) in zip(self.parts, spreads, strict=True)
        ]
        dims = max(part.dim() for part in parts)
        return sum((part.view(-1, *[1] * (dims - 1)) if part.dim() < dims else part for part in parts), torch.zeros(()))


def spread(values: Tensor) -> Tensor:
    """Mean and reciprocal standard deviation of a score on normal material, (2,) float32.

    The reciprocal is 0 where the values differ by rounding only: what does not vary says nothing, and must not be
    blown up to noise.
    """
    values = values.double()
    deviation = values.std(correction=0)
    varies = deviation > 1e-6 * values.abs().max()
    return torch.stack([values.mean(), torch.where(varies, 1 / deviation, 0.0)]).float()


def column_spreads(values: Tensor) -> Tensor:
    """`spread` of each column of (N, n): (n, 2)."""
    return torch.stack([spread(column) for column in values.unbind(1)])


def standardised_square(values: Tensor, spreads: Tensor) -> Tensor:
    """Mean square of values (B, n) in units of their spreads (n, 2): (B,) float32."""
    return ((values.float() - spreads[:, 0]) * spreads[:, 1]).square().mean(1)
