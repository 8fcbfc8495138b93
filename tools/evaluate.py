"""Measure a run against ground-truth masks."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    images: Annotated[Path, typer.Option(help="Test images: a folder, or a data set that knows its masks.")],
    out: Annotated[Path, typer.Option(help="Where metrics and figures go.")],
    masks: Annotated[Path | None, typer.Option(help="Ground-truth masks, paired by name.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Patch step in px (default: the run's).")] = None,
) -> None:
    """Pixel and patch AUROC and AP of every score, beside baselines that learn nothing; per-defect coverage."""
    from rich.console import Console

    from inspect_gan.datasets import open_dataset, pair_masks
    from inspect_gan.inspector import Inspector

    console = Console(highlight=False, soft_wrap=True, markup=False)
    samples = open_dataset(images).test if masks is None else pair_masks(images, masks)
    Inspector.load(run).evaluate(samples, out, stride=stride, progress=console.print)
    console.print((out / "metrics.md").read_text(encoding="utf-8"))
    console.print(f"metrics: {out / 'metrics.json'}, {out / 'metrics.png'}")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["evaluate", *sys.argv[1:]])
