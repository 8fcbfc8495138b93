"""Train a detector on a folder of good images."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    data: Annotated[Path, typer.Option(help="Good images: a folder, a data-set folder or a list file.")],
    out: Annotated[Path | None, typer.Option(help="Run directory to make.")] = None,
    config: Annotated[str | None, typer.Option(help="YAML file or the name of a packaged one.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Total training time.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Total training iterations.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    check_data: Annotated[
        bool, typer.Option("--check-data", help="Only show what --data holds; exit 2 on any mismatch.")
    ] = False,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...")] = None,
) -> None:
    """Train a detector on good images and calibrate it on a held-out part of them."""
    from inspect_gan.hardware import keep_threads_apart

    keep_threads_apart()  # before torch is imported by what follows

    from inspect_gan.base_inspector import size_of
    from inspect_gan.config import DEFAULT_RECIPE, load_config
    from inspect_gan.console import PlainConsole
    from inspect_gan.datasets import check_dataset, open_dataset
    from inspect_gan.errors import InspectGanError
    from inspect_gan.training.division import default_config

    if minutes is not None and steps is not None:
        raise typer.BadParameter("give --minutes or --steps, not both")
    console = PlainConsole()
    changes = list(overrides or [])
    # A budget takes the place of the configuration's, whichever that is; overrides that name another one are refused.
    if minutes is not None:
        changes = ["training.steps=null", *changes, f"training.minutes={minutes}"]
    if steps is not None:
        changes = ["training.minutes=null", *changes, f"training.steps={steps}"]
    if resume and config is None and out is not None and not (out / "config.yaml").is_file():
        raise InspectGanError(f"{out} holds no run to go on with: train without --resume")
    source = config or (DEFAULT_RECIPE if not resume or out is None else str(out / "config.yaml"))
    settings = load_config(source, changes)
    dataset = open_dataset(data, settings.data.layout)
    if check_data:
        report = check_dataset(dataset, settings.data.page)
        console.print(report.text(), markup=False)
        if report.problems:
            raise typer.Exit(2)
    if source == DEFAULT_RECIPE and config is None:
        sizes = [size_of(sample.image, settings.data.page, settings.data.info_bar) for sample in dataset.train]
        chosen, settings = default_config(sizes, changes)
        if chosen != source:
            console.print(f"too few or too small images for {source}: training the plain configuration {chosen}")
    if check_data:
        raise typer.Exit
    if out is None:
        raise InspectGanError("--out is missing: name the run directory to make, e.g. --out runs/first")

    from inspect_gan.inspector import Inspector
    from inspect_gan.training.fit import fit_run, source_of
    from inspect_gan.training.loop import Interrupted

    try:
        fit_run(
            [source_of(sample.image, settings.data) for sample in dataset.train],
            settings,
            out,
            resume=resume,
            console=console,
        )
    except Interrupted:
        console.print(f"stopped; go on with: inspect-gan train --data {data} --out {out} --resume")
        raise typer.Exit(130) from None
    calibration = Inspector.load(out).calibration()
    low, high = calibration.interval
    console.print(
        f"threshold of {calibration.score}: {calibration.threshold:.4g}, for {calibration.target_fpr:.2%} of good "
        f"pixels flagged (95 % interval {low:.2%} to {high:.2%}, {calibration.samples} held-out normal patches)\n"
        f"run: {out}\nnext: inspect-gan defect_map {out} IMAGES --out maps"
    )


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["train", *sys.argv[1:]])
