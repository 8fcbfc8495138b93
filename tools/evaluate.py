"""Measure a run against ground-truth masks."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    images: Annotated[Path, typer.Option(help="Test images: a folder, or a data set that knows its masks.")],
    out: Annotated[Path, typer.Option(help="Where metrics and figures go.")],
    run: Annotated[Path | None, typer.Argument(help="Run directory.")] = None,
    maps: Annotated[
        Path | None, typer.Option(help="In place of a run: maps of another tool, NAME.tiff or NAME.npy per image.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Ground-truth masks, paired by name.")] = None,
    layout: Annotated[str, typer.Option(help="How the data set lies, see `list datasets`.")] = "auto",
    stride: Annotated[int | None, typer.Option(min=1, help="Patch step in px (default: the run's).")] = None,
    score: Annotated[
        list[str] | None, typer.Option(help="Measure only this score (repeatable); the first replaces the run's.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="No bins: memory grows with the number of pixels.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Keep every score's maps and patch scores, with labels.")] = False,
) -> None:
    """Pixel, patch and image metrics of every score, beside baselines that learn nothing; per-defect coverage."""
    from inspect_gan.console import PlainConsole
    from inspect_gan.datasets import open_dataset, pair_masks
    from inspect_gan.evaluation.external import evaluate_maps
    from inspect_gan.inspector import Inspector

    console = PlainConsole()
    if masks is not None and layout != "auto":
        raise typer.BadParameter("--masks pairs by name whatever lies below --images and does not go with --layout")
    samples = open_dataset(images, layout).test if masks is None else pair_masks(images, masks)
    if maps is not None:
        given = {"a run": run, "--stride": stride, "--score": score, "--exact": exact, "--raw": raw}
        if unfit := [what for what, value in given.items() if value]:
            raise typer.BadParameter(f"--maps is measured as it is and does not go with {', '.join(unfit)}")
        evaluate_maps(maps, samples, out, console.print)
        console.print((out / "metrics.md").read_text(encoding="utf-8"))
        return
    if run is None:
        raise typer.BadParameter("give a run directory, or a folder of maps with --maps")
    inspector = Inspector.load(run)
    inspector.evaluate(samples, out, stride=stride, scores=score, exact=exact, raw=raw, progress=console.print)
    console.print((out / "metrics.md").read_text(encoding="utf-8"))
    console.print(f"metrics: {out / 'metrics.json'}, figures: {out / 'figures'}")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["evaluate", *sys.argv[1:]])
