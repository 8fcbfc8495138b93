"""The whole path on images made on the spot."""

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

# That of the recipe, and two residuals to compare with.
SCORES = ["doubt", "res_ssim", "res_l1"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, run, maps and figures.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Training time.")] = 1.25,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Draw nanofibre images, train the default recipe on the good ones, map all others and measure."""
    from inspect_gan.config import DEFAULT_RECIPE, load_config
    from inspect_gan.console import PlainConsole
    from inspect_gan.datasets import open_dataset
    from inspect_gan.datasets.nanofibres import write_dataset
    from inspect_gan.errors import InspectGanError
    from inspect_gan.inspection import inspect_images
    from inspect_gan.inspector import Inspector
    from inspect_gan.training.fit import fit_run, source_of

    started = time.monotonic()
    console = PlainConsole()
    mark = out / ".inspect-gan-demo"
    if out.exists() and any(out.iterdir()) and not mark.is_file():
        raise InspectGanError(f"{out} is not empty and no earlier demo: choose another --out")
    for made in ("data", "run", "maps", "metrics"):
        shutil.rmtree(out / made, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    mark.touch()

    console.print(f"1/4 drawing nanofibres (seed {seed}): {out / 'data'}")
    write_dataset(out / "data", seed=seed)
    dataset = open_dataset(out / "data")
    console.print(f"2/4 training for {minutes:g} minutes: {out / 'run'}")
    settings = load_config(DEFAULT_RECIPE, [f"training.minutes={minutes}", f"seed={seed}"])
    fit_run(
        [source_of(sample.image, settings.data) for sample in dataset.train], settings, out / "run", console=console
    )
    inspector = Inspector.load(out / "run")
    console.print(f"3/4 mapping {len(dataset.test)} images: {out / 'maps'}")
    inspect_images(inspector, [sample.image for sample in dataset.test], out / "maps", progress=console.print)
    console.print("4/4 measuring against the masks")
    inspector.evaluate(dataset.test, out / "metrics", scores=SCORES)
    console.print((out / "metrics" / "metrics.md").read_text(encoding="utf-8"))
    console.print(f"heatmaps: {out / 'maps' / 'overlays'}\nreport: {out / 'maps' / 'report.html'}")
    console.print(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["demo", *sys.argv[1:]])
