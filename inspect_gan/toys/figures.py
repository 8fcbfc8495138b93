"""The figures of the toy experiments, as PNG."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from inspect_gan.toys import gaussian, penalty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 80
LEVELS = [level / 20 for level in range(21)]  # of the discriminator's output; 20 colours make small files
SHOWN = 150  # points drawn of each kind
VARIANT_TITLES = {"none": "no penalty", "discriminator": "penalty, D only", "eq4": "penalty, D and E (eq. 4)"}
VARIANT_COLOURS = {"none": "tab:orange", "discriminator": "tab:blue", "eq4": "tab:green"}


def penalty_figure(results: Mapping[str, penalty.Trained]) -> bytes:
    """D_xz(x, E(x)) of the first replica over the plane; for all replicas, during training, its mean on the background
    inside t over that on real points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.2), layout="constrained")
    axes = figure.subplots(len(penalty.SHAPES), len(results) + 1)
    real, limit = penalty.real_points(), penalty.LIMIT
    ticks = torch.linspace(-limit, limit, penalty.GRID)
    for row, shape in enumerate(penalty.SHAPES):
        for column, (variant, trained) in enumerate(results.items()):
            axis = axes[row, column]
            output = trained.grid[0, row, 0].unflatten(0, (penalty.GRID, penalty.GRID))
            image = axis.contourf(ticks, ticks, output, levels=LEVELS)
            axis.plot(*real[row, :SHOWN].T, ".", color="white", markersize=1.5)
            axis.plot(*trained.generated[row, 0, :SHOWN].T, ".", color="red", markersize=1.5)
            axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=(-2, 0, 2), yticks=(-2, 0, 2))
            axis.set(title=VARIANT_TITLES[variant] if row == 0 else None)
            axis.set(xlabel="$x_1$" if row == len(axes) - 1 else None)
            axis.set(ylabel=f"{shape}\n$x_2$" if column == 0 else None)
        _background_curves(axes[row, -1], row, results)
    axes[0, -1].set(title="background / real")
    axes[0, -1].legend(fontsize=7)
    axes[-1, -1].set(xlabel="step")
    bar = figure.colorbar(image, ax=axes[:, :-1], location="bottom", shrink=0.5, aspect=40, ticks=LEVELS[::4])
    bar.set_label("sigmoid of $D_{xz}(x, E(x))$: bright = called real.  White dots: real, red dots: generated.")
    return _png(figure)


def _background_curves(axis: "Axes", row: int, results: Mapping[str, penalty.Trained]) -> None:
    for variant, trained in results.items():
        lines = axis.plot(trained.step, trained.history[:, row], color=VARIANT_COLOURS[variant], linewidth=1)
        lines[0].set_label(VARIANT_TITLES[variant])
    axis.set(ylim=(0, 1.1))
    axis.grid(alpha=0.3)


def objectives_figure(results: Mapping[str, gaussian.Curves]) -> bytes:
    """For every objective: the push on a generated sample, -dL_G/du over D's raw output u; the generator's loss; mean
    and standard deviation of what it makes. A colour for each replica, grey lines at the real values."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.4 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 3, sharex="col")
    outputs = torch.linspace(-5, 5, 101)
    for (push, loss, made), (label, curves) in zip(axes, results.items(), strict=True):
        push.plot(outputs, gaussian.push(label, outputs), color="black", linewidth=1)
        push.axhline(0, color="grey", linewidth=0.6)
        push.set_ylabel(label.replace(", ", "\n"), fontsize=9)
        loss.plot(curves.step, curves.loss, linewidth=0.7)
        made.plot(curves.step, curves.mean, linewidth=1)
        made.set_prop_cycle(None)
        made.plot(curves.step, curves.std, linewidth=1, linestyle=":")
        for value in (gaussian.MEAN, gaussian.STD):
            made.axhline(value, color="grey", linewidth=0.6)
    titles = ("push on a generated sample", "generator loss", "G(z): mean, deviation (dotted)")
    for column, (title, label) in enumerate(zip(titles, ("raw output of D", "step", "step"), strict=True)):
        axes[0, column].set(title=title)
        axes[-1, column].set(xlabel=label)
    return _png(figure)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    return buffer.getvalue()
