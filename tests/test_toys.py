"""The toy experiments: networks side by side, the game on the line, the penalty in the plane, the command."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from inspect_gan.objectives import Optimizer, objectives
from inspect_gan.tools.cli import main
from inspect_gan.toys import FIGURES, NUMBERS, gaussian, penalty
from inspect_gan.toys.side_by_side import REPLICAS, Critics, Perceptrons, make_optimizer, seeded, spread

# Networks side by side.


def test_each_perceptron_sees_its_own_rows_through_its_own_weights() -> None:
    perceptrons = Perceptrons(2, 3, 2)
    x = torch.randn(10, 3)
    for number, rows in enumerate((slice(0, 5), slice(5, 10))):
        layers = [
            (weight[number], bias[number]) for weight, bias in zip(perceptrons.weights, perceptrons.biases, strict=True)
        ]
        hidden = x[rows]
        for weight, bias in layers[:-1]:
            hidden = nn.functional.leaky_relu(hidden @ weight + bias, 0.2)
        torch.testing.assert_close(perceptrons(x)[rows], hidden @ layers[-1][0] + layers[-1][1])


def test_critics_read_pairs_and_give_one_number_each() -> None:
    critics = Critics(2, 5)
    x, z = torch.randn(8, 3), torch.randn(8, 2)
    assert critics(x, z).shape == (8,)
    torch.testing.assert_close(critics(x, z), critics(torch.cat([x, z], dim=1)))


@pytest.mark.parametrize("kind", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_perceptron_learns_the_same_alone_and_in_company(kind: str) -> None:
    company, alone = Critics(3, 1), Critics(1, 1)
    for together, own in zip(company.parameters(), alone.parameters(), strict=True):
        own.data.copy_(together.data[1:2])
    before = [own.detach().clone() for own in alone.parameters()]
    x = torch.randn(3, 16, 1)
    optimizer = Optimizer(kind, 1e-2)  # type: ignore[arg-type]
    in_company, by_itself = (make_optimizer(optimizer, [critics]) for critics in (company, alone))
    for _ in range(5):
        in_company((company(x.flatten(0, 1)) - 1).square().mean())
        by_itself((alone(x[1]) - 1).square().mean())
    for together, own, start in zip(company.parameters(), alone.parameters(), before, strict=True):
        torch.testing.assert_close(together[1:2], own, atol=1e-5, rtol=0)
        assert (own - start).abs().max() > 1e-3


def test_a_seed_leaves_the_random_numbers_outside_alone() -> None:
    state = torch.random.get_rng_state()
    with seeded(3):
        first = torch.rand(4)
    with seeded(3):
        assert torch.equal(torch.rand(4), first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_spread() -> None:
    assert spread(torch.tensor([1.0, 2.0, 3.0])) == {"mean": 2.0, "std": 1.0, "replicas": [1.0, 2.0, 3.0]}


# On the line.


def test_every_objective_on_outputs_takes_part() -> None:
    names = {name for name in objectives.names() if objectives.get(name).kind != "energy"}
    assert {name for name, _ in gaussian.RIVALS.values()} == names


def test_objectives_bring_their_own_optimiser() -> None:
    for role in ("generator", "discriminator"):
        assert gaussian.optimizer_of(gaussian.make_rival("wgan"), role).kind == "rmsprop"
        assert gaussian.optimizer_of(gaussian.make_rival("minimax"), role) == Optimizer("adam", 2e-4, (0.5, 0.999))


@pytest.mark.parametrize(
    ("label", "at_minus_six", "at_zero"),
    [
        ("minimax", 0.002473, 0.5),
        ("nonsaturating", 0.997527, 0.5),
        ("lsgan", 7.0, 1.0),
        ("wgan", 1.0, 1.0),
        ("hinge", 1.0, 1.0),
        ("mim", 0.002473, math.exp(0.5) / 4),
        ("mim, generator=heuristic", 0.006690, math.exp(0.5) / 4),
        ("mim, output=raw", math.exp(-6), 1.0),
    ],
)
def test_push_is_the_closed_form(label: str, at_minus_six: float, at_zero: float) -> None:
    assert gaussian.push(label, torch.tensor([-6.0, 0.0])).tolist() == pytest.approx([at_minus_six, at_zero], rel=1e-3)


def test_nonsaturating_moves_the_generated_mean_towards_the_real_one() -> None:
    curves = gaussian.train_rival("nonsaturating", seed=0, steps=120)
    error = (curves.mean - gaussian.MEAN).abs()
    assert (error[0] > 3).all()
    assert (error[-1] < 0.6 * error[0]).all()
    assert (curves.std[-1] > 2 * curves.std[0]).all()


def test_the_line_follows_from_the_seed() -> None:
    first, again, other = (gaussian.train_rival("wgan_gp", seed, 4) for seed in (1, 1, 2))
    for name in ("step", "loss", "mean", "std"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.loss, other.loss)
    assert first.loss.shape == first.mean.shape == first.std.shape == (4, REPLICAS)


def test_records_are_thinned_and_losses_between_them_averaged() -> None:
    thin = gaussian.train_rival("lsgan", 0, gaussian.RECORDS + 2)
    assert thin.step.tolist() == list(range(2, gaussian.RECORDS + 3, 2))
    full = gaussian.train_rival("lsgan", 0, 20)
    torch.testing.assert_close(thin.loss[:10], full.loss.unflatten(0, (10, 2)).mean(1))
    torch.testing.assert_close(thin.mean[:10], full.mean[1::2])


def test_errors_are_those_of_the_last_tenth() -> None:
    values = torch.full((20, REPLICAS), 100.0)
    values[-2], values[-1] = gaussian.MEAN - 1, gaussian.MEAN + 3
    curves = gaussian.Curves(torch.arange(20), values, values, values - gaussian.MEAN + gaussian.STD)
    summary = gaussian.summary(curves)
    assert summary["mean_error"] == {"mean": 2.0, "std": 0.0, "replicas": [2.0] * REPLICAS}
    assert summary["std_error"] == summary["mean_error"]


# In the plane.


def test_shapes() -> None:
    with seeded(0):
        loop, arc, dots = (draw(2000) for draw in penalty.SHAPES.values())
    assert loop.shape == arc.shape == dots.shape == (2000, 2)
    assert (loop.norm(dim=1) - 1.8).abs().max() < 0.6
    assert loop.mean(0).abs().max() < 0.15
    assert arc[:, 1].min() > -1.4 and arc[:, 0].std() > 1
    corners = dots.sign()
    assert (dots - 1.5 * corners).norm(dim=1).max() < 0.8
    assert all((corners == torch.tensor(corner)).all(1).float().mean() > 0.2 for corner in ((1, 1), (1, -1), (-1, 1)))


def test_background_is_far_from_data_on_both_sides_of_the_edge_of_t() -> None:
    inside, beyond = penalty.background()
    points = penalty.grid_points()
    assert not (inside & beyond).any()
    for row in range(len(penalty.SHAPES)):
        for places in (inside[row], beyond[row]):
            assert torch.cdist(points[places], penalty.real_points()[row]).min() > penalty.FAR
        assert points[inside[row]].norm(dim=1).max() < 2.448 < points[beyond[row]].norm(dim=1).min()
    centre = points.norm(dim=1).argmin()
    assert inside[[0, 2], centre].all()


def test_the_penalty_darkens_the_background_inside_its_distribution() -> None:
    faster = {"lr_g": 3e-3, "lr_d": 3e-3}
    without, penalised = (
        penalty.train_variant(penalty.VARIANTS[name] | faster, seed=0, steps=80) for name in ("none", "discriminator")
    )
    gap = without.history[-1] - penalised.history[-1]
    assert gap.shape == (len(penalty.SHAPES), REPLICAS)
    assert gap.min() > 0
    assert gap.mean() > 0.1


def test_the_plane_follows_from_the_seed() -> None:
    first, again, other = (penalty.train_variant(penalty.VARIANTS["eq4"], seed, 2) for seed in (1, 1, 2))
    for name in ("step", "history", "grid", "real", "generated"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.grid, other.grid)


# The command.


def test_command_writes_figures_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toys"
    with pytest.raises(SystemExit) as stop:
        main(["toys", "--out", str(out), "--seed", "5", "--steps", "1"])
    assert stop.value.code in (0, None)
    assert str(out / NUMBERS) in capsys.readouterr().out
    for name in FIGURES:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
    assert (numbers["seed"], numbers["steps"]) == (5, 1)
    assert set(numbers["penalty"]) == set(penalty.VARIANTS)
    assert set(numbers["objectives"]) == set(gaussian.RIVALS)
    for shapes in numbers["penalty"].values():
        assert set(shapes) == set(penalty.SHAPES)
        for shape in shapes.values():
            assert set(shape) == {"D_xz", "D_xx", "generated_to_real", "real_to_generated"}
            for critic in ("D_xz", "D_xx"):
                assert set(shape[critic]) == {"real", "inside", "beyond", "inside_to_real"}
                assert all(0 < value < 1 for value in shape[critic]["inside"]["replicas"])
    for errors in numbers["objectives"].values():
        assert set(errors) == {"mean_error", "std_error"}
        assert all(len(entry["replicas"]) == REPLICAS for entry in errors.values())
