"""What RCGAN's penalty distribution does to a discriminator, in the plane.

The experiment of Yang, Bozchalooi & Darve, "Regularized Cycle Consistent Generative Adversarial Network for Anomaly
Detection" (ECAI 2020), section 5.1 and fig. 3: normal data on a loop, an arc and four dots, discriminators trained with
and without penalty samples t = N(0, I), their outputs over [-3, 3]². The detector `rcgan` is trained as it is, with its
own losses and optimisers; only its networks are exchanged for perceptrons on points.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inspect_gan.detector import Batch
from inspect_gan.objectives import objectives
from inspect_gan.toys.exchange import bare_detector, iterate, optimize_phases
from inspect_gan.toys.side_by_side import REPLICAS, Critics, Perceptrons, seeded, spread

BATCH = 64  # points per step and replica
LIMIT = 3.0  # of the plane that is shown, in both directions
GRID = 61  # outputs per direction
POINTS = 1000  # real points per shape, and generated points per replica, that results refer to
FAR = 0.5  # distance from the nearest real point from which on a place is background
INSIDE = math.sqrt(-2 * math.log(0.05))  # radius that holds 95 % of t = N(0, I)
RECORDS = 20  # of the background during training, at most


def loop(n: int) -> Tensor:
    """n points around a circle of radius 1.8, (n, 2)."""
    return _around(2 * math.pi * torch.rand(n))


def arc(n: int) -> Tensor:
    """n points along the upper half of such a circle, lowered by half its radius, (n, 2)."""
    return _around(math.pi * torch.rand(n)) - torch.tensor([0.0, 0.9])


def dots(n: int) -> Tensor:
    """n points in four clusters at (±1.5, ±1.5), (n, 2)."""
    return 3.0 * torch.randint(0, 2, (n, 2)) - 1.5 + 0.15 * torch.randn(n, 2)


def _around(angle: Tensor) -> Tensor:
    return 1.8 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.1 * torch.randn(len(angle), 2)


SHAPES: dict[str, Callable[[int], Tensor]] = {"loop": loop, "arc": arc, "four dots": dots}
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"penalty": "none"},
    "discriminator": {"penalty": "normal", "penalty_to_encoder": False},
    "eq4": {"penalty": "normal", "penalty_to_encoder": True},
}


@dataclass(frozen=True)
class Trained:
    """One variant. Axes: shape (in the order of `SHAPES`), replica; "D": D_xz(x, E(x)) and D_xx(x, G(E(x))), sigmoids.

    step: (N,); history: (N, 3, REPLICAS), D_xz during training, its mean on the background inside t over that on real
    points. (Not the mean itself: to a D that cannot tell, penalty samples make real ones one third instead of half.)
    grid: (D, 3, REPLICAS, GRID²) at `grid_points()`; real: (D, 3, REPLICAS, POINTS) at `real_points()`.
    generated: (3, REPLICAS, POINTS, 2).
    """

    step: Tensor
    history: Tensor
    grid: Tensor
    real: Tensor
    generated: Tensor


def train_variant(settings: Mapping[str, Any], seed: int, steps: int) -> Trained:
    """Train RCGAN with these settings on all shapes. With one seed every variant starts from the same weights."""
    inside, _ = background()
    places, real = grid_points().expand(len(SHAPES), -1, 2), real_points()
    with seeded(seed):
        detector = _in_the_plane(settings)
        phases = optimize_phases(detector)
        step_of_record, history, every = [], [], math.ceil(steps / RECORDS)
        for step in range(1, steps + 1):
            iterate(detector, phases, _batch)
            if step % every == 0:
                step_of_record.append(step)
                on_places, on_real = (_output_xz(detector, points) for points in (places, real))
                history.append(_mean_over(inside, on_places) / on_real.mean(-1))
        return Trained(
            torch.tensor(step_of_record),
            torch.stack(history),
            _outputs(detector, places),
            _outputs(detector, real),
            _generated(detector),
        )


def _batch() -> Batch:
    return Batch(torch.cat([draw(BATCH) for draw in SHAPES.values() for _ in range(REPLICAS)]))


def _in_the_plane(settings: Mapping[str, Any]) -> Any:
    """RCGAN with x and z in R², a set of networks for each shape and replica."""
    detector = bare_detector("rcgan", {"nz": 2, **settings}, objectives.get("nonsaturating")())
    count = len(SHAPES) * REPLICAS
    detector.generator, detector.encoder = Perceptrons(count, 2, 2), Perceptrons(count, 2, 2)
    detector.discriminator_xz, detector.discriminator_xx = Critics(count, 4), Critics(count, 4)
    return detector


@torch.no_grad()
def _output_xz(detector: Any, points: Tensor) -> Tensor:
    """D_xz at the same points (3, N, 2) for every replica: (3, REPLICAS, N)."""
    x = _for_replicas(points)
    return _apart(torch.sigmoid(detector.discriminator_xz(x, detector.encoder(x))))


@torch.no_grad()
def _output_xx(detector: Any, points: Tensor) -> Tensor:
    """D_xx at the same points (3, N, 2) for every replica: (3, REPLICAS, N)."""
    x = _for_replicas(points)
    return _apart(torch.sigmoid(detector.discriminator_xx(x, detector.reconstruct(x))))


def _outputs(detector: Any, points: Tensor) -> Tensor:
    return torch.stack([_output_xz(detector, points), _output_xx(detector, points)])


def _for_replicas(points: Tensor) -> Tensor:
    return points.repeat_interleave(REPLICAS, dim=0).flatten(0, 1)


def _apart(values: Tensor) -> Tensor:
    """(3 · REPLICAS · N, ...) -> (3, REPLICAS, N, ...)."""
    return values.unflatten(0, (len(SHAPES), REPLICAS, -1))


@torch.no_grad()
def _generated(detector: Any) -> Tensor:
    return _apart(detector.generate(len(SHAPES) * REPLICAS * POINTS))


def _mean_over(places: Tensor, values: Tensor) -> Tensor:
    """Mean of values (..., 3, REPLICAS, N) over the places (3, N) of their shape: (..., 3, REPLICAS)."""
    weight = places[:, None].float()
    return (values * weight).sum(-1) / weight.sum(-1)


def grid_points() -> Tensor:
    """The points at which outputs are shown, (GRID², 2), row by row from the bottom left."""
    axis = torch.linspace(-LIMIT, LIMIT, GRID)
    return torch.cartesian_prod(axis, axis).flip(1)


def real_points() -> Tensor:
    """The same points of each shape in every run, (3, POINTS, 2)."""
    with seeded(0):
        return torch.stack([draw(POINTS) for draw in SHAPES.values()])


def background() -> tuple[Tensor, Tensor]:
    """Which points of the grid are far from all real ones: inside the bulk of t, and beyond it. Two of (3, GRID²)."""
    points = grid_points()
    far = torch.cdist(points.expand(len(SHAPES), -1, 2), real_points()).amin(2) > FAR
    inside = points.norm(dim=1) < INSIDE
    return far & inside, far & ~inside


def summary(trained: Trained) -> dict[str, dict[str, Any]]:
    """By shape: mean output of both discriminators on real points and on the background inside and beyond t; mean
    distance from generated points to the nearest real one and from real points to the nearest generated one."""
    inside, beyond = background()
    on_real, on_inside, on_beyond = trained.real.mean(-1), *(_mean_over(r, trained.grid) for r in (inside, beyond))
    distance = torch.cdist(trained.generated, real_points()[:, None])
    return {
        shape: {
            **{
                name: {
                    "real": spread(on_real[k, row]),
                    "inside": spread(on_inside[k, row]),
                    "beyond": spread(on_beyond[k, row]),
                    "inside_to_real": spread(on_inside[k, row] / on_real[k, row]),
                }
                for k, name in enumerate(("D_xz", "D_xx"))
            },
            "generated_to_real": spread(distance[row].amin(2).mean(1)),
            "real_to_generated": spread(distance[row].amin(1).mean(1)),
        }
        for row, shape in enumerate(SHAPES)
    }
